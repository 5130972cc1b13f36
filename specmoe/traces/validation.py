"""Validation of traces against the rules of `specmoe.traces.schema`, one row group at a time.

Rows and layers are numbered from 0, look-ahead depths from 1. A rule is a mask of the values that break it,
their field, and the expected value.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import TraceError
from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.store import Trace

Mask = NDArray[np.bool_]
FEW = 16  # candidates that are compared in pairs, which is then ten times as fast as to sort them


class Rule(NamedTuple):
    """A rule about one field: where it is broken, and what is expected."""

    broken: Mask  # [n], [n, L, ...], of the look-ahead [n, L, D, ...]
    field: str
    expected: str


def validate(trace: Trace, advance: Callable[[int], object] = lambda rows: None) -> int:
    """Check every row and return their number; `advance` is called with the number of rows of each block.

    Raises TraceError with file, row and field at the first row group that breaks a rule.
    """
    checked = 0
    last: tuple[int, int] | None = None
    for block in trace.blocks():
        check(block, trace.meta, str(trace.path), first_row=checked, last=last)
        checked += len(block.sequence)
        last = (int(block.sequence[-1]), int(block.position[-1]))
        advance(len(block.sequence))
    return checked


def read_valid(trace: Trace) -> Block:
    """Read and check all rows of a trace; raises TraceError with file, row and field."""
    block = trace.read()
    check(block, trace.meta, str(trace.path))
    return block


def read_used(trace: Trace) -> Block:
    """Read and check which experts were used, and no other column; raises TraceError with file, row and field."""
    block = trace.read(("sequence", "position", "experts"))
    _check([*_row_order(block, trace.meta, None), *_experts(block.experts, trace.meta)], block, str(trace.path), 0)
    return block


def check_order(block: Block, meta: TraceMeta, name: str, first_row: int, last: tuple[int, int] | None) -> None:
    """Raise TraceError unless sequences and positions are in order; see `check`."""
    _check(_row_order(block, meta, last), block, name, first_row)


def check_rows(block: Block, meta: TraceMeta, name: str, first_row: int) -> None:
    """Raise TraceError for the first rule about single rows that columns which were read break; see `check`."""
    rules = {"experts": _experts(block.experts, meta), "lookahead": _lookahead(block.lookahead, meta)}
    read = [name for name in rules if len(getattr(block, name))]
    _check((rule for name in read for rule in rules[name]), block, name, first_row)


def check(block: Block, meta: TraceMeta, name: str, first_row: int = 0, last: tuple[int, int] | None = None) -> None:
    """Raise TraceError for the first rule that a block breaks.

    `name` is the file in the error, `first_row` the number of the block's first row, `last` the (sequence, position)
    of the row before it.
    """
    _check(_rules(block, meta, last), block, name, first_row)


def _check(rules: Iterable[Rule], block: Block, name: str, first_row: int) -> None:
    """Raise TraceError for the first rule that a block breaks."""
    for rule in rules:
        if rule.broken.any():
            row, *inner = (int(index) for index in np.unravel_index(int(rule.broken.argmax()), rule.broken.shape))
            where = f"row {first_row + row} (sequence {block.sequence[row]}, position {block.position[row]})"
            if inner:
                where += f", layer {inner[0]}"
            if rule.field == "lookahead":
                where += f", depth {inner[1] + 1}"
            value = getattr(block, rule.field)
            value = value[(row, *inner[: value.ndim - 2])]
            raise TraceError(f"{name}: {where}: {rule.field} is {value.tolist()}: {rule.expected}")


def _rules(block: Block, meta: TraceMeta, last: tuple[int, int] | None) -> Iterator[Rule]:
    yield from _row_order(block, meta, last)
    yield Rule(block.token < -1, "token", "a token id, or -1 for unknown, expected")
    yield Rule((block.source < 0) | (block.source >= len(meta.sources)), "source", "a code into the sources expected")
    yield from _experts(block.experts, meta)
    yield from _probs(block, meta)
    yield from _lookahead(block.lookahead, meta)


def _row_order(block: Block, meta: TraceMeta, last: tuple[int, int] | None) -> Iterator[Rule]:
    sequence, position = (
        np.concatenate(([before], column)).astype(np.int64)
        for before, column in zip(last or (-1, -1), (block.sequence, block.position), strict=True)
    )
    step, advance = np.diff(sequence), np.diff(position)
    yield Rule(block.sequence < 0, "sequence", "0 or more expected")
    yield Rule(block.position < 0, "position", "0 or more expected")
    yield Rule(step < 0, "sequence", "rows ordered by sequence, then position, expected")
    yield Rule((step == 0) & (advance == 0), "position", "a second row of the same sequence and position")
    yield Rule((step == 0) & (advance < 0), "position", "rows ordered by sequence, then position, expected")
    if meta.origin != "imported":
        expected = np.where(step == 0, position[:-1] + 1, 0)
        yield Rule(block.position != expected, "position", "positions 0, 1, 2, ... within a sequence expected")


def _experts(experts: NDArray[np.int16], meta: TraceMeta) -> Iterator[Rule]:
    ids = f"ids 0..{meta.num_experts - 1}"
    used, others = experts[..., : meta.top_k], experts[..., meta.top_k :]
    dropped = used == -1
    yield Rule((experts >= meta.num_experts) | (experts < -1), "experts", f"{ids} expected")
    yield Rule(others == -1, "experts", f"{ids} expected from place {meta.top_k} on")
    partly = dropped.any(axis=-1) & ~dropped.all(axis=-1)
    yield Rule(partly, "experts", f"-1 in all or none of the first {meta.top_k} places expected")
    if meta.dropless:
        yield Rule(dropped, "experts", f"{ids} expected, because the metadata says that the trace is dropless")
    yield Rule(_repeats(experts), "experts", "distinct ids within a layer expected")


def _probs(block: Block, meta: TraceMeta) -> Iterator[Rule]:
    probs = block.probs
    if not meta.has_probs:
        yield Rule(~np.isnan(probs), "probs", "NaN expected, because the metadata says has_probs = false")
        return
    wrong = ~((probs >= 0) & (probs <= 1)) & (block.experts >= 0)
    yield Rule(wrong, "probs", "numbers between 0 and 1 expected")
    others = probs[..., meta.top_k :]
    rising = others[..., 1:] > others[..., :-1]
    yield Rule(rising, "probs", f"falling probabilities from place {meta.top_k} on expected")


def _lookahead(lookahead: NDArray[np.int16], meta: TraceMeta) -> Iterator[Rule]:
    if not meta.has_lookahead:
        yield Rule(lookahead != -1, "lookahead", "-1 expected, because the metadata says has_lookahead = false")
        return
    layers, depths = np.arange(meta.num_layers), np.arange(1, meta.lookahead_depth + 1)
    beyond = (layers[:, None] + depths >= meta.num_layers)[..., None]
    yield Rule((lookahead != -1) & beyond, "lookahead", f"-1 expected, because the last layer is {meta.num_layers - 1}")
    outside = (lookahead < 0) | (lookahead >= meta.num_experts)
    yield Rule(outside & ~beyond, "lookahead", f"ids 0..{meta.num_experts - 1} expected")
    yield Rule(_repeats(lookahead), "lookahead", "distinct ids within a depth expected")


def _repeats(ids: NDArray[np.int16]) -> Mask:
    """Mask of rows whose M candidates, [..., M], name an expert twice; -1 is ignored."""
    if ids.shape[-1] > FEW:
        ordered = np.sort(ids, axis=-1)
        repeated: Mask = ((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)).any(axis=-1)
        return repeated
    places = [np.ascontiguousarray(ids[..., place]) for place in range(ids.shape[-1])]
    twice = np.zeros(ids.shape[:-1], np.bool_)
    for one, other in combinations(places, 2):
        twice |= (one == other) & (one >= 0)
    return twice
