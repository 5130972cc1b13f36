"""specMoE's `layer_minus_1`: later layers want the experts with the numbers that this layer's router prefers."""

from __future__ import annotations

import numpy as np

from specmoe.sim.speculate.predictor import Guess, Predictor, Routed
from specmoe.sim.speculate.predictors.ranks import by_rank, within_step


class LayerMinus1(Predictor):
    """The candidates of this layer, by their probabilities; by their ranks (1, 1/2, 1/3, ...) where there are none.

    Expert numbers of different layers have nothing to do with each other, so this is a baseline, not advice.
    """

    def guess(self, routed: Routed) -> Guess:
        """The same for every depth within the step; nothing across its end."""
        rows = routed.workload.rows
        experts, probs = routed.block.experts[rows], routed.block.probs[rows].astype(np.float32)
        confidence = np.where(np.isnan(probs), by_rank(probs), probs)
        repeated = (np.repeat(values[:, :, None], self.depth, axis=2) for values in (experts, confidence))
        return within_step(Guess(*repeated))
