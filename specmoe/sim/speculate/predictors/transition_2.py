"""Second-order transitions: what follows a pair of experts in two layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.speculate.online import Memory, Online, Step
from specmoe.sim.speculate.predictors.backoff import grown, interpolate
from specmoe.sim.speculate.predictors.transition import Transitions, add_pairs


class PairTransitions(Transitions):
    """What followed each pair that was ever seen, [pairs, D, E]; row 0 stands for all the others and stays empty.

    A pair is the layer before's first choice with one of this layer's experts. Before the first layer comes the last
    one of the token before.
    """

    def __init__(self, layers: int, experts: int, depth: int) -> None:
        super().__init__(layers, experts, depth)
        self.row_of = np.zeros(layers * experts * experts, np.int32)
        self.after = np.zeros((1, depth, experts), np.float32)
        self.pairs = 1

    def following(self, step: Step, rank: int, wider: NDArray[np.float32]) -> NDArray[np.float32]:
        """What follows the pair, filled in from what follows its second expert."""
        first_order = super().following(step, rank, wider)
        pair = self._pairs(step.experts[:, :, rank : rank + 1], step.experts, step.before[:, -1, 0])[:, :, 0]
        found = self.after[np.where(pair >= 0, self.row_of[pair], 0)]
        return interpolate(found, first_order, step.experts.shape[2])

    def learn(self, step: Step) -> None:
        """Count what followed pairs of these tokens, and of the tokens before."""
        super().learn(step)
        nobody = np.full(len(step.token), -1)
        now = self._pairs(step.experts, step.experts, step.before[:, -1, 0])
        before = self._pairs(step.before, step.before, nobody)
        self._make_rows(np.concatenate([now, before]))
        rows, rows_before = (np.where(pair >= 0, self.row_of[pair], -1) for pair in (now, before))
        add_pairs(self, self.after, rows, rows_before, step)

    def _pairs(
        self, used: NDArray[np.int16], experts: NDArray[np.int16], start: NDArray[np.integer]
    ) -> NDArray[np.int64]:
        """Number of the pairs that end in the experts `used`, [T, L, k]; -1 where a half is missing."""
        earlier = np.concatenate([start[:, None], experts[:, :-1, 0]], axis=1)[..., None]
        row = np.arange(self.layers)[:, None] * self.experts
        pair = (row + earlier) * self.experts + used
        return np.where((earlier >= 0) & (used >= 0), pair, -1)

    def _make_rows(self, pairs: NDArray[np.int64]) -> None:
        """Rows for pairs that have none."""
        new = np.unique(pairs[pairs >= 0])
        new = new[self.row_of[new] == 0]
        self.row_of[new] = np.arange(self.pairs, self.pairs + len(new))
        self.pairs += len(new)
        self.after = grown(self.after, self.pairs)


class Transition2(Online):
    """Second order, filled in from the first, filled in from popularity (Witten & Bell 1991)."""

    def memory(self, layers: int, experts: int) -> Memory:
        """No pairs yet."""
        return PairTransitions(layers, experts, self.depth)
