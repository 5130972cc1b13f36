"""The weights that routers give to experts, which approximate miss rules go by: these change what a model computes.

Decisions count what such a rule changes: uses that are dropped, deferred or computed from a copy of few bits, and the
share of the routers' weights that these carry. What that does to the quality of a model's output is not measured here.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.traces.schema import Block
from specmoe.traces.workload import Workload

MILLION = 10**6


class Gate(NamedTuple):
    """What the routers' weights say of each demanded expert, [U]; weights of a token's experts add up to 1.

    Of an expert that several tokens use, `before` and `after` are those of the token that needs it most.
    """

    before: NDArray[np.float64]  # sum of the weights of a token's experts that have more weight
    after: NDArray[np.int64]  # number of a token's experts that have less weight
    mass: NDArray[np.int64]  # weight of all its tokens, millionths of a token


def gate_of(workload: Workload, block: Block) -> Gate:
    """The weights of a workload's demand; `block` is the trace's. Raises InputError if they were not recorded."""
    meta = workload.meta
    used = block.experts[workload.rows, :, : meta.top_k]
    weights = np.where(used >= 0, block.probs[workload.rows, :, : meta.top_k].astype(np.float64), 0)
    if np.isnan(weights).any():
        raise InputError("approximate miss rules go by router probabilities, which this trace lacks: others expected")
    total = weights.sum(axis=-1, keepdims=True)
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / meta.top_k)
    falling = np.argsort(-weights, axis=-1, kind="stable")
    rank = np.argsort(falling, axis=-1, kind="stable")
    ordered = np.take_along_axis(weights, falling, axis=-1)
    before = np.take_along_axis(np.cumsum(ordered, axis=-1) - ordered, rank, axis=-1)
    after = (used >= 0).sum(axis=-1, keepdims=True) - 1 - rank
    event = workload.step_of_row[:, None, None] * meta.num_layers + np.arange(meta.num_layers)[:, None]
    demanded = workload.events * meta.num_experts + workload.experts  # rising
    place = np.searchsorted(demanded, (event * meta.num_experts + used)[used >= 0])
    least, most = np.full(len(demanded), np.inf), np.zeros(len(demanded), np.int64)
    np.minimum.at(least, place, before[used >= 0])
    np.maximum.at(most, place, after[used >= 0])
    mass = np.bincount(place, weights[used >= 0], minlength=len(demanded))
    return Gate(least, most, np.round(mass * MILLION).astype(np.int64))
