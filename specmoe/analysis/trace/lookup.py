"""The simplest predictor there is: a table from what is known to the expert seen with it most often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from specmoe.analysis.trace.routing import Floats
from specmoe.traces.schema import Block


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
