"""Training data: a trace's rows as tables that a network gathers from, and which sequences train or validate.

The tables have one row more than the trace, for a token that does not exist. Expert E stands for "none", so ids index
embeddings without a special case.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.traces.schema import Block

POSITIONS = 12  # buckets: 0, 1, 2-3, 4-7, ...
FEWEST = 2  # occurrences that give a token id an embedding of its own


class Columns(NamedTuple):
    """Rows 0..n-1 of a trace and a row n of nothing; L layers, M candidates, K tokens around."""

    token: NDArray[np.int64]  # [n + 1], index of the word; `words` is unknown, `words + 1` none
    position: NDArray[np.int64]  # [n + 1], bucket
    experts: NDArray[np.int64]  # [n + 1, L, M], those used first
    probs: NDArray[np.float32]  # [n + 1, L, M]
    lookahead: NDArray[np.int64]  # [n + 1, L, M], or [n + 1, 0, 0] where it is not seen
    around: NDArray[np.int64]  # [n + 1, K], rows
    following: NDArray[np.int64]  # [n + 1], the row of the sequence's next token


def columns_of(block: Block, config: NetConfig, vocabulary: NDArray[np.int32]) -> Columns:
    """The tables of a trace's rows, which are ordered by sequence and position."""
    count, seen = config.candidates, config.features
    experts = block.experts[:, :, :count].astype(np.int64)
    probs = block.probs[:, :, :count].astype(np.float32) if "probs" in seen else _by_rank(experts)
    lookahead = block.lookahead[:, :, 0, :count] if "lookahead" in seen else experts[:, :0, :0]
    following = neighbours(block.sequence, (1,))[:, 0]
    return Columns(
        token=np.append(words_of(block.token, vocabulary), len(vocabulary) + 1),
        position=np.append(_bucket(block.position), 0),
        experts=_with_none(experts, config.experts),
        probs=np.concatenate([np.where(experts >= 0, np.nan_to_num(probs), 0), np.zeros_like(probs[:1])], axis=0)
        if len(probs)
        else np.zeros((1, *probs.shape[1:]), np.float32),
        lookahead=_with_none(lookahead.astype(np.int64), config.experts),
        around=neighbours(block.sequence, config.around),
        following=following if config.wraps else np.full_like(following, len(block.sequence)),
    )


def vocabulary_of(tokens: NDArray[np.int32], seen: bool) -> NDArray[np.int32]:
    """Token ids that get an embedding of their own, ascending; the rarer ones share one, which so gets trained too."""
    ids, counts = np.unique(tokens, return_counts=True)
    return ids[counts >= FEWEST].astype(np.int32) if seen else ids[:0].astype(np.int32)


def words_of(tokens: NDArray[np.int32], vocabulary: NDArray[np.int32]) -> NDArray[np.int64]:
    """Index of each token id in the vocabulary; its length for an unknown one."""
    if not len(vocabulary):
        return np.zeros(len(tokens), np.int64)
    place = np.minimum(np.searchsorted(vocabulary, tokens), len(vocabulary) - 1)
    return np.where(vocabulary[place] == tokens, place, len(vocabulary)).astype(np.int64)


def neighbours(sequence: NDArray[np.int32], distances: tuple[int, ...]) -> NDArray[np.int64]:
    """Row of the token at each distance in the same sequence, [n + 1, K]; n where there is none."""
    n = len(sequence)
    rows = np.arange(n)[:, None] + np.array(distances, np.int64)
    inside = (rows >= 0) & (rows < n)
    same = inside & (sequence[np.where(inside, rows, 0)] == sequence[:, None]) if n else inside
    return np.concatenate([np.where(same, rows, n), np.full((1, len(distances)), n)])


def _with_none(ids: NDArray[np.int64], none: int) -> NDArray[np.int64]:
    """One row more, of nothing; -1 becomes `none`."""
    return np.concatenate([np.where(ids < 0, none, ids), np.full((1, *ids.shape[1:]), none, np.int64)])


def _by_rank(experts: NDArray[Any]) -> NDArray[np.float32]:
    """1, 1/2, 1/3, ... scaled to sum to 1: weights of candidates whose probabilities are not seen."""
    weights = 1 / (1 + np.arange(experts.shape[2]))
    return np.broadcast_to(weights / weights.sum(), experts.shape).astype(np.float32)


def _bucket(position: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.minimum(np.frexp(position.astype(np.float64))[1], POSITIONS - 1).astype(np.int64)


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
