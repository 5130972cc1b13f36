"""The experts of the sequence's last token at the target layer (the locality that Mixtral's report, 2024, measures)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.speculate.online import Memory, Online, Step
from specmoe.sim.speculate.predictor import Guess, Routed, no_guess


class Repeats(Memory):
    """How often the expert of each rank was used again by the next token, [L, k]."""

    def __init__(self, layers: int, experts: int, depth: int) -> None:
        super().__init__(layers, experts, depth)
        self.hits = np.zeros((layers, 1))
        self.tries = np.zeros((layers, 1))

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """The precision so far, (hits + 1) / (tries + 2), at the experts used last where the layer's last is known.

        Layers up to this one have routed this token; of the others the token before is the last.
        """
        routed = self.target <= np.arange(self.layers)[:, None]
        last = np.where(routed[..., None], step.experts[:, self.target], step.before[:, self.target])
        sure = ((self.hits + 1) / (self.tries + 2))[self.target]
        scores = np.zeros((*last.shape[:3], self.experts + 1))
        np.put_along_axis(scores, last.astype(np.int64), np.broadcast_to(sure, last.shape), axis=-1)
        return scores[..., :-1]  # what was nobody (-1) is in the last place

    def learn(self, step: Step) -> None:
        """Which experts of the token before came again."""
        there = step.before >= 0
        again = there & (step.before[..., None] == step.experts[:, :, None]).any(axis=-1)
        self.hits = self.hits + again.sum(axis=0)
        self.tries = self.tries + there.sum(axis=0)


class PreviousStep(Online):
    """Predicts the experts that the sequence's last token used; nothing for `encode`, where no token came before."""

    source = "temporal locality, Eliseev & Mazur 2023"

    def memory(self, layers: int, experts: int) -> Memory:
        """No tries yet."""
        return Repeats(layers, experts, self.depth)

    def guess(self, routed: Routed) -> Guess:
        """The loop, where there are tokens before."""
        meta = routed.workload.meta
        if meta.phase == "encode":
            return no_guess(len(routed.workload.rows), meta.num_layers, self.depth, 0)
        return super().guess(routed)
