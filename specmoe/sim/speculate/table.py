"""What a predictor says of events: for every one, candidates of the events that follow it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PredictionTable:
    """Predictions known at event e (after its routing, before its experts run) about the events e + 1 ... e + D.

    Depth d = 1..D is in `experts[e, d - 1]`: candidates, best first, -1 from where there are no more. The target is
    layer (l + d) mod L, in the next step where that wraps. `confidence` is the predicted probability that the target
    event demands the expert; 0 where there is no candidate.
    """

    experts: NDArray[np.int16]  # [events, D, C]
    confidence: NDArray[np.float32]  # [events, D, C]
    peeks: bool = False

    @property
    def depth(self) -> int:
        """D, in layers."""
        return int(self.experts.shape[1])

    @cached_property
    def is_empty(self) -> bool:
        """Whether nothing is predicted at all."""
        return bool((self.experts < 0).all())


def no_predictions(events: int) -> PredictionTable:
    """The table of a predictor that says nothing."""
    return PredictionTable(np.full((events, 1, 0), -1, np.int16), np.zeros((events, 1, 0), np.float32))
