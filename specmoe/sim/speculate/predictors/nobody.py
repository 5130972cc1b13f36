"""No prediction, and that of the oracle."""

from __future__ import annotations

from specmoe.sim.speculate.predictor import Guess, Predictor, Routed, no_guess


class Nobody(Predictor):
    """Says nothing."""

    def guess(self, routed: Routed) -> Guess:
        """Nothing, at depth 1 whatever was asked."""
        return no_guess(len(routed.workload.rows), routed.workload.meta.num_layers, 1, 0)


class Oracle(Nobody):
    """Says nothing: the oracle's prefetches come from the demand itself (see `specmoe.sim.decide.proposals`)."""

    peeks = True
