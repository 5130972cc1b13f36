"""SE-MoE: all experts of the next layer."""

from __future__ import annotations

import numpy as np

from specmoe.sim.speculate.predictor import Guess, Predictor, Routed
from specmoe.sim.speculate.table import PredictionTable


class Everybody(Predictor):
    """Everybody, in the order of their numbers, but across the end of a step; one layer ahead whatever was asked."""

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
