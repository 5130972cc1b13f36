"""specMoE's `layer_minus_1` and `multi_layer`: later layers use experts of the numbers that earlier routers prefer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.speculate.predictor import WIDTH, Guess, Predictor, Routed, best_of, no_guess
from specmoe.sim.speculate.predictors.lookahead import by_rank, within_step

WEIGHTS = (0.4, 0.3, 0.2, 0.1)  # of layers L, L-1, L-2, L-3 for layer L+1, as in the original
ROWS_AT_ONCE = 2048


class LayerMinus1(Predictor):
    """Predicts the experts that this layer's router ranks highest, by expert number.

    Expert numbers of different layers have nothing to do with each other, so this is a baseline, not advice.
    """

    source = "specMoE"

    def guess(self, routed: Routed) -> Guess:
        """The same for every depth within the step; nothing across its end."""
        rows = routed.workload.rows
        experts, probs = routed.block.experts[rows], routed.block.probs[rows].astype(np.float32)
        confidence = np.where(np.isnan(probs), by_rank(probs), probs)
        repeated = (np.repeat(values[:, :, None], self.depth, axis=2) for values in (experts, confidence))
        return within_step(Guess(*repeated))


class MultiLayer(Predictor):
    """Predicts by a weighted mean of the router probabilities of several layers, by expert number.

    The original averages a batch's tokens first, and scales all weights alike by a class of input that it takes from
    hidden states, which changes nothing; here each token votes for itself. Numbers of different layers have nothing to
    do with each other, so this is a baseline, not advice.
    """

    source = "specMoE"

    def guess(self, routed: Routed) -> Guess:
        """The same for every depth within the step; nothing across its end."""
        meta, rows = routed.workload.meta, routed.workload.rows
        made = no_guess(len(rows), meta.num_layers, self.depth, min(WIDTH, meta.num_experts))
        for first in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[first : first + ROWS_AT_ONCE]
            found = best_of(votes(routed.block.experts[part], routed.block.probs[part], meta.num_experts))
            made.experts[first : first + len(part)] = found.experts[:, :, None]
            made.confidence[first : first + len(part)] = found.confidence[:, :, None]
        return within_step(made)


def votes(candidates: NDArray[np.int16], probs: NDArray[np.float16], experts: int) -> NDArray[np.float32]:
    """What the candidates and probabilities [n, L, M] of the layers up to each one say of every expert, [n, L, E].

    Where there are no probabilities the ranks (1, 1/2, 1/3, ...) vote.
    """
    known = np.where(np.isnan(probs), by_rank(probs), probs.astype(np.float32))
    own = np.zeros((*candidates.shape[:2], experts + 1), np.float32)
    np.put_along_axis(own, candidates.astype(np.int64), known, axis=-1)
    own = own[..., :-1]  # what was nobody (-1) is in the last place
    total, weights = np.zeros_like(own), np.zeros((own.shape[1], 1), np.float32)
    for back, weight in enumerate(WEIGHTS[: own.shape[1]]):
        total[:, back:] += np.float32(weight) * own[:, : own.shape[1] - back]
        weights[back:] += np.float32(weight)
    return np.divide(total, weights, dtype=np.float32)
