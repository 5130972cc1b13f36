"""specMoE's `adaptive`: transitions, and the more candidates the better its last guesses were."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.speculate.online import Memory, Online, Reset, Step
from specmoe.sim.speculate.predictor import Guess, best_of
from specmoe.sim.speculate.predictors.counted import Transitions

UNTRIED = 0.5  # precision of a guess never made, as in the original


class Watched(Transitions):
    """Transitions that remember how its best candidates fared in the last steps, [history, L, D]; NaN: no step yet."""

    def __init__(self, layers: int, experts: int, depth: int, threshold: float, history: int, top: int) -> None:
        super().__init__(layers, experts, depth)
        self.threshold, self.top = threshold, top
        self.fared = np.full((history, layers, depth), np.nan, np.float32)
        self.first_choice: NDArray[np.int16] | None = None  # [T, L, D], of the step that is not learnt yet

    @property
    def precision(self) -> NDArray[np.float32]:
        """Share of the best candidates of the last steps that were used, [L, D]."""
        tries = (~np.isnan(self.fared)).sum(axis=0)
        hits = np.nansum(self.fared, axis=0)
        return np.where(tries > 0, hits / np.maximum(tries, 1), UNTRIED).astype(np.float32)

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """Those of the candidates that it dares to name: `top`, one, or none; none across the end of a step."""
        scores = super().scores(step)
        best = best_of(scores, self.top)
        self.first_choice = best.experts[..., 0]
        return chosen(scores, best, np.where(self.wraps > 0, 0, self._daring()))

    def _daring(self) -> NDArray[np.int64]:
        """How many candidates, [L, D]."""
        precision = self.precision
        return np.where(precision >= self.threshold, self.top, np.where(precision > 0, 1, 0))

    def learn(self, step: Step) -> None:
        """How the guesses fared, then the transitions."""
        if self.first_choice is not None:
            self.fared = np.concatenate([self.fared[1:], self._judged(step, self.first_choice)])
            self.first_choice = None
        super().learn(step)

    def _judged(self, step: Step, named: NDArray[np.int16]) -> NDArray[np.float32]:
        """Share of the best candidates that were used, [1, L, D]; NaN where there was none."""
        right = (step.experts[:, self.target] == named[..., None]).any(axis=-1)
        tries, hits = (there.sum(axis=0, keepdims=True) for there in (named >= 0, right))
        return np.where(tries > 0, hits / np.maximum(tries, 1), np.nan).astype(np.float32)


def chosen(scores: NDArray[Any], best: Guess, count: NDArray[np.int64]) -> NDArray[Any]:
    """Scores [T, L, D, E] with all but the best `count` [L, D] of them put to 0."""
    kept = np.where(np.arange(best.experts.shape[-1]) < count[..., None], best.confidence, 0)
    only = np.zeros((*scores.shape[:3], scores.shape[3] + 1), np.float32)
    np.put_along_axis(only, best.experts.astype(np.int64), kept.astype(np.float32), axis=-1)
    return only[..., :-1]


class Adaptive(Online):
    """Predicts `top` experts while the best ones of the last `history` steps were right to `threshold`, else fewer.

    Below it only the best candidate, and none once all of them were wrong; guesses not named are judged too, so that it
    takes heart again. The original speculates or not, by router sharpness mixed with its accuracy, and mixes
    `multi_layer`'s votes in, whose expert numbers mean nothing across layers.
    """

    source = "specMoE"

    def __init__(
        self,
        depth: int = 1,
        threshold: float = 0.7,
        history: int = 4,
        top: int = 2,
        online: bool = True,
        warm: bool = True,
        reset: Reset = "never",
    ) -> None:
        super().__init__(depth, online, warm, reset)
        if not 0 <= threshold <= 1 or history < 1 or top < 1:
            raise InputError(
                f"threshold {threshold}, history {history}, top {top}: 0 to 1, at least 1 and at least 1 expected"
            )
        self.threshold, self.history, self.top = threshold, history, top

    def memory(self, layers: int, experts: int) -> Memory:
        """No pairs and no guesses yet."""
        return Watched(layers, experts, self.depth, self.threshold, self.history, self.top)
