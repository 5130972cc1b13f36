"""What a batch of sequences asks of the experts, step by step.

Decode: a batch is so many places; each holds one sequence and contributes one token a step; when a sequence ends the
next one takes its place (continuous batching), and the last steps run with fewer. Encode: a step is the whole of the
next so many sequences at once. An *event* is one (step, layer): number `step * L + layer`. Its demand is the distinct
experts its tokens need, ascending, each with its number of tokens. Dropped tokens demand nothing.

Which experts each event demands, as a table of yes and no.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.traces.schema import Block, TraceMeta

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Workload:
    """S steps of L layers over E experts; `rows` of the trace are ordered by step.

    Demand of event e: `experts[offsets[e]:offsets[e + 1]]` with `tokens` alike. Rows of step s:
    `rows[row_offsets[s]:row_offsets[s + 1]]`.
    """

    meta: TraceMeta
    rows: Ints  # [n], indices into the trace
    row_offsets: Ints  # [S + 1]
    offsets: Ints  # [S * L + 1]
    experts: NDArray[np.int32]  # [U]
    tokens: NDArray[np.int32]  # [U]
    batch: int

    @property
    def num_steps(self) -> int:
        """S."""
        return len(self.row_offsets) - 1

    @property
    def num_events(self) -> int:
        """S * L."""
        return len(self.offsets) - 1

    @cached_property
    def step_tokens(self) -> Ints:
        """Tokens that run in each step, [S]."""
        return np.diff(self.row_offsets)

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


def build(block: Block, meta: TraceMeta, batch: int = 1, steps: int | None = None) -> Workload:
    """The workload of a trace's rows, at most `steps` steps of it; raises InputError for an empty one."""
    if batch < 1 or (steps is not None and steps < 1):
        raise InputError(f"batch {batch}, steps {steps}: at least 1 expected")
    step = _decode_steps(block, batch) if meta.phase == "decode" else _encode_steps(block, batch)
    rows = np.argsort(step, kind="stable")
    if steps is not None:
        rows = rows[step[rows] < steps]
    if not len(rows):
        raise InputError("no tokens in this trace")
    row_offsets = np.searchsorted(step[rows], np.arange(step[rows[-1]] + 2))
    offsets, experts, tokens = _demand(block.experts[rows, :, : meta.top_k], step[rows], meta)
    return Workload(meta, rows, row_offsets, offsets, experts, tokens, batch)


def _encode_steps(block: Block, batch: int) -> Ints:
    """Step of each row when `batch` sequences run at once."""
    _, number = np.unique(block.sequence, return_inverse=True)
    return number // batch


def _decode_steps(block: Block, batch: int) -> Ints:
    """Step of each row when each of `batch` places runs one token of its sequence; the place free first is taken."""
    sequences, first, lengths = np.unique(block.sequence, return_index=True, return_counts=True)
    starts = np.empty(len(sequences), np.int64)
    free: list[int] = [0] * min(batch, len(sequences))
    for number, length in enumerate(lengths.tolist()):
        starts[number] = start = heappop(free)
        heappush(free, start + length)
    within = np.arange(len(block.sequence)) - np.repeat(first, lengths)
    return np.repeat(starts, lengths) + within


def _demand(used: NDArray[np.int16], step: Ints, meta: TraceMeta) -> tuple[Ints, NDArray[np.int32], NDArray[np.int32]]:
    """Offsets, distinct experts and their tokens of every event, from the experts used, [n, L, k]."""
    layers, experts = meta.num_layers, meta.num_experts
    event = step[:, None, None] * layers + np.arange(layers)[:, None]
    keys = (event * experts + used)[used >= 0]
    distinct, tokens = np.unique(keys, return_counts=True)
    events = (int(step[-1]) + 1) * layers
    offsets = np.searchsorted(distinct, np.arange(events + 1) * experts)
    return offsets, (distinct % experts).astype(np.int32), tokens.astype(np.int32)


CELLS_AT_ONCE = 1 << 22  # of steps * layers * experts, so that blocks stay small whatever the model and the run


def demands(workload: Workload) -> Iterator[NDArray[np.int64]]:
    """Whether each event demands each expert, [s, L, E], in blocks of steps."""
    layers, count = workload.meta.num_layers, workload.meta.num_experts
    at_once = max(1, CELLS_AT_ONCE // (layers * count))
    for first in range(0, workload.num_steps, at_once):
        steps = min(at_once, workload.num_steps - first)
        edges = workload.offsets[first * layers : (first + steps) * layers + 1]
        event = np.repeat(np.arange(steps * layers), np.diff(edges))
        flat = np.zeros(steps * layers * count, np.int64)
        flat[event * count + workload.experts[edges[0] : edges[-1]]] = 1
        yield flat.reshape(steps, layers, count)
