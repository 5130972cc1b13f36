"""A Switch model that generates text with its experts offloaded, and decides as it goes.

Experts stay at home in host memory (pinned for a GPU). An arena of slots on the device serves both phases in turn: the
encoder's pass, then the decoder's steps, which begin with empty slots. Whenever a router has chosen, the policy is
asked (`specmoe.sim.stream`), and its loads and uses are executed in their order. The code of an expert is the model's
own, given the weights in a slot, so that the text is the resident model's.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

from specmoe.errors import InputError
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable, Use
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.sim.stream import Decided, Stream
from specmoe.traces.collect_model import Checkpoint
from specmoe.traces.collect_run import Recorder
from specmoe.traces.schema import Block, Phase, TraceMeta, join
from specmoe.validate.slots import Arena

PHASES: tuple[Phase, ...] = ("encode", "decode")
CANDIDATES = 8


class Link(Protocol):
    """Copies into slots, in the order in which they are issued, beside the compute stream."""

    def copy(self, slot: int, target: Tensor, source: Tensor) -> None:
        """Issue a copy into a slot; it begins once the last reader of the slot has ended."""

    def wait(self, slot: int) -> None:
        """Let what is launched next wait until the slot's copy has landed."""

    def read(self, slot: int) -> None:
        """Take note that everything launched so far may read the slot."""


class HostLink:
    """Copies in host memory, each done when its call returns."""

    def copy(self, slot: int, target: Tensor, source: Tensor) -> None:
        """Copy at once."""
        target.copy_(source)

    def wait(self, slot: int) -> None:
        """It has landed."""

    def read(self, slot: int) -> None:
        """Readers have ended when they return."""


class CudaLink:
    """Copies on a stream of their own."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._landed: dict[int, torch.cuda.Event] = {}
        self._read: dict[int, torch.cuda.Event] = {}

    def copy(self, slot: int, target: Tensor, source: Tensor) -> None:
        """Issue it behind the slot's last reader."""
        if slot in self._read:
            self._stream.wait_event(self._read[slot])
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
            self._landed[slot] = self._stream.record_event()

    def wait(self, slot: int) -> None:
        """The compute stream waits, not the host."""
        torch.cuda.current_stream().wait_event(self._landed[slot])

    def read(self, slot: int) -> None:
        """Record where the compute stream stands."""
        self._read[slot] = torch.cuda.current_stream().record_event()


class Home:
    """Experts of one phase in host memory, by key, and one module without weights that computes any of them."""

    def __init__(self, experts: Sequence[Module], pinned: bool) -> None:
        self.code = experts[0]
        parameters = list(self.code.named_parameters())
        self.dtype = parameters[0][1].dtype
        self._shapes = [(name, weight.shape, weight.numel()) for name, weight in parameters]
        size = sum(count for _, _, count in self._shapes) * self.dtype.itemsize
        self._bytes = torch.empty((len(experts), size), dtype=torch.uint8, pin_memory=pinned)
        for row, expert in zip(self._bytes, experts, strict=True):
            row.copy_(torch.cat([weight.detach().reshape(-1) for weight in expert.parameters()]).view(torch.uint8))
        self.code.to("meta")

    @property
    def size(self) -> int:
        """Bytes of an expert."""
        return int(self._bytes.shape[1])

    def __getitem__(self, key: int) -> Tensor:
        """Bytes of an expert."""
        return self._bytes[key]

    def run(self, weights: Tensor, hidden: Tensor) -> Tensor:
        """Compute an expert whose weights are these bytes."""
        parts = torch.split_with_sizes(weights.view(self.dtype), [count for _, _, count in self._shapes])
        named = {name: part.view(shape) for part, (name, shape, _) in zip(parts, self._shapes, strict=True)}
        result: Tensor = functional_call(self.code, named, (hidden,))
        return result


class Slots:
    """Slots of the device and the link that fills them."""

    def __init__(self, arena: Arena, link: Link) -> None:
        self.arena, self.link = arena, link

    def load(self, home: Home, key: int, slot: int) -> None:
        """Issue a load."""
        self.link.copy(slot, self.arena.target(slot), home[key])

    def run(self, home: Home, slot: int, hidden: Tensor) -> Tensor:
        """Launch the expert in a slot."""
        self.link.wait(slot)
        result = home.run(self.arena[slot], hidden)
        self.link.read(slot)
        return result


class Heard(Recorder):
    """A recorder that can be asked in the middle of a pass."""

    def so_far(self, meta: TraceMeta, position: int, ids: Tensor) -> Block:
        """Rows of the pass, with -1 for layers that have not routed yet."""
        count, layers = ids.numel(), meta.num_layers
        experts = np.full((count, layers, meta.candidates), -1, np.int16)
        probs = np.full(experts.shape, np.nan, np.float16)
        ahead = np.full((count, *meta.shapes["lookahead"]), -1, np.int16)
        for layer, (chosen, weights) in enumerate(zip(self._experts, self._probs, strict=True)):
            experts[:, layer], probs[:, layer] = chosen.cpu().numpy(), weights.cpu().numpy()
            for depth, foreseen in enumerate(self._lookahead[layer]):
                ahead[:, layer, depth] = foreseen.cpu().numpy()
        rows = np.arange(count, dtype=np.int32)
        token = ids.reshape(-1).cpu().numpy().astype(np.int32)
        return Block(np.zeros_like(rows), position + rows, np.zeros(count, np.int16), token, experts, probs, ahead)

    def forget(self) -> None:
        """Begin a new pass."""
        for heard in (self._experts, self._probs, self._lookahead):
            heard.clear()


class PhaseRuntime:
    """Serves the experts of one phase from slots."""

    def __init__(self, checkpoint: Checkpoint, phase: Phase, policy: Policy, slots: int) -> None:
        layers = checkpoint.adapter.layers(checkpoint.model, phase)
        self.meta = _meta(checkpoint, phase, len(layers), layers[0].router)
        depth = policy.prefetch.depth if policy.prefetch else 1
        predictor = make_predictor(policy.predictor, {"depth": depth, **policy.predictor_parameters})
        self.stream = Stream(self.meta, policy, predictor, slots)
        self.heard = Heard(checkpoint.adapter, layers, self.meta.candidates)
        blocks = _sparse(checkpoint.model, phase)
        self.home = Home(
            [expert for mlp in blocks for expert in mlp.experts.values()], checkpoint.device.type == "cuda"
        )
        for layer, mlp in enumerate(blocks):
            mlp.experts = Served(self, layer)
        self.slots: Slots | None = None
        self.steps: list[Block] = []
        self._position, self._ids = 0, torch.zeros(0)

    def begin(self, slots: Slots) -> None:
        """Take over the slots, with the experts that are resident from the start."""
        self.slots = slots
        for key, slot in self.stream.resident.items():
            slots.load(self.home, key, slot)

    def step(self, ids: Tensor) -> None:
        """Take note of the ids that the next pass reads."""
        self._position += self._ids.numel()
        self._ids = ids
        self.heard.forget()

    def serve(self, layer: int, hidden: Tensor, selected: Tensor, weights: Tensor) -> Tensor:
        """Decide and execute one event; the result is that of transformers' experts."""
        block = self.heard.so_far(self.meta, self._position, self._ids)
        if layer == self.meta.num_layers - 1:
            self.steps.append(block)
        decided = self.stream.event(block)
        result = torch.zeros_like(hidden)
        waves = 1 + max((use.wave for use in decided.uses), default=0)
        for wave in range(waves):
            self._load(decided, wave, demand=True)
            if wave == waves - 1 and not self.stream.after_launch:
                self._load(decided, wave, demand=False)
            for use in decided.uses:
                if use.wave == wave:
                    self._use(use, hidden, selected, weights, result)
        if self.stream.after_launch:
            self._load(decided, waves - 1, demand=False)
        return result

    def _load(self, decided: Decided, wave: int, demand: bool) -> None:
        assert self.slots is not None
        for load in decided.loads:
            if load.demand == demand and (not demand or load.wave == wave):
                self.slots.load(self.home, load.key, load.slot)

    def _use(self, use: Use, hidden: Tensor, selected: Tensor, weights: Tensor, result: Tensor) -> None:
        assert self.slots is not None
        (rows,) = torch.where(selected[:, 0, use.key % self.meta.num_experts])
        made = self.slots.run(self.home, use.slot, hidden[rows]) * weights[rows]
        result.index_add_(0, rows, made.to(hidden.dtype))


class Served(Module):
    """Stands in a block where its experts were."""

    def __init__(self, runtime: PhaseRuntime, layer: int) -> None:
        super().__init__()
        self._runtime, self._layer = (runtime,), layer  # a tuple: no module of this one

    def forward(self, hidden: Tensor, selected: Tensor, weights: Tensor) -> Tensor:
        """Serve the layer's event."""
        return self._runtime[0].serve(self._layer, hidden, selected, weights)


class Generated(NamedTuple):
    """A text and, by phase, the decisions and the routing that it was generated with."""

    ids: list[int]
    text: str
    tables: dict[Phase, DecisionTable]
    traces: dict[Phase, tuple[TraceMeta, Block]]


def generate_resident(checkpoint: Checkpoint, prompt: str, tokens: int) -> list[int]:
    """Ids of the text that a model generates greedily, as it was loaded."""
    return _greedy(checkpoint, prompt, tokens)


def generate_offloaded(
    checkpoint: Checkpoint, prompt: str, tokens: int, policy: Policy, slots: int, device: str = "cpu"
) -> Generated:
    """Generate greedily with `slots` slots on `device`. The checkpoint, loaded on the CPU, gives its experts up.

    Raises InputError for a policy that cannot be asked online or uses the CPU, and for another class than Switch.
    """
    model, target = checkpoint.model, torch.device(device)
    if model.config.model_type != "switch_transformers":
        raise InputError(
            f"{checkpoint.name}: its class {model.config.model_type} cannot be offloaded yet: Switch expected"
        )
    if policy.uses_cpu:
        raise InputError(
            f"policy {policy.name}: experts on the CPU are not generated with yet: one that loads expected"
        )
    runtimes = {phase: PhaseRuntime(checkpoint, phase, policy, slots) for phase in PHASES}
    model.to(target)
    link: Link = CudaLink() if target.type == "cuda" else HostLink()
    size, count = (
        max(values) for values in zip(*((r.home.size, r.stream.slots) for r in runtimes.values()), strict=True)
    )
    shared = Slots(Arena(count, size, size, target), link)
    with _listening(model, runtimes, shared):
        ids = _greedy(checkpoint, prompt, tokens)
    text = checkpoint.tokenizer.decode(ids, skip_special_tokens=True)
    tables = {phase: runtime.stream.table() for phase, runtime in runtimes.items()}
    return Generated(ids, text, tables, {phase: (r.meta, join(r.steps)) for phase, r in runtimes.items()})


@contextmanager
def _listening(model: Any, runtimes: dict[Phase, PhaseRuntime], slots: Slots) -> Iterator[None]:
    """Runtimes hear what each pass of their phase reads and what its routers choose."""

    def passes(runtime: PhaseRuntime, kwargs: dict[str, Any]) -> None:
        if runtime.slots is None:
            runtime.begin(slots)
        runtime.step(kwargs["input_ids"])

    with ExitStack() as stack:
        for phase, stack_of in zip(PHASES, (model.get_encoder(), model.get_decoder()), strict=True):
            runtime = runtimes[phase]
            stack.enter_context(runtime.heard)
            hook = stack_of.register_forward_pre_hook(
                lambda _, args, kwargs, r=runtime: passes(r, kwargs), with_kwargs=True
            )
            stack.callback(hook.remove)
        yield


def _greedy(checkpoint: Checkpoint, prompt: str, tokens: int) -> list[int]:
    inputs = checkpoint.tokenizer([prompt], return_tensors="pt").to(checkpoint.device)
    with torch.inference_mode():
        ids = checkpoint.model.generate(
            input_ids=inputs.input_ids, max_new_tokens=tokens, do_sample=False, num_beams=1, use_cache=True
        )
    made: list[int] = ids[0].tolist()
    return made


def _sparse(model: Any, phase: Phase) -> list[Any]:
    blocks = model.encoder.block if phase == "encode" else model.decoder.block
    return [block.layer[-1].mlp for block in blocks if hasattr(block.layer[-1].mlp, "router")]


def _meta(checkpoint: Checkpoint, phase: Phase, layers: int, router: Any) -> TraceMeta:
    return TraceMeta(
        phase=phase,
        kind=checkpoint.kind,
        origin="generated",
        model=checkpoint.name,
        num_experts=router.num_experts,
        num_layers=layers,
        top_k=1,
        candidates=min(CANDIDATES, router.num_experts),
        sources=("prompt",),
        corpus="prompt",
    )
