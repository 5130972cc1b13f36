"""Expert demand of a trace, step by step, when a batch of sequences runs at once.

Decode: a batch has a fixed number of places; each place processes one sequence, one token per step. When a sequence
ends the next one takes its place (continuous batching); the last steps use fewer places. Encode: each step processes
the next `batch` sequences whole. Decode with a `window` of several rows (see `arranged.verified`) processes that many
of a sequence in each step. A session (see `arranged.sessions`) is a prefill, one step of all its tokens, and the decode
steps after it; sessions follow each other.

An *event* is one (step, layer), numbered `step * L + layer`. Its demand is the distinct experts that its tokens need,
ascending, each with its number of tokens. Dropped tokens demand nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.traces.schema import Block, Phase, TraceMeta

DEMAND_CELLS_PER_BLOCK = 1 << 22  # steps * layers * experts: blocks stay small for every model and run length
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Workload:
    """Demand of S steps of L layers with E experts each; `rows` of the trace are ordered by step.

    Event e demands `experts[offsets[e]:offsets[e + 1]]`, with `tokens` at the same indices. Step s has the rows
    `rows[row_offsets[s]:row_offsets[s + 1]]`.
    """

    meta: TraceMeta
    rows: Ints  # [n], indices into the trace
    row_offsets: Ints  # [S + 1]
    offsets: Ints  # [S * L + 1]
    experts: NDArray[np.int32]  # [U]
    tokens: NDArray[np.int32]  # [U]
    batch: int
    window: int = 1  # rows of a decode sequence in one step
    kept: Ints | None = None  # [S], tokens that are not rejected after each step; None: all
    prefills: NDArray[np.bool_] | None = None  # [S], the steps that are a session's prefill; None: no sessions

    @property
    def num_steps(self) -> int:
        """Number of steps, S."""
        return len(self.row_offsets) - 1

    @property
    def num_events(self) -> int:
        """Number of events, S * L."""
        return len(self.offsets) - 1

    @cached_property
    def step_tokens(self) -> Ints:
        """Number of tokens in each step, [S]."""
        return np.diff(self.row_offsets)

    @property
    def phases(self) -> list[Phase]:
        """Phase of each step, [S]."""
        if self.prefills is None:
            return [self.meta.phase] * self.num_steps
        return ["encode" if prefill else "decode" for prefill in self.prefills.tolist()]

    def kept_since(self, step: int) -> int:
        """Number of tokens that a step and all later ones add to their sequences."""
        return int((self.step_tokens if self.kept is None else self.kept)[step:].sum())

    @cached_property
    def step_of_row(self) -> Ints:
        """Step of each of `rows`, [n]."""
        return np.repeat(np.arange(self.num_steps), self.step_tokens)

    @cached_property
    def events(self) -> Ints:
        """Event of each demanded expert, [U]."""
        return np.repeat(np.arange(self.num_events), np.diff(self.offsets))

    @cached_property
    def keys(self) -> NDArray[np.int32]:
        """Key of each demanded expert, `layer * E + expert`, [U]."""
        layer = (self.events % self.meta.num_layers).astype(np.int32)
        return layer * np.int32(self.meta.num_experts) + self.experts

    def since(self, step: int) -> "Workload":
        """The demand of a step and of all later ones."""
        event, row = step * self.meta.num_layers, int(self.row_offsets[step])
        first = int(self.offsets[event])
        return replace(
            self,
            rows=self.rows[row:],
            row_offsets=self.row_offsets[step:] - row,
            offsets=self.offsets[event:] - first,
            experts=self.experts[first:],
            tokens=self.tokens[first:],
            kept=None if self.kept is None else self.kept[step:],
            prefills=None if self.prefills is None else self.prefills[step:],
        )

    def of_layers(self, layers: Sequence[int]) -> "Workload":
        """The demand of some layers; the others have none."""
        ours = np.tile(np.isin(np.arange(self.meta.num_layers), layers), self.num_steps)
        uses, counts = np.repeat(ours, np.diff(self.offsets)), np.diff(self.offsets) * ours
        offsets = np.append(0, np.cumsum(counts))
        return replace(self, offsets=offsets, experts=self.experts[uses], tokens=self.tokens[uses])


def build(
    block: Block,
    meta: TraceMeta,
    batch: int = 1,
    steps: int | None = None,
    window: int = 1,
    prefill: NDArray[np.bool_] | None = None,
) -> Workload:
    """Workload of a trace's rows, limited to `steps` steps; raises InputError if there are no tokens.

    `prefill` marks the rows of prefills, where the rows are sessions, one after the other.
    """
    if batch < 1 or (steps is not None and steps < 1):
        raise InputError(f"batch {batch}, steps {steps}: at least 1 expected")
    if prefill is not None:
        step = np.cumsum(~prefill | (np.diff(block.sequence, prepend=-1) != 0)) - 1
    else:
        step = _decode_steps(block, batch, window) if meta.phase == "decode" else _encode_steps(block, batch)
    rows = np.argsort(step, kind="stable")
    if steps is not None:
        rows = rows[step[rows] < steps]
    if not len(rows):
        raise InputError("no tokens in this trace")
    made = of_steps(block, rows, step[rows], meta, batch)
    prefills = None if prefill is None else prefill[rows[made.row_offsets[:-1]]]
    return replace(made, window=window, prefills=prefills)


def of_steps(block: Block, rows: Ints, step: Ints, meta: TraceMeta, batch: int) -> Workload:
    """Workload of rows whose steps, from 0 on, do not fall."""
    row_offsets = np.searchsorted(step, np.arange(step[-1] + 2))
    offsets, experts, tokens = _demand(block.experts[rows, :, : meta.top_k], step, meta)
    return Workload(meta, rows, row_offsets, offsets, experts, tokens, batch)


def one_step(meta: TraceMeta, block: Block) -> Workload:
    """Workload of rows that run at once, without their demand."""
    count = len(block.sequence)
    no_experts = np.zeros(0, np.int32)
    offsets = np.zeros(meta.num_layers + 1, np.int64)
    return Workload(meta, np.arange(count), np.array([0, count]), offsets, no_experts, no_experts, max(1, count))


def no_steps(meta: TraceMeta) -> Workload:
    """Workload before its first step."""
    none, no_experts = np.zeros(1, np.int64), np.zeros(0, np.int32)
    return Workload(meta, none[:0], none, none, no_experts, no_experts, 1)


def _encode_steps(block: Block, batch: int) -> Ints:
    """Step of each row when `batch` sequences run at once."""
    _, number = np.unique(block.sequence, return_inverse=True)
    return number // batch


def _decode_steps(block: Block, batch: int, window: int) -> Ints:
    """Step of each row when each of `batch` places runs one window of its sequence; the first free place is reused."""
    _, first, lengths = np.unique(block.sequence, return_index=True, return_counts=True)
    within = np.arange(len(block.sequence)) - np.repeat(first, lengths)
    return np.repeat(first_steps(lengths, batch, window), lengths) + within // window


def first_steps(lengths: Ints, batch: int, window: int = 1) -> Ints:
    """The first step of sequences of these lengths; each begins in the place of the batch that is free first."""
    starts = np.empty(len(lengths), np.int64)
    free: list[int] = [0] * min(batch, len(lengths))
    for number, length in enumerate(lengths.tolist()):
        starts[number] = start = heappop(free)
        heappush(free, start - -length // window)
    return starts


def _demand(used: NDArray[np.int16], step: Ints, meta: TraceMeta) -> tuple[Ints, NDArray[np.int32], NDArray[np.int32]]:
    """Offsets, distinct experts and their tokens of every event, from the used experts [n, L, k]."""
    layers, experts = meta.num_layers, meta.num_experts
    if np.array_equal(step, np.arange(len(step))):
        return _of_single_rows(used)
    event = step[:, None, None] * layers + np.arange(layers)[:, None]
    keys = (event * experts + used)[used >= 0]
    distinct, tokens = np.unique(keys, return_counts=True)
    events = (int(step[-1]) + 1) * layers
    offsets = np.searchsorted(distinct, np.arange(events + 1) * experts)
    return offsets, (distinct % experts).astype(np.int32), tokens.astype(np.int32)


def _of_single_rows(used: NDArray[np.int16]) -> tuple[Ints, NDArray[np.int32], NDArray[np.int32]]:
    """As `_demand`, of a row a step."""
    ordered = np.sort(used, axis=-1)
    there = ordered >= 0
    experts = ordered[there].astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=-1).reshape(-1))])
    return offsets, experts, np.ones(len(experts), np.int32)


class WarmUp(NamedTuple):
    """The number of steps that figures leave out, and how many distinct experts these demand."""

    steps: int
    demanded: int


def warm_up_of(workload: Workload, slots: int, steps: int | None = None) -> WarmUp:
    """The first steps that demand as many distinct experts as there are slots, but at most half of all steps.

    By then demand could have filled every slot once. The rule is the same for all policies; `steps` replaces it.
    """
    return warm_up_from(first_demands(workload), workload.num_steps, slots, steps)


def first_demands(workload: Workload) -> Ints:
    """The step that demands each expert first, rising, of all that are demanded."""
    uses = np.full(workload.meta.num_layers * workload.meta.num_experts, -1)
    uses[workload.keys[::-1]] = np.arange(len(workload.keys))[::-1]  # of several, the first one stays
    first = np.sort(uses[uses >= 0])
    return np.searchsorted(workload.offsets[:: workload.meta.num_layers], first, side="right") - 1


def warm_up_from(first: Ints, num_steps: int, slots: int, steps: int | None = None) -> WarmUp:
    """As `warm_up_of`, from the step that demands each expert first, rising, and the number of all steps."""
    half = num_steps // 2 if steps is None else steps
    if steps is None and 0 < slots <= len(first) and first[slots - 1] < half:
        half = int(first[slots - 1]) + 1
    return WarmUp(half, int(np.searchsorted(first, half)))


def demands(workload: Workload) -> Iterator[NDArray[np.int64]]:
    """Demand as 0 or 1 for each expert of each event, [s, L, E], in blocks of steps."""
    layers, count = workload.meta.num_layers, workload.meta.num_experts
    at_once = max(1, DEMAND_CELLS_PER_BLOCK // (layers * count))
    for first in range(0, workload.num_steps, at_once):
        steps = min(at_once, workload.num_steps - first)
        edges = workload.offsets[first * layers : (first + steps) * layers + 1]
        event = np.repeat(np.arange(steps * layers), np.diff(edges))
        flat = np.zeros(steps * layers * count, np.int64)
        flat[event * count + workload.experts[edges[0] : edges[-1]]] = 1
        yield flat.reshape(steps, layers, count)
