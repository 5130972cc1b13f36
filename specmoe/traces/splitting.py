"""Train, validation and test by whole sequences, in equal shares of every text domain.

Sequences are shuffled within their domain and dealt out, each to the split that is furthest behind its share, so a
split is never off by more than about one sequence, over all or within a domain. The two phases of a run share their
sequence numbers: split with equal seeds, both give the same sequences to the same split.

The train split that belongs to a trace: what predictors and popularity are learnt from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import specmoe.traces
from specmoe.errors import InputError
from specmoe.files import make_directory
from specmoe.traces.schema import Block, TraceMeta, limit_lookahead, regroup, round_probs, select
from specmoe.traces.store import Trace, write_trace

SPLITS = ("train", "validation", "test")


def deal(domains: list[str], fractions: tuple[float, ...], rng: np.random.Generator) -> NDArray[np.int8]:
    """The split, 0..len(fractions)-1, of each sequence, whose domains are given; ties go to the earlier split."""
    order = np.lexsort((rng.random(len(domains)), np.array(domains, np.str_)))
    shares = np.array(fractions)
    dealt = np.zeros(len(fractions))
    split = np.empty(len(domains), np.int8)
    for rank, sequence in enumerate(order, start=1):
        split[sequence] = behind = int(np.argmax(np.round(shares * rank - dealt, 9)))
        dealt[behind] += 1
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
    """Write `out`/train.parquet, validation.parquet and test.parquet; `advance` is told of rows read, three times over.

    With `prob_bits`, probabilities are rounded to so many significant bits; with `lookahead_depth`, the look-ahead is
    kept over so many layers only; the metadata say both. Raises InputError for fractions that are not three positive
    numbers of sum 1, other than 1 to 11 bits, a depth that the trace does not have, and too few sequences.
    """
    if len(fractions) != len(SPLITS) or min(fractions) <= 0 or not np.isclose(sum(fractions), 1):
        raise InputError(f"fractions {fractions}: three positive numbers of sum 1 expected, such as 0.8,0.1,0.1")
    bits = 11 if prob_bits is None else prob_bits
    if not 1 <= bits <= 11:
        raise InputError(f"{bits} bits: a float16 has 1 to 11 significant ones")
    depth = trace.meta.lookahead_depth if lookahead_depth is None else lookahead_depth
    if not 1 <= depth <= trace.meta.lookahead_depth:
        raise InputError(f"look-ahead depth {depth}: {trace.path} has depths 1 to {trace.meta.lookahead_depth}")
    sequences, first = np.unique(trace.sequence, return_index=True)
    domains = [trace.meta.sources[code] for code in trace.source[first]]
    split = deal(domains, fractions, np.random.default_rng(seed))
    _require_all(trace, split)
    make_directory(out)
    written = {}
    for number, name in enumerate(SPLITS):
        written[name] = out / f"{name}.parquet"
        picked = _picked(trace, sequences[split == number], advance)
        kept = (limit_lookahead(round_probs(block, bits), depth) for block in picked)
        write_trace(written[name], _meta(trace.meta, name, bits, depth), regroup(kept))
    return written


def _meta(meta: TraceMeta, split: str, bits: int, depth: int) -> TraceMeta:
    notes = list(meta.notes)
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
            raise InputError(f"{trace.path}: {len(split)} sequences leave {name} without any: more sequences expected")


def train_beside(trace: str) -> str | None:
    """The name of a bundled trace's train split; None for a file, of which nobody knows what it was cut from."""
    parts = trace.split("/")
    return "/".join([*parts[:-1], "train"]) if len(parts) == 3 and not Path(trace).exists() else None


def open_train(name: str, meta: TraceMeta) -> Trace:
    """The train split for a trace with this metadata; raises InputError if it is of another phase or model size."""
    train = specmoe.traces.open(name)
    for what in ("phase", "num_layers", "num_experts", "top_k"):
        if getattr(train.meta, what) != getattr(meta, what):
            raise InputError(f"{name}: {what} {getattr(train.meta, what)}: {getattr(meta, what)} expected")
    return train
