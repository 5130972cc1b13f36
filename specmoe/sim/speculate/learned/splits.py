"""Which sequences train and which validate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError


class Spans(NamedTuple):
    """Rows [first, end) of sequences."""

    first: NDArray[np.int64]
    end: NDArray[np.int64]


def spans_of(sequence: NDArray[np.int32]) -> Spans:
    """The rows of every sequence of a trace."""
    edges = np.flatnonzero(np.diff(sequence, prepend=sequence[0] - 1 if len(sequence) else 0))
    return Spans(edges, np.append(edges[1:], len(sequence)))


def split(spans: Spans, share: float, seed: int) -> tuple[Spans, Spans]:
    """Train and validation: whole sequences, drawn by lot; raises InputError where one of them would be empty."""
    count = len(spans.first)
    held = round(share * count)
    if not 0 < held < count:
        raise InputError(
            f"--validation {share:g} of {count} sequences: at least one to train and one to validate expected"
        )
    lots = np.random.default_rng(seed).permutation(count)
    return take(spans, np.sort(lots[held:])), take(spans, np.sort(lots[:held]))


def take(spans: Spans, which: NDArray[np.int64]) -> Spans:
    """Some of the sequences."""
    return Spans(spans.first[which], spans.end[which])


def rows_of(spans: Spans) -> NDArray[np.int64]:
    """All rows of the sequences, one after the other."""
    length = spans.end - spans.first
    start = np.repeat(spans.first - np.append(0, np.cumsum(length)[:-1]), length)
    return start + np.arange(length.sum())
