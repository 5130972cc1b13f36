"""Predictors that need no training, by name. `fit` is given the train split where there is one.

Each says, at every event, which experts the next event demands. `peeks` marks those that know what no runtime could.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.speculate.pooling import pool
from specmoe.sim.speculate.table import PredictionTable, no_predictions
from specmoe.traces.schema import Block
from specmoe.traces.workload import Workload

WIDTH = 8
CELLS_AT_ONCE = 1 << 22  # of steps * layers * experts, so that blocks stay small whatever the model and the run


class Routed(NamedTuple):
    """A workload and the trace rows it is made of."""

    workload: Workload
    block: Block


class Predictor(ABC):
    """What is predicted at (step, layer) depends only on routing up to there, unless it `peeks`."""

    peeks = False

    def fit(self, train: Routed) -> None:  # noqa: B027  # learning is optional
        """Learn from the train split; most of these learn nothing."""

    @abstractmethod
    def predict(self, routed: Routed) -> PredictionTable:
        """Predictions for every event."""


class Nobody(Predictor):
    """No prediction."""

    def predict(self, routed: Routed) -> PredictionTable:
        """Nothing."""
        return no_predictions(routed.workload.num_events)


class LayerMinus1(Predictor):
    """The next layer wants the experts with the numbers that this layer's router prefers (specMoE's layer_minus_1).

    Where probabilities were not recorded, the confidence is that of the look-ahead.
    """

    def predict(self, routed: Routed) -> PredictionTable:
        """Candidates and probabilities of the layer before, for all layers but the first."""
        rows = routed.workload.rows
        experts, probs = routed.block.experts[rows], routed.block.probs[rows].astype(np.float32)
        return _next_layer("layer_minus_1", routed.workload, experts, np.where(np.isnan(probs), _by_rank(probs), probs))


class LookAhead(Predictor):
    """This layer's input through the next layer's router, as recorded (Eliseev & Mazur 2023, mixtral-offloading).

    Its probabilities are not recorded: the confidence of the candidate of rank r is 1 / (r + 1).
    """

    def predict(self, routed: Routed) -> PredictionTable:
        """Recorded candidates; raises InputError for a trace without them, or recorded for a layer further on."""
        meta = routed.workload.meta
        if not meta.has_lookahead or meta.lookahead_depth != 1:
            raise InputError("lookahead: this trace has no look-ahead over one layer")
        experts = routed.block.lookahead[routed.workload.rows]
        return _next_layer("lookahead", routed.workload, experts, _by_rank(experts))


class Frequency(Predictor):
    """The experts a layer has used most so far, the train split included (MoE-Infinity's and LFU's assumption).

    The confidence is the share of steps that demanded the expert. An expert that nobody used yet is no candidate.
    """

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] | None = None
        self._steps = 0

    def fit(self, train: Routed) -> None:
        """Count the demands of every expert."""
        self._counts = sum(part.sum(axis=0) for part in demands(train.workload))
        self._steps = train.workload.num_steps

    def predict(self, routed: Routed) -> PredictionTable:
        """Counts are updated after every step."""
        meta, steps = routed.workload.meta, self._steps
        counts = np.zeros((meta.num_layers, meta.num_experts), np.int64) if self._counts is None else self._counts
        found, shares = [], []
        for now in demands(routed.workload):
            before = np.cumsum(now, axis=0) - now + counts
            best = np.argsort(-before, axis=-1, kind="stable")[..., : min(WIDTH, meta.num_experts)]
            step = np.arange(steps, steps + len(now))[:, None, None]
            used = np.take_along_axis(before, best, axis=-1)
            found.append(np.where(used > 0, best, -1).astype(np.int16))
            shares.append((used / np.maximum(step, 1)).astype(np.float32))
            counts, steps = counts + now.sum(axis=0), steps + len(now)
        return _shifted("frequency", routed.workload, np.concatenate(found), np.concatenate(shares))


class PreGated(Predictor):
    """The next layer's experts exactly: a pre-gated model has chosen them one layer ahead (Hwang et al., ISCA'24).

    True of models trained that way; for any other model it is a what-if.
    """

    peeks = True

    def predict(self, routed: Routed) -> PredictionTable:
        """The next layer's demand; nothing for the first layer, whose gate has no layer before it."""
        rows, top_k = routed.workload.rows, routed.workload.meta.top_k
        following = np.full_like(routed.block.experts[rows, :, :top_k], -1)
        following[:, :-1] = routed.block.experts[rows, 1:, :top_k]
        table = _next_layer("pregated", routed.workload, following, np.ones(following.shape))
        return dataclasses.replace(table, peeks=True)


class Everybody(Predictor):
    """All experts of the next layer, in the order of their numbers (SE-MoE)."""

    def predict(self, routed: Routed) -> PredictionTable:
        """Everything but across the end of a step."""
        workload = routed.workload
        count = workload.meta.num_experts
        experts = np.broadcast_to(np.arange(count, dtype=np.int16), (workload.num_events, 1, count)).copy()
        experts[workload.meta.num_layers - 1 :: workload.meta.num_layers] = -1
        return PredictionTable("all", experts, (experts >= 0).astype(np.float32))


PREDICTORS: dict[str, Callable[[], Predictor]] = {
    "none": Nobody,
    "layer_minus_1": LayerMinus1,
    "frequency": Frequency,
    "lookahead": LookAhead,
    "pregated": PreGated,
    "all": Everybody,
    "oracle": Nobody,  # the oracle's prefetches come from the demand itself; see `decide.proposals`
}


def demands(workload: Workload) -> Iterator[NDArray[np.int64]]:
    """Whether each event demands each expert, [s, L, E], in blocks of steps."""
    layers, count = workload.meta.num_layers, workload.meta.num_experts
    at_once = max(1, CELLS_AT_ONCE // (layers * count))
    for first in range(0, workload.num_steps, at_once):
        steps = min(at_once, workload.num_steps - first)
        edges = workload.offsets[first * layers : (first + steps) * layers + 1]
        event = np.repeat(np.arange(steps * layers), np.diff(edges))
        flat = np.zeros(steps * layers * count, np.int64)
        flat[event * count + workload.experts[edges[0] : edges[-1]]] = 1
        yield flat.reshape(steps, layers, count)


def _by_rank(candidates: NDArray[Any]) -> NDArray[np.float32]:
    """1, 1/2, 1/3, ... along the last axis, [n, L, C]."""
    ranks: NDArray[np.float32] = (1 / (1 + np.arange(candidates.shape[2]))).astype(np.float32)
    return np.broadcast_to(ranks, candidates.shape)


def _next_layer(
    name: str, workload: Workload, experts: NDArray[np.int16], confidence: NDArray[np.floating]
) -> PredictionTable:
    """Candidates [n, L, C] of the layer after each; none across the end of a step."""
    most = experts.shape[2] * int(workload.step_tokens.max())
    best, sure = pool(workload, experts, confidence, min(workload.meta.num_experts, most))
    best[workload.meta.num_layers - 1 :: workload.meta.num_layers] = -1
    return PredictionTable(name, best[:, None], np.where(best >= 0, sure, 0)[:, None])


def _shifted(name: str, workload: Workload, best: NDArray[np.int16], sure: NDArray[np.float32]) -> PredictionTable:
    """What is believed of every event [S, L, C] as predictions made one event before it, the next step's included."""
    events = workload.num_events
    experts = np.full((events, 1, best.shape[2]), -1, np.int16)
    confidence = np.zeros(experts.shape, np.float32)
    experts[:-1, 0] = best.reshape(events, -1)[1:]
    confidence[:-1, 0] = sure.reshape(events, -1)[1:]
    return PredictionTable(name, experts, confidence)
