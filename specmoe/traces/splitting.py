"""Splitting a trace into train, validation and test by whole sequences, in equal shares of every text domain.

Sequences are shuffled within their domain and assigned one by one to the split that is furthest behind its share, so a
split is off by at most about one sequence, overall and within each domain. The two phases of a run share their sequence
numbers: split with equal seeds, both assign the same sequences to the same split.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import make_directory
from specmoe.traces.schema import Block, TraceMeta, limit_lookahead, regroup, round_probs, select
from specmoe.traces.store import Trace, write_trace

SPLITS = ("train", "validation", "test")


def deal(domains: list[str], fractions: tuple[float, ...], rng: np.random.Generator) -> NDArray[np.int8]:
    """Split of each sequence, 0..len(fractions)-1, given its domain; ties go to the earlier split."""
    order = np.lexsort((rng.random(len(domains)), np.array(domains, np.str_)))
    shares = np.array(fractions)
    counts = np.zeros(len(fractions))
    split = np.empty(len(domains), np.int8)
    for rank, sequence in enumerate(order, start=1):
        split[sequence] = behind = int(np.argmax(np.round(shares * rank - counts, 9)))
        counts[behind] += 1
    return split


def split_trace(
    trace: Trace,
    fractions: tuple[float, ...],
    seed: int,
    out: Path,
    advance: Callable[[int], object] = lambda rows: None,
    prob_bits: int | None = None,
    lookahead_depth: int | None = None,
) -> dict[str, Path]:
    """Write `out`/train.parquet, validation.parquet and test.parquet, reading the trace three times.

    `advance` is called with the number of rows of each block read. `prob_bits` rounds probabilities to this number of
    significant bits; `lookahead_depth` limits the look-ahead; the metadata record both. Raises InputError unless the
    fractions are three positive numbers with sum 1, the bits are 1 to 11 and the trace has the depth, and for too few
    sequences.
    """
    if len(fractions) != len(SPLITS) or min(fractions) <= 0 or not np.isclose(sum(fractions), 1):
        raise InputError(f"fractions {fractions}: three positive numbers with sum 1 expected, e.g. 0.8,0.1,0.1")
    bits = 11 if prob_bits is None else prob_bits
    if not 1 <= bits <= 11:
        raise InputError(f"{bits} bits: 1 to 11 expected, the significant bits of a float16")
    depth = trace.meta.lookahead_depth if lookahead_depth is None else lookahead_depth
    if not 1 <= depth <= trace.meta.lookahead_depth:
        raise InputError(f"look-ahead depth {depth}: {trace.path} has depths 1 to {trace.meta.lookahead_depth}")
    sequences, first = np.unique(trace.sequence, return_index=True)
    domains = [trace.meta.sources[code] for code in trace.source[first]]
    split = deal(domains, fractions, np.random.default_rng(seed))
    _require_all(trace, split)
    make_directory(out)
    paths = {}
    for number, name in enumerate(SPLITS):
        paths[name] = out / f"{name}.parquet"
        blocks = _picked(trace, sequences[split == number], advance)
        kept = (limit_lookahead(round_probs(block, bits), depth) for block in blocks)
        share = f"{(split == number).sum()} of {len(split)} recorded sequences"
        write_trace(paths[name], _meta(trace.meta, name, bits, depth, share), regroup(kept))
    return paths


def _meta(meta: TraceMeta, split: str, bits: int, depth: int, share: str) -> TraceMeta:
    notes = [*meta.notes, share]
    if depth < meta.lookahead_depth:
        notes.append(f"look-ahead limited to {depth} of {meta.lookahead_depth} recorded depths")
    if meta.split != "all":
        notes.append(f"cut by whole sequences from text that was the {meta.split} split")
    if bits < 11:
        notes.append(f"probabilities rounded to {bits} significant bits")
    return dataclasses.replace(meta, split=split, lookahead_depth=depth, notes=tuple(notes))


def _picked(trace: Trace, sequences: NDArray[np.int32], advance: Callable[[int], object]) -> Iterator[Block]:
    for block in trace.blocks():
        yield select(block, np.isin(block.sequence, sequences))
        advance(len(block.sequence))


def _require_all(trace: Trace, split: NDArray[np.int8]) -> None:
    for number, name in enumerate(SPLITS):
        if not (split == number).any():
            raise InputError(
                f"{trace.path}: {len(split)} sequences are too few, {name} would be empty: more sequences expected"
            )
