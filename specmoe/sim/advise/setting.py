"""The setting of `advise`: a question with its model, machine, routing, and how many experts fit into VRAM.

The routing is that of a trace that fits the model, else, for a decoder-only model, that of a bundled trace of another
one with as many experts and the same top-k, whose layers are repeated as in every run. Numbers of experts and top-k are
not scaled, as no rule for it was ever tested: where they differ, or the batch has more sequences than the trace,
routing is drawn. In drawn routing a token uses each
expert of the token before again with an assumed probability, and otherwise experts drawn uniformly without replacement.
Real models differ: beyond chance, tokens of gpt-oss-20b use 36 % of the last token's experts again, those of
switch-mini-128 4 %. So the answer is computed for `LIKELY` and its rate also for both ends of `RANGE`, and for what
routing that is not the model's own was found to cost gpt-oss-20b (`levers`). Layers are drawn independently, so no
predictor can be judged on drawn routing.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe import traces
from specmoe.errors import InputError
from specmoe.files import library_versions, today
from specmoe.hwprofiles.kernels import Style
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import Format, KvFormat, ModelShape, can_fill, require_can_fill
from specmoe.sim.budget import Ask, Room, budget, fitting, least_vram, lines, longest_context, slots_of_layers
from specmoe.sim.claims import stands_in
from specmoe.sim.config import ASSUMED_RESERVE, Home, RunConfig
from specmoe.traces import store
from specmoe.traces.schema import Block, Phase, TraceMeta, no_lookahead
from specmoe.traces.store import write_trace
from specmoe.traces.summary import count_sequences
from specmoe.traces.synthesize import best_of

LIKELY, RANGE = 0.2, (0.0, 0.4)  # assumed probability that a token uses an expert of the token before again
SEED = 0
DRAWS = 20_000_000  # most random numbers for a trace
SEQUENCES, MOST_SEQUENCES = 32, 64  # of a drawn trace: enough for four times the batch of the question
LENGTHS = (32, 128)  # fewest and most tokens of a drawn sequence
FEWEST_WARM_STEPS, FEWEST_SEQUENCES = 256, 2  # that an answer rests on at batch 1; it says where the trace has fewer
FEWEST_BATCHED_STEPS = 64  # at any batch: each of these steps has several sequences in it
DEMANDS_PER_SLOT, FEWEST_DEMANDS = 12, 6_000  # for a stable mean


@dataclass(frozen=True)
class Question:
    """The question of a user, with the names of `RunConfig`; `vram` is all bytes of VRAM.

    `formats` are the formats that slots may have (default: the shape's own), `home_formats` additional formats at home.
    `source`, `train_source`, `style`, `threads`, `dense_format`, `context`, `kv_format` and `assumed_reserve` are those
    of `RunConfig`. `steps` is the number of steps after the warm-up (default: enough to fill the slots many times), of
    which there are at least `Setting.fewest`. `warm_up` is the number of steps before them (default: until demand could
    have filled the slots). `target` is in tokens/s.
    """

    shape: str
    profile: str
    vram: int
    trace: str | None = None
    train: str | None = None
    source: tuple[str, ...] = ()
    train_source: tuple[str, ...] = ()
    batch: int = 1
    target: float | None = None
    formats: tuple[Format, ...] = ()
    home_formats: tuple[Format, ...] = ()
    steps: int | None = None
    warm_up: int | None = None
    style: Style | None = None
    threads: int | None = None
    dense_format: Format | None = None
    context: int | None = None
    kv_format: KvFormat = "f16"
    assumed_reserve: int = ASSUMED_RESERVE


class Setting(NamedTuple):
    """A question with its model, machine and routing; the routing has the shape's layers and experts."""

    question: Question
    shape: ModelShape
    profile: HardwareProfile
    routings: "Routings"

    @property
    def phase(self) -> Phase:
        """The phase of the trace."""
        return self.routings.meta.phase

    @property
    def config(self) -> RunConfig:
        """The fields that all tried configurations share; `slots` follow from `vram`."""
        question = self.question
        return RunConfig(
            self.routings.trace,
            profile=question.profile,
            shape=question.shape,
            vram=question.vram,
            batch=question.batch,
            warm_up=question.warm_up,
            train=question.train,
            source=question.source,
            train_source=question.train_source,
            style=question.style,
            threads=question.threads,
            dense_format=question.dense_format,
            context=question.context,
            kv_format=question.kv_format,
            assumed_reserve=question.assumed_reserve,
        )

    @property
    def formats(self) -> tuple[Format, ...]:
        """Formats that slots may have."""
        return self.question.formats or (self.shape.format,)

    @property
    def keys(self) -> int:
        """Number of experts of the stack that runs."""
        return self.shape.stack(self.phase).moe_layers * self.shape.experts.number

    def held(self, one: RunConfig) -> Format:
        """Format of a configuration's slots."""
        return one.format or self.shape.format

    def budget(self, one: RunConfig) -> int:
        """VRAM of a configuration, bytes."""
        return self.question.vram if one.vram is None else one.vram

    def room(self, held: Format, home: Format | None = None) -> Room:
        """VRAM that the model needs with its experts in a format."""
        return Room(self.shape, held, Home(format=home), self.question.dense_format)

    def ask(self, vram: int, batch: int | None = None) -> Ask:
        """What `vram` bytes are to hold for a batch (default: that of the question)."""
        question, context = self.question, self.question.context or self.routings.longest
        return Ask(vram, context, batch or question.batch, question.kv_format, question.assumed_reserve)

    def slots(self, held: Format, vram: int, batch: int | None = None) -> int:
        """Number of slots of the stack that runs; 0 if none fits."""
        fitted = fitting(self.room(held), self.ask(vram, batch))
        layers = self.shape.stack(self.phase).moe_layers
        return min(self.keys, slots_of_layers(self.shape, fitted, layers))

    def holds_all(self, held: Format, vram: int, batch: int | None = None) -> bool:
        """Whether the whole model fits into `vram` bytes."""
        return fitting(self.room(held), self.ask(vram, batch)) >= self.shape.routed_experts

    def whole_bytes(self, held: Format) -> int:
        """VRAM that holds the whole model, its context and the reserve, bytes."""
        every = lines(self.room(held), self.ask(0), self.shape.routed_experts)
        return -every.free_bytes

    @property
    def steps(self) -> int:
        """Number of steps after the warm-up with the batch of the question."""
        if self.question.steps is not None:
            return max(self.fewest(self.question.batch), self.question.steps)
        demands = max(FEWEST_DEMANDS, DEMANDS_PER_SLOT * self.most_slots)
        meta = self.routings.meta
        of_a_layer = meta.num_experts if meta.phase == "encode" else meta.top_k * self.question.batch
        of_a_step = meta.num_layers * of_a_layer  # at most: encoding, tokens may want every expert
        return max(self.fewest(self.question.batch), -(-demands // of_a_step))

    def fewest(self, batch: int) -> int:
        """Fewest steps after the warm-up that an answer rests on."""
        return max(FEWEST_BATCHED_STEPS, FEWEST_WARM_STEPS // batch)

    @property
    def most_slots(self) -> int:
        """Number of slots in the smallest allowed format."""
        return max(self.slots(held, self.question.vram) for held in self.formats)

    def steps_of(self, batch: int) -> int:
        """Number of steps after the warm-up with about as many tokens at another batch."""
        return max(self.fewest(batch), self.steps * self.question.batch // batch)

    def require_domains(self) -> None:
        """Raise InputError for a text domain that the routing does not have; drawn routing has none."""
        named = self.question.source or self.question.train_source
        if self.routings.drawn and named:
            raise InputError(f"--source {named[0]}: no trace of {self.shape.name} is bundled: --trace expected")
        traces.open(self.routings.trace, self.question.source)

    def require_homes(self) -> None:
        """Raise InputError for a home format from which slots of no allowed format can be filled."""
        for home in self.question.home_formats:
            if not any(can_fill(home, held) for held in self.formats):
                require_can_fill(home, self.formats[0])

    def require_room(self) -> None:
        """Raise InputError that says how long a context fits, unless one expert fits in some allowed format."""
        ask = self.ask(self.question.vram)
        smallest = min(self.formats, key=lambda held: least_vram(self.room(held), ask))
        budget(self.room(smallest), ask)


class Routings(NamedTuple):
    """The trace that is simulated and, if it is drawn, the `extremes` of the probability that it is drawn with.

    `longest` is the number of tokens of its longest context.
    """

    trace: str
    meta: TraceMeta
    extremes: tuple[float, ...] = ()
    longest: int = 1
    borrowed: str = ""  # what differs, if the routing is that of another model

    @property
    def drawn(self) -> bool:
        """Whether the routing is drawn and not recorded from a model."""
        return bool(self.extremes)


def routings_of(shape: ModelShape, trace: str | None, batch: int, directory: Path) -> Routings:
    """The given trace, else a bundled one that fits the model, or nearly, else drawn ones, written to the directory.

    Raises InputError for a trace of a model with other layers or experts.
    """
    if trace is not None:
        meta = traces.open(trace).meta
        _require_fit(trace, meta, shape)
        return Routings(trace, meta, longest=longest_of(trace, shape))
    bundled = {name: traces.open(name) for name in store.names() if name.endswith("/decode/test")}
    for name, opened in bundled.items():
        if fits(opened.meta, shape):
            return Routings(name, opened.meta, longest=longest_of(name, shape))
    for name, opened in bundled.items():
        if stands_in(opened.meta, shape) and batch <= count_sequences(opened):
            return _borrowed(name, opened.meta, shape)
    mostly = 3 * max(FEWEST_WARM_STEPS // batch, FEWEST_BATCHED_STEPS)  # steps; where more are needed, all are drawn
    likely = str(draw(shape, LIKELY, batch, directory, mostly))
    return Routings(likely, traces.open(likely).meta, RANGE, longest_of(likely, shape))


def longest_of(trace: str, shape: ModelShape) -> int:
    """Number of tokens of the longest context of a trace: its own, or the text that a decoder attends to."""
    opened = traces.open(trace)
    return longest_context(shape, opened.meta.phase, int(opened.position.max()) + 1)


def fits(meta: TraceMeta, shape: ModelShape) -> bool:
    """Whether a trace has the layers, experts and top-k of a shape."""
    wanted = (shape.stack(meta.phase).moe_layers, shape.experts.number, shape.experts.top_k)
    return (meta.num_layers, meta.num_experts, meta.top_k) == wanted


def _borrowed(name: str, meta: TraceMeta, shape: ModelShape) -> Routings:
    own, layers = meta.num_layers, shape.decoder.moe_layers
    more = f", its layers {own}..{layers - 1} are layers 0..{own - 1} with experts permuted" if layers > own else ""
    what = f"no trace of {shape.name} is at hand, so it is that of {meta.model}{more} (--trace gives a real one)"
    return Routings(name, replace(meta, num_layers=layers), longest=longest_of(name, shape), borrowed=what)


def _require_fit(name: str, meta: TraceMeta, shape: ModelShape) -> None:
    if not fits(meta, shape):
        layers, experts = shape.stack(meta.phase).moe_layers, shape.experts
        raise InputError(
            f"--trace {name}: {meta.num_layers} layers of {meta.num_experts} experts, top {meta.top_k}: {shape.name} "
            f"has {layers} of {experts.number}, top {experts.top_k}; a trace of such a model expected, or none"
        )


def draw(shape: ModelShape, assumed_stickiness: float, batch: int, directory: Path, steps: int | None = None) -> Path:
    """Draw a `decode` trace with enough sequences for a batch and return its path; its notes name the assumption.

    With `steps`, sequences that this many steps of the batch do not reach are left out.
    """
    layers, experts = shape.decoder.moe_layers, shape.experts
    sequences = max(SEQUENCES, min(MOST_SEQUENCES, 16 * batch), batch)
    least, most = LENGTHS
    length = max(least, min(most, DRAWS // (sequences * layers * experts.number)))
    size = (length, sequences, layers, experts.number)
    first = sequences if steps is None else min(sequences, batch * (2 + steps // length))
    used = routed(size, experts.top_k, assumed_stickiness, np.random.PCG64(SEED), first)
    meta = TraceMeta(
        phase="decode",
        kind="synthetic",
        origin="synthetic",
        model="none",
        num_experts=experts.number,
        num_layers=layers,
        top_k=experts.top_k,
        candidates=experts.top_k,
        sources=("synthetic",),
        corpus="none",
        seed=SEED,
        has_probs=False,
        has_lookahead=False,
        date=today(),
        versions=library_versions("numpy", "pyarrow"),
        notes=(f"assumed_stickiness = {assumed_stickiness}", "experts are drawn alike"),
    )
    path = directory / f"drawn-{assumed_stickiness}.parquet"
    write_trace(path, meta, [_block(used)])
    return path


def routed(
    size: tuple[int, int, int, int], top_k: int, stickiness: float, bits: np.random.PCG64, first: int | None = None
) -> NDArray[np.int16]:
    """Draw experts, [sequences, tokens, layers, top_k]; `size` is (tokens, sequences, layers, experts).

    With `first`, only that number of sequences is returned; they are those that begin the whole.
    """
    tokens, sequences, layers, experts = size
    drawn = sequences if first is None or sequences % 2 else min(sequences, first + first % 2)
    used = np.empty((tokens, drawn, layers, top_k), np.int16)
    for token in range(tokens):
        scores = _first(bits, sequences, (drawn, layers, experts))
        if token:
            kept = _first(bits, sequences, (drawn, layers, top_k)) < stickiness
            before = np.where(kept, 2.0, 0.0) + np.take_along_axis(scores, used[token - 1].astype(np.intp), -1)
            np.put_along_axis(scores, used[token - 1].astype(np.intp), before.astype(np.float32), -1)
        used[token] = best_of(scores, top_k)
    return used[:, :first].swapaxes(0, 1)


def _first(bits: np.random.PCG64, rows: int, wanted: tuple[int, int, int]) -> NDArray[np.float32]:
    """The first of `rows` rows of random numbers; the others are passed over: two are made at a time."""
    drawn = np.random.Generator(bits).random(wanted, np.float32)
    bits.advance((rows - wanted[0]) * wanted[1] * wanted[2] // 2)
    return drawn


def _block(used: NDArray[np.int16]) -> Block:
    sequences, length = used.shape[:2]
    experts = used.reshape(-1, *used.shape[2:])
    return Block(
        sequence=np.repeat(np.arange(sequences, dtype=np.int32), length),
        position=np.tile(np.arange(length, dtype=np.int32), sequences),
        source=np.zeros(len(experts), np.int16),
        token=np.full(len(experts), -1, np.int32),
        experts=experts,
        probs=np.full(experts.shape, np.nan, np.float16),
        lookahead=no_lookahead(experts),
    )


def gib(size: float) -> str:
    """Bytes in words, rounded up to a tenth of a GiB so that the amount named is enough."""
    tenths = -int(-size * 10 // (1 << 30))
    return f"{tenths / 10:.0f} GiB" if tenths % 10 == 0 else f"{tenths / 10:.1f} GiB"
