"""Running a model on batches of examples while recorders listen to its routers.

A hook before each layer's norm reads the hidden state that enters the feed-forward part and passes it at once through
the norms and routers of the next `depth` layers. This is the look-ahead: a prediction made before the layer's own
experts run. A hook after each router reads what it chose. Nothing leaves the device before `Recorder.take`.

Attention in a decoder is causal and no token is dropped, so one pass over given ids routes them exactly as step-by-step
generation does. Generated text is therefore generated first and recorded afterwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, ModelError
from specmoe.traces.adapters import Adapter, MoeLayer, candidates, with_drops
from specmoe.traces.collect_batches import EMPTY, Example, Ids
from specmoe.traces.collect_model import Checkpoint
from specmoe.traces.schema import Block, Phase, TraceMeta

if TYPE_CHECKING:
    from torch import Tensor


class Routing(NamedTuple):
    """Routing of n tokens through L layers: M candidates each, D look-ahead depths; columns of `schema.Block`."""

    experts: NDArray[np.int16]  # [n, L, M]
    probs: NDArray[np.float16]  # [n, L, M]
    lookahead: NDArray[np.int16]  # [n, L, D, M]


class Recorder(AbstractContextManager["Recorder"]):
    """Records one forward pass through `layers`, `width` candidates each; use it in a `with` block, then call `take`.

    The look-ahead covers the next `depth` layers; it is -1 beyond the last layer.
    """

    def __init__(self, adapter: Adapter, layers: list[MoeLayer], width: int, depth: int = 1) -> None:
        self._adapter = adapter
        self._depth = depth
        self._layers = layers
        self._width = width
        self._hooks = ExitStack()
        self._experts: list[Tensor] = []
        self._probs: list[Tensor] = []
        self._lookahead: list[list[Tensor]] = []  # by layer, then depth

    def __enter__(self) -> "Recorder":
        for number, layer in enumerate(self._layers, start=1):
            following = self._layers[number : number + self._depth]
            hook = layer.norm.register_forward_pre_hook(lambda _, args, to=following: self._look_ahead(to, args[0]))
            self._hooks.enter_context(hook)
        for layer in self._layers:
            self._hooks.enter_context(layer.router.register_forward_hook(self._listen))
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def take(self, mask: "Tensor") -> Routing:
        """Routing, on the CPU, of the tokens for which the flat `mask` [batch * tokens] is true.

        Raises ModelError if a router's probability is not finite (half precision overflows in some models).
        """
        import torch

        beyond = [torch.full_like(self._experts[0], -1)] * self._depth
        ahead = [torch.stack([*layer, *beyond][: self._depth], dim=1) for layer in self._lookahead]
        experts, probs, lookahead = (
            torch.stack(columns, dim=1)[mask].cpu().numpy() for columns in (self._experts, self._probs, ahead)
        )
        if not np.isfinite(probs).all():
            raise ModelError("a router's probabilities are not finite: try --dtype float32 or bfloat16")
        return Routing(experts, probs, lookahead)

    def _look_ahead(self, following: list[MoeLayer], hidden: "Tensor") -> None:
        self._lookahead.append([self._foresee(layer, hidden) for layer in following])

    def _foresee(self, layer: MoeLayer, hidden: "Tensor") -> "Tensor":
        # `forward` instead of a call, so that the hooks of the later layer do not fire early.
        normed = layer.norm.forward(hidden).float().flatten(0, -2)
        choice = self._adapter.read(layer.router.forward(normed))
        return candidates(choice, self._width).short()

    def _listen(self, router: Any, args: Any, output: Any) -> None:
        choice = self._adapter.read(output)
        ids = candidates(choice, self._width)
        ids, probs = with_drops(ids, choice.probs.gather(-1, ids), choice)
        self._experts.append(ids.short())
        self._probs.append(probs.half())


class Stretch(NamedTuple):
    """Tokens that a phase records of each sequence of a batch: from `start` up to, not including, `stop`."""

    start: NDArray[np.int64]  # [batch]
    stop: NDArray[np.int64]  # [batch]


class Sampling(NamedTuple):
    """How generated tokens are chosen: the likeliest, or sampled at a temperature with random numbers from `seed`."""

    temperature: float | None = None
    seed: int = 0


GREEDY = Sampling()


@dataclass(frozen=True)
class Runner:
    """Runs examples and returns the blocks of the traces that `metas` describe.

    `generate` is the number of decoding steps, or None for teacher forcing.
    """

    checkpoint: Checkpoint
    metas: Mapping[Phase, TraceMeta]
    generate: int | None
    sampling: Sampling = GREEDY

    def run(self, examples: Sequence[Example], first: int) -> dict[Phase, Block]:
        """Route one batch, its sequences numbered from `first`; raises InputError if memory runs out."""
        import torch

        one_pass = self._encoder_decoder if self.checkpoint.is_encoder_decoder else self._decoder_only
        with torch.inference_mode(), _memory_errors(len(examples)):
            return one_pass(examples, first)

    def _encoder_decoder(self, examples: Sequence[Example], first: int) -> dict[Phase, Block]:
        model = self.checkpoint.model
        inputs = [example.inputs for example in examples]
        ids, mask = self._padded(inputs)
        blocks: dict[Phase, Block] = {}
        with self._recorder("encode") as encoder_recorder:
            hidden = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        if "encode" in self.metas:
            blocks["encode"] = self._block(encoder_recorder, inputs, _whole(inputs), examples, first)
        if "decode" in self.metas:
            fed = self._decoder_inputs(examples, ids, mask, first)
            with self._recorder("decode") as decoder_recorder:
                self._decode(fed, hidden, mask)
            blocks["decode"] = self._block(decoder_recorder, fed, _whole(fed), examples, first)
        return blocks

    def _decode(self, fed: list[Ids], hidden: "Tensor", mask: "Tensor") -> None:
        ids, fed_mask = self._padded(fed)
        self.checkpoint.model.get_decoder()(
            input_ids=ids,
            attention_mask=fed_mask,
            encoder_hidden_states=hidden,
            encoder_attention_mask=mask,
            use_cache=False,
        )

    def _decoder_inputs(self, examples: Sequence[Example], ids: "Tensor", mask: "Tensor", first: int) -> list[Ids]:
        """Decoder input of each sequence: the start token, then all but the last target or generated token."""
        start = np.array([self.checkpoint.model.config.decoder_start_token_id], np.int32)
        if self.generate is None:
            rows = [example.targets[:-1] for example in examples]
        else:
            rows = [row[: self.generate - 1] for row in self._generated(ids, mask, self.generate, 1, first)]
        return [np.append(start, row) for row in rows]

    def _decoder_only(self, examples: Sequence[Example], first: int) -> dict[Phase, Block]:
        prompts = [example.inputs for example in examples]
        fed = [np.append(prompt, more) for prompt, more in zip(prompts, self._continued(prompts, first), strict=True)]
        ids, mask = self._padded(fed)
        with self._recorder(next(iter(self.metas))) as recorder:
            self.checkpoint.model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False)
        generated = Stretch(_whole(prompts).stop, _whole(fed).stop)
        stretches: dict[Phase, Stretch] = {
            "encode": _whole(prompts),
            "decode": _whole(fed) if self.generate is None else generated,
        }
        return {phase: self._block(recorder, fed, stretches[phase], examples, first) for phase in self.metas}

    def _continued(self, prompts: list[Ids], first: int) -> list[Ids]:
        """Tokens that a decoder-only model generates after each prompt and reads again; none when teacher-forced."""
        if self.generate is None:
            return [EMPTY] * len(prompts)
        ids, mask = (tensor.flip(-1) for tensor in self._padded([prompt[::-1] for prompt in prompts]))  # padding first
        rows = self._generated(ids, mask, self.generate + 1, ids.shape[1], first)
        return [row[: self.generate] for row in rows]

    def _generated(self, ids: "Tensor", mask: "Tensor", tokens: int, skip: int, first: int) -> list[Ids]:
        """Generated tokens of each sequence from `first`, after its first `skip` tokens and before its end token."""
        import torch

        model, temperature = self.checkpoint.model, self.sampling.temperature
        sampled: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_k": 0}
        choice = {"do_sample": False} if temperature is None else sampled
        with torch.random.fork_rng():
            torch.manual_seed(int(np.random.default_rng([self.sampling.seed, first]).integers(1 << 31)))
            ids_out = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=tokens, num_beams=1, pad_token_id=0, **choice
            )
        end = model.generation_config.eos_token_id
        return [_before(row, [] if end is None else end) for row in ids_out[:, skip:].int().cpu().numpy()]

    @property
    def _sources(self) -> tuple[str, ...]:
        return next(iter(self.metas.values())).sources

    def _recorder(self, phase: Phase) -> Recorder:
        adapter, model = self.checkpoint.adapter, self.checkpoint.model
        if phase not in self.metas:
            return Recorder(adapter, [], 0)
        return Recorder(
            adapter, adapter.layers(model, phase), self.metas[phase].candidates, self.metas[phase].lookahead_depth
        )

    def _padded(self, sequences: Sequence[Ids]) -> "tuple[Tensor, Tensor]":
        """Ids and attention mask, [batch, longest], padded at the end."""
        import torch

        mask = _mask(_whole(sequences))
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = np.concatenate(sequences)
        device = self.checkpoint.device
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask.astype(np.int64)).to(device)

    def _block(
        self, recorder: Recorder, fed: list[Ids], stretch: Stretch, examples: Sequence[Example], first: int
    ) -> Block:
        import torch

        width = max(map(len, fed))
        mask = _mask(stretch, width)
        rows, columns = np.nonzero(mask)
        codes = np.array([self._sources.index(example.source) for example in examples], np.int16)
        ids = np.concatenate(fed)[mask[_mask(_whole(fed))]]
        routing = recorder.take(torch.from_numpy(mask.reshape(-1)).to(self.checkpoint.device))
        return Block(
            (first + rows).astype(np.int32),
            (columns - stretch.start[rows]).astype(np.int32),
            codes[rows],
            ids,
            *routing,
        )


def _whole(sequences: Sequence[Ids]) -> Stretch:
    lengths = np.array([len(ids) for ids in sequences])
    return Stretch(np.zeros_like(lengths), lengths)


def _mask(stretch: Stretch, width: int | None = None) -> NDArray[np.bool_]:
    """[batch, width], true inside the stretch. Default width: the longest sequence."""
    places = np.arange(stretch.stop.max() if width is None else width)
    return (places >= stretch.start[:, None]) & (places < stretch.stop[:, None])


def _before(row: Ids, ends: int | list[int]) -> Ids:
    stops = np.flatnonzero(np.isin(row, ends))
    return row[: stops[0]] if stops.size else row


@contextmanager
def _memory_errors(batch: int) -> Iterator[None]:
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
            raise
        raise InputError(f"out of memory with --batch {batch}: try --batch {max(1, batch // 2)}") from None
