"""A real model that generates text with its experts offloaded, and decides as it goes.

Experts stay at home in host memory. An arena of slots on the device serves both phases in turn, the prompt's pass and
then the decoder's steps, which begin with empty slots. Whenever a router has chosen, a stream of decisions
(`specmoe.sim.stream`) is asked, and its loads and uses are executed in the simulator's order. An expert's results are
added in the order in which transformers adds them, so that the text is the resident model's.
"""

from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter_ns
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from specmoe.errors import InputError
from specmoe.hwprofiles.shape import Format
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.program import launch_order
from specmoe.sim.decide.table import DecisionTable, Use
from specmoe.sim.event_table import Happened
from specmoe.sim.stream import Decided, Plan, Stream, depth_of, source_of
from specmoe.traces.collect_model import Checkpoint
from specmoe.traces.schema import Block, Phase, TraceMeta, join
from specmoe.validate.ears import Ears
from specmoe.validate.experts import CudaLink, Home, HostLink, Link, Mark, Slots
from specmoe.validate.slots import enough_vram
from specmoe.validate.writing import Ask, write

PHASES: tuple[Phase, ...] = ("encode", "decode")
CANDIDATES = 8


class Beside(Protocol):
    """What listens to a run's decode steps, and may load into the slot that no expert uses."""

    def event(self, block: Block, slots: Slots) -> None:
        """Take note of an event: `block` has the rows of its step, with -1 for layers that come later."""


class Marks:
    """Times on the device, of a run that is traced; the device is held for `hold_ns` before each event's experts."""

    def __init__(self, hold_ns: int = 0) -> None:
        self.hold_ns = hold_ns
        self.passes: list[Mark] = []
        self.dense_end: list[Mark] = []  # [events]
        self.goes_on: list[Mark] = []  # [events], behind the experts
        self.uses: dict[int, tuple[Mark, Mark]] = {}  # by row


class PhaseRun:
    """One phase of one generation: executes what a stream or a plan decides, and keeps its host's times."""

    def __init__(self, stack: "Stack", decisions: Stream | Plan, meta: TraceMeta, slots: Slots, marks: Marks | None):
        self.decisions, self.meta, self.marks = decisions, meta, marks
        self.beside: Beside | None = None
        self.passes, self.events = array("q"), array("q")  # ns: begin; entry, routing known, decided, left
        self.issued = array("q")  # ns, of all loads of each event
        self.steps: list[Block] = []
        self._stack, self._slots, self._position, self._uses, self._issued = stack, slots, 0, 0, 0
        for key, slot in decisions.resident.items():
            slots.load(stack.home, key, slot)
        self._copies = len(slots.link.copies or ())

    def happened(self, table: DecisionTable) -> Happened:
        """Times of a traced run's decisions, ns on the host's clock."""
        assert self.marks is not None
        layers, events, times = table.num_layers, table.num_steps * table.num_layers, self._slots.link.times
        entered, known, _, left = np.array(self.events).reshape(-1, 4)[:events].T
        passes, starts = np.array(self.passes)[: table.num_steps], times(self.marks.passes)
        last = np.arange(1, table.num_steps + 1) * layers - 1
        goes_on, dense_end = times(self.marks.goes_on)[:events], times(self.marks.dense_end)[:events]
        begin, dense_start = np.append(0, left[:-1]), np.append(0, goes_on[:-1])
        begin[::layers], dense_start[::layers] = passes, starts[: table.num_steps]
        copies = (self._slots.link.copies or [])[self._copies : self._copies + len(table.loads.key)]
        uses = [self.marks.uses[row] for row in range(len(table.uses.key))]
        moves = zip(*(times([pair[side] for pair in copies]).tolist() for side in (0, 1)), strict=True)
        return Happened(
            begin=begin,
            dense_launched=entered,
            ready=known,
            launched=left,
            goes_on=np.append(begin[1:], left[-1]),
            dense_start=dense_start,
            dense_end=dense_end,
            head_start=goes_on[last],
            head_end=np.append(starts[1:], goes_on[-1:])[: table.num_steps],
            use_start=times([begin for begin, _ in uses]),
            use_end=times([end for _, end in uses]),
            copies=[(row, start, end) for row, (start, end) in enumerate(moves)],
        )

    def begin(self, ids: Tensor) -> None:
        """Begin a pass."""
        self.passes.append(perf_counter_ns())
        if self.marks:
            self.marks.passes.append(self._slots.link.mark())
        self._stack.run = self
        self._stack.ears.begin(self.meta, self._position, ids)
        self._position += ids.numel()

    def serve(self, layer: int, hidden: Tensor, weights: Tensor) -> Tensor:
        """Decide and execute one event; the result is that of transformers' experts."""
        entered, marks = perf_counter_ns(), self.marks
        if marks:
            marks.dense_end.append(self._slots.link.mark())
        heard = self._stack.ears.hear(layer, self.meta)
        known = perf_counter_ns()
        if self.beside:
            self.beside.event(heard.block, self._slots)
        decided = self.decisions.event(heard.block)
        if layer == self.meta.num_layers - 1:
            self.steps.append(heard.block)
        done = perf_counter_ns()
        if marks and marks.hold_ns:
            self._slots.link.hold(marks.hold_ns)
        result = self._execute(decided, heard.chosen[layer], hidden, weights)
        if marks:
            marks.goes_on.append(self._slots.link.mark())
        self.events.extend((entered, known, done, perf_counter_ns()))
        self.issued.append(self._issued)
        return result

    def _execute(self, decided: Decided, chosen: NDArray[np.int64], hidden: Tensor, weights: Tensor) -> Tensor:
        """Loads and uses, wave by wave; then the sum by rising expert."""
        self._issued, parts = 0, dict[int, tuple[NDArray[np.int64], Tensor]]()
        rows = {use.key: self._uses + place for place, use in enumerate(decided.uses)}
        self._uses += len(rows)
        last = max((use.wave for use in decided.uses), default=0)
        for wave in range(last + 1):
            self._load(decided, wave, demand=True)
            if wave == last and not self.decisions.after_launch:
                self._load(decided, wave, demand=False)
            for use in launch_order(use for use in decided.uses if use.wave == wave):
                parts[use.key] = self._use(use, rows[use.key], chosen, hidden, weights)
        if self.decisions.after_launch:
            self._load(decided, last, demand=False)
        result = torch.zeros_like(hidden)
        for key in sorted(parts):
            tokens, part = parts[key]
            if len(hidden) == 1:
                result += part.to(hidden.dtype)
            else:
                result.index_add_(0, torch.from_numpy(tokens).to(hidden.device), part.to(hidden.dtype))
        return result

    def _load(self, decided: Decided, wave: int, demand: bool) -> None:
        begin = perf_counter_ns()
        for load in decided.loads:
            if load.demand == demand and (not demand or load.wave == wave):
                self._slots.load(self._stack.home, load.key, load.slot)
        self._issued += perf_counter_ns() - begin

    def _use(
        self, use: Use, row: int, chosen: NDArray[np.int64], hidden: Tensor, weights: Tensor
    ) -> tuple[NDArray[np.int64], Tensor]:
        """Launch an expert: its tokens, and its weighted results."""
        tokens, places = np.nonzero(chosen == use.key % self.meta.num_experts)
        if len(hidden) == 1:
            state, weight = hidden, weights[:, int(places[0]), None]
        else:
            at, place = torch.from_numpy(tokens).to(hidden.device), torch.from_numpy(places).to(hidden.device)
            state, weight = hidden[at], weights[at, place, None]
        begin = self._slots.link.mark() if self.marks else None
        result = self._slots.run(self._stack.home, use.slot, state)
        if self.marks:
            self.marks.uses[row] = begin, self._slots.link.mark()
        return tokens, result * weight


class Served(Module):
    """Stands in a MoE block where its experts were."""

    def __init__(self, stack: "Stack", layer: int) -> None:
        super().__init__()
        self._stack, self._layer = (stack,), layer  # a tuple: no module of this one

    def forward(self, hidden: Tensor, selected: Tensor, weights: Tensor) -> Tensor:
        """Serve the layer's event."""
        run = self._stack[0].run
        assert run is not None
        return run.serve(self._layer, hidden, weights)


class Stack:
    """MoE layers that run one after the other, without their experts, which are at home in host memory."""

    def __init__(self, checkpoint: Checkpoint, phase: Phase, held: Format, pinned: bool) -> None:
        model, adapter = checkpoint.model, checkpoint.adapter
        layers = adapter.layers(model, phase)
        self.layers, self.ears = layers, Ears(adapter, layers)
        blocks: list[Any] = [layer.moe for layer in layers]
        self.home = Home([block.experts for block in blocks], held, pinned)
        for number, block in enumerate(blocks):
            block.experts = Served(self, number)
        self.module: Module = model.get_encoder() if _has_two(model) and phase == "encode" else model.get_decoder()
        self.run: PhaseRun | None = None


class Generated(NamedTuple):
    """A text; by phase, what it was generated with; and how long it took."""

    ids: list[int]
    text: str
    tables: dict[Phase, DecisionTable]
    traces: dict[Phase, tuple[TraceMeta, Block]]
    runs: dict[Phase, PhaseRun]
    slots: Slots
    at: list[int]  # [ids], when each was known, ns
    seconds: float
    peak_bytes: int  # of the device's memory, by its allocator; 0 on a CPU
    interrupted: bool


class Offloaded:
    """A model without experts on the device; it generates with any policy and any number of slots."""

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu", held: Format = "fp32") -> None:
        """The checkpoint, loaded on the CPU, gives its experts up. `held` is the format of its experts at home."""
        self.checkpoint, self.device = checkpoint, torch.device(device)
        pinned, model = self.device.type == "cuda", checkpoint.model
        if pinned and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        decode = Stack(checkpoint, "decode", held, pinned)
        encode = Stack(checkpoint, "encode", held, pinned) if _has_two(model) else decode
        self.stacks: dict[Phase, Stack] = {"encode": encode, "decode": decode}
        model.to(self.device)

    @property
    def homes(self) -> list[Home]:
        """The homes of all experts, each once."""
        return list({id(stack.home): stack.home for stack in self.stacks.values()}.values())

    def meta(self, phase: Phase, depth: int) -> TraceMeta:
        """What a trace of a phase says of itself."""
        checkpoint, stack = self.checkpoint, self.stacks[phase]
        router: Any = stack.layers[0].router
        top_k = getattr(router, "top_k", 1)
        return TraceMeta(
            phase=phase,
            kind=checkpoint.kind,
            origin="generated",
            model=checkpoint.name,
            num_experts=router.num_experts,
            num_layers=len(stack.layers),
            top_k=top_k,
            candidates=min(max(CANDIDATES, top_k), router.num_experts),
            has_lookahead=depth > 0,
            lookahead_depth=max(1, depth),
            sources=("prompt",),
            corpus="prompt",
        )

    def generate(
        self,
        ask: Ask,
        policy: Policy,
        slots: int,
        *,
        plans: dict[Phase, DecisionTable] | None = None,
        depth: int | None = None,
        traced: bool = False,
        hold_ns: int = 0,
        beside: Beside | None = None,
    ) -> Generated:
        """Generate greedily. `plans` are decisions to follow; default: those of the policy, as it goes.

        `depth` is that of the look-ahead that is computed; default: what the policy needs. `traced` keeps times on the
        device, which is held for `hold_ns` before each event's experts. Raises InputError for a policy that cannot be
        asked online.
        """
        if policy.uses_cpu:
            raise InputError(
                f"policy {policy.name}: experts on the CPU are not generated with: one that loads expected"
            )
        depth = depth_of(policy) if depth is None else depth
        metas = {phase: self.meta(phase, depth) for phase in PHASES}
        sources = {phase: source_of(meta, policy, slots, (plans or {}).get(phase)) for phase, meta in metas.items()}
        link: Link = CudaLink(self.device) if self.device.type == "cuda" else HostLink()
        link.copies = [] if traced else None
        arena = Slots(self.homes, max(source.slots for source in sources.values()), self.device, link)
        runs: dict[Phase, PhaseRun] = {}

        def passes(phase: Phase, kwargs: dict[str, Any]) -> None:
            if not _has_two(self.checkpoint.model) and "encode" in runs:
                phase = "decode"
            if phase not in runs:
                marks = Marks(hold_ns) if traced else None
                runs[phase] = PhaseRun(self.stacks[phase], sources[phase], metas[phase], arena, marks)
                runs[phase].beside = beside if phase == "decode" else None
            runs[phase].begin(kwargs["input_ids"])

        with enough_vram(), self._listening(depth, passes):
            written = write(self.checkpoint, ask)
        arena.free()
        return Generated(
            ids=written.ids,
            text=self.checkpoint.tokenizer.decode(written.ids, skip_special_tokens=True),
            tables={phase: run.decisions.table() for phase, run in runs.items()},
            traces={phase: (run.meta, join(run.steps)) for phase, run in runs.items() if run.steps},
            runs=runs,
            slots=arena,
            at=written.at,
            seconds=written.seconds,
            peak_bytes=written.peak_bytes,
            interrupted=written.interrupted,
        )

    @contextmanager
    def _listening(self, depth: int, passes: Callable[[Phase, dict[str, Any]], None]) -> Iterator[None]:
        """Runs hear what each pass of their phase reads and what its routers choose."""
        stacks: dict[int, tuple[Phase, Stack]] = {}
        for phase, stack in self.stacks.items():
            stacks.setdefault(id(stack), (phase, stack))
        with ExitStack() as hooks:
            for phase, stack in stacks.values():
                hooks.enter_context(stack.ears.listening(depth))
                hook = stack.module.register_forward_pre_hook(
                    lambda _, args, kwargs, p=phase: passes(p, kwargs), with_kwargs=True
                )
                hooks.callback(hook.remove)
            yield


def _has_two(model: Any) -> bool:
    """Whether a model has an encoder beside its decoder."""
    return bool(model.config.is_encoder_decoder)
