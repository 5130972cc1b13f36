"""Rows of a trace arranged for a run: staggered batches, repeated layers, drafted tokens to verify, sessions.

All return rows like those of a trace, so that everything behind them (workload, predictors, times) sees one trace.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.traces.schema import Block, TraceMeta, join, select

SEED = 0  # of the permutations of experts in repeated layers, and of which drafted tokens are accepted


def staggered(block: Block, batch: int) -> Block:
    """Rows of which a batch of decode sequences starts at spread positions.

    Sequence b of the first `batch` starts at b / batch of its length. What lies before that position is a sequence of
    its own, behind all others, the longest first: the place that is free first takes it, so no token is lost.
    """
    sequences, first, lengths = np.unique(block.sequence, return_index=True, return_counts=True)
    places = min(batch, len(sequences))
    cut = np.arange(places) * lengths[:places] // batch
    heads = [np.arange(first[place], first[place] + cut[place]) for place in range(places - 1, 0, -1)]
    is_head = np.zeros(len(block.sequence), np.bool_)
    for rows in heads:
        is_head[rows] = True
    order = np.concatenate([np.flatnonzero(~is_head), *heads])
    numbers = np.repeat(np.arange(len(heads)), [len(rows) for rows in heads])
    arranged = select(block, order)
    sequence = arranged.sequence.copy()
    sequence[len(order) - len(numbers) :] = int(sequences[-1]) + 1 + numbers
    return arranged._replace(sequence=sequence)


class Verified(NamedTuple):
    """Rows in windows that one step verifies, and which of them are kept: the accepted ones and the one after them."""

    block: Block
    kept: NDArray[np.bool_]  # [n]


def verified(block: Block, drafted: int, assumed_acceptance: Sequence[float]) -> Verified:
    """Decode rows of a model that verifies `drafted` tokens in each step, whose next step goes on behind those kept.

    A window is a token and the `drafted` ones after it in the trace; windows overlap where tokens were rejected. What
    was rejected is another token, of which nothing was recorded: it has the routing of a token drawn from its sequence.
    Tokens at a sequence's end that fill no window are left out. `assumed_acceptance` is the chance of each drafted
    token if those before it were accepted: one number for all positions or one for each.
    """
    chances, size = np.broadcast_to(np.array(assumed_acceptance, np.float64), (drafted,)), 1 + drafted
    _, first, lengths = np.unique(block.sequence, return_index=True, return_counts=True)
    rng = np.random.default_rng(SEED)
    advances = 1 + np.cumprod(rng.random((len(block.sequence), drafted)) < chances, axis=1).sum(axis=1)
    starts, owners = list[int](), list[int]()
    for owner, (start, end) in enumerate(zip(first.tolist(), (first + lengths).tolist(), strict=True)):
        while start + size <= end:
            starts.append(start)
            owners.append(owner)
            start += int(advances[start])
    begin, of = np.array(starts, np.int64), np.array(owners, np.int64)
    rows = (begin[:, None] + np.arange(size)).reshape(-1)
    kept = (np.arange(size) < advances[begin][:, None]).reshape(-1)
    lots = (rng.random((len(begin), size)) * lengths[of][:, None]).astype(np.int64)
    arranged = select(block, np.where(kept, rows, (first[of][:, None] + lots).reshape(-1)))
    return Verified(arranged._replace(position=block.position[rows]), kept)


class Sessions(NamedTuple):
    """Rows of sessions, one after the other, and which of them are of prefills."""

    block: Block
    prefill: NDArray[np.bool_]  # [n]


def sessions(prefill: Block, decode: Block, name: str) -> Sessions:
    """The prefill of each decode sequence, before it; raises InputError, naming the prefills' trace, if one is missing.

    Prefills that no decode sequence follows are left out. A session's text domain is that of its decode sequence.
    """
    numbers, first = np.unique(decode.sequence, return_index=True)
    missing = np.setdiff1d(numbers, prefill.sequence)
    if len(missing):
        raise InputError(f"{name}: no sequence {missing[0]}: a prefill for each sequence of the decode trace expected")
    prefill = select(prefill, np.isin(prefill.sequence, numbers))
    prefill = prefill._replace(source=decode.source[first[np.searchsorted(numbers, prefill.sequence)]])
    rows = join([prefill, decode])
    order = np.argsort(rows.sequence, kind="stable")
    return Sessions(select(rows, order), order < len(prefill.sequence))


def repeated(block: Block, meta: TraceMeta, layers: int) -> tuple[Block, TraceMeta]:
    """Rows and metadata of a model of `layers` layers: layer l is layer l mod L of the trace with permuted experts.

    The first L layers stay as they are; each later layer has a permutation of its own, the same in every call. The
    look-ahead ends at the last layer of each repetition, as the trace has none across that seam: -1 there.
    """
    if layers == meta.num_layers:
        return block, meta
    of = np.arange(layers) % meta.num_layers
    renamed = _renamed(layers, meta.num_layers, meta.num_experts)
    ahead = np.add.outer(np.arange(layers), np.arange(1, meta.lookahead_depth + 1))
    inside = (of[:, None] + ahead - np.arange(layers)[:, None] < meta.num_layers) & (ahead < layers)
    target = np.where(inside, ahead, 0)
    lookahead = np.where(inside[..., None], block.lookahead[:, of], np.int16(-1))
    deeper = block._replace(
        experts=renamed[np.arange(layers)[:, None], block.experts[:, of]],
        probs=block.probs[:, of],
        lookahead=renamed[target[..., None], lookahead],
    )
    return deeper, dataclasses.replace(meta, num_layers=layers)


def _renamed(layers: int, own: int, experts: int) -> NDArray[np.int16]:
    """New number of each expert of each layer, [layers, experts + 1]; the last column keeps -1 as it is."""
    rng = np.random.default_rng(SEED)
    renamed = np.tile(np.append(np.arange(experts), -1).astype(np.int16), (layers, 1))
    for layer in range(own, layers):
        renamed[layer, :-1] = rng.permutation(experts)
    return renamed
