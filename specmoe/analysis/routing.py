"""How a model routes: how evenly, how predictably, and how much the text's domain decides; a number per MoE layer.

All functions look at the expert that ran (the first of a token's experts); rows a full expert dropped are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.traces.schema import Block

Floats = NDArray[np.float64]


class Usage(NamedTuple):
    """Use of one layer's experts: the numbers published for google/switch-base-128 too."""

    entropy_bits: float  # log2(num_experts) if all are used alike
    variation: float  # standard deviation of the experts' counts over their mean
    active_experts: int
    top_share: float


def usage(counts: NDArray[np.int64]) -> Usage:
    """Statistics of one layer's counts [num_experts], at least one of them positive."""
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log2(shares)).sum())
    return Usage(entropy, float(counts.std() / counts.mean()), len(shares), float(shares.max()))


def counts(block: Block, num_experts: int) -> NDArray[np.int64]:
    """How many tokens each expert of each layer served, [L, num_experts]."""
    return np.stack([np.bincount(ids[ids >= 0], minlength=num_experts) for ids in block.experts[:, :, 0].T])


def persistence(block: Block) -> Floats:
    """Share of neighbours in a sequence that the same expert served, among those that were both served, [L]."""
    first = block.experts[:, :, 0]
    following = block.sequence[1:] == block.sequence[:-1]
    served = (first[1:] >= 0) & (first[:-1] >= 0) & following[:, None]
    same: Floats = ((first[1:] == first[:-1]) & served).sum(axis=0) / served.sum(axis=0)
    return same


def lookahead_accuracy(block: Block, depth: int, best: int) -> Floats:
    """Share of tokens whose expert `depth` layers on is among the look-ahead's `best` candidates, [L - depth]."""
    layers = block.experts.shape[1] - depth
    wanted = block.experts[:, depth:, :1]
    found: Floats = (block.lookahead[:, :layers, depth - 1, :best] == wanted).any(axis=-1).mean(axis=0)
    return found


def domain_information(block: Block, num_experts: int) -> Floats:
    """Mutual information in bits between a token's text domain and its expert, [L].

    Bias corrected after Miller and Madow (1955): independent variables give 0 on average.
    """
    return np.array([_mutual_information(block.source, ids, num_experts) for ids in block.experts[:, :, 0].T])


def confidence(block: Block) -> Floats:
    """Median router probability of the expert that ran, [L]."""
    return np.median(block.probs[:, :, 0].astype(np.float64), axis=0)


def table_accuracy(train: Block, test: Block, keys: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]]) -> Floats:
    """Top-1 accuracy on `test` of always naming the expert most often seen with a key in `train`, [L].

    `keys` holds, per layer, the keys [n] of both blocks. A key that `train` lacks gets the layer's favourite expert;
    ties go to the lower expert.
    """
    layers = zip(train.experts[:, :, 0].T, test.experts[:, :, 0].T, keys, strict=True)
    return np.array([(_lookup(known, seen, asked) == wanted).mean() for known, wanted, (seen, asked) in layers])


def _lookup(experts: NDArray[np.int16], seen: NDArray[np.int32], asked: NDArray[np.int32]) -> NDArray[np.int64]:
    size = int(max(seen.max(), asked.max())) + 1
    votes = np.zeros((size, int(experts.max()) + 1), np.int32)
    np.add.at(votes, (seen, experts), 1)
    favourite = int(votes.sum(axis=0).argmax())
    best = np.where(votes.any(axis=1), votes.argmax(axis=1), favourite)
    return best[asked]


def _mutual_information(source: NDArray[np.int16], experts: NDArray[np.int16], num_experts: int) -> float:
    served = experts >= 0
    joint = np.zeros((int(source.max()) + 1, num_experts))
    np.add.at(joint, (source[served], experts[served]), 1)
    total = joint.sum()
    cells = np.count_nonzero(joint), np.count_nonzero(joint.sum(axis=1)), np.count_nonzero(joint.sum(axis=0))
    bias = (cells[0] - cells[1] - cells[2] + 1) / (2 * total * np.log(2))
    return _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1)) - _entropy(joint) - float(bias)


def _entropy(weights: Floats) -> float:
    shares = weights[weights > 0] / weights.sum()
    return float(-(shares * np.log2(shares)).sum())
