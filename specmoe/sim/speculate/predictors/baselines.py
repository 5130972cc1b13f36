"""Baselines: no prediction, the oracle, all experts (SE-MoE), and the exact next layer (Pre-gated MoE)."""

from __future__ import annotations

import numpy as np

from specmoe.sim.speculate.predictor import Guess, PredictionTable, Predictor, Routed, no_guess


class Nobody(Predictor):
    """Predicts nothing."""

    source = "none"

    def guess(self, routed: Routed) -> Guess:
        """Nothing, at depth 1 whatever was asked."""
        return no_guess(len(routed.workload.rows), routed.workload.meta.num_layers, 1, 0)


class Oracle(Nobody):
    """Says nothing: the oracle's prefetches come from the demand itself (see `specmoe.sim.decide.director`)."""

    peeks = True


class Everybody(Predictor):
    """Predicts every expert of the next layer, in the order of their numbers."""

    source = "SE-MoE (Shen et al. 2022)"

    def guess(self, routed: Routed) -> Guess:
        """The same for every row."""
        meta = routed.workload.meta
        everybody = self._of_a_step(meta.num_layers, meta.num_experts)
        shape = (len(routed.workload.rows), *everybody.shape)
        return Guess(np.broadcast_to(everybody, shape), np.broadcast_to((everybody >= 0).astype(np.float32), shape))

    def predict(self, routed: Routed) -> PredictionTable:
        """No need to pool what is all alike."""
        workload = routed.workload
        step = self._of_a_step(workload.meta.num_layers, workload.meta.num_experts)
        experts = np.tile(step, (workload.num_steps, 1, 1))
        return PredictionTable(experts, (experts >= 0).astype(np.float32))

    def _of_a_step(self, layers: int, experts: int) -> np.ndarray:
        found = np.broadcast_to(np.arange(experts, dtype=np.int16), (layers, 1, experts)).copy()
        found[-1] = -1
        return found


class PreGated(Predictor):
    """Knows the next layer's experts, as a model does that was trained to choose them one layer early.

    True of models trained that way; for any other it is a what-if. Nothing for the first layer, whose gate has no layer
    before it, and nothing further ahead than one layer.
    """

    source = "Pre-gated MoE (Hwang et al., ISCA 2024)"

    peeks = True

    def guess(self, routed: Routed) -> Guess:
        """The next layer's routing."""
        meta, rows = routed.workload.meta, routed.workload.rows
        guess = no_guess(len(rows), meta.num_layers, 1, meta.top_k)
        guess.experts[:, :-1, 0] = routed.block.experts[rows, 1:, : meta.top_k]
        guess.confidence[:] = guess.experts >= 0
        return guess
