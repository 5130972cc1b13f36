"""Rows of a trace arranged for a run: batches at staggered positions, and layers repeated for a deeper model.

Both return rows like those of a trace, so that everything behind them (workload, predictors, times) sees one trace.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from specmoe.traces.schema import Block, TraceMeta, select

SEED = 0  # of the permutations of experts in repeated layers


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
