"""Pre-gated MoE (Hwang et al., ISCA'24): the next layer's experts are known exactly, one layer ahead."""

from __future__ import annotations

from specmoe.sim.speculate.predictor import Guess, Predictor, Routed, no_guess


class PreGated(Predictor):
    """The truth about the next layer: the model chose so one layer ahead.

    True of models trained that way; for any other it is a what-if. Nothing for the first layer, whose gate has no layer
    before it, and nothing further ahead than one layer.
    """

    peeks = True

    def guess(self, routed: Routed) -> Guess:
        """The next layer's routing."""
        meta, rows = routed.workload.meta, routed.workload.rows
        guess = no_guess(len(rows), meta.num_layers, 1, meta.top_k)
        guess.experts[:, :-1, 0] = routed.block.experts[rows, 1:, : meta.top_k]
        guess.confidence[:] = guess.experts >= 0
        return guess
