"""Experts by the token's id: ProMoE's baseline (Song et al. 2024), and what SiDA (Du et al., MLSys'24) hashes from."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.speculate.online import Memory, Online, Step
from specmoe.sim.speculate.predictors.frequency import Counts
from specmoe.sim.speculate.predictors.transition import grown, interpolate


class ByToken(Memory):
    """Uses by token id: of the token itself and of the token after it, [ids, 2, L, E]; row 0 is of unseen ids."""

    def __init__(self, layers: int, experts: int, depth: int) -> None:
        super().__init__(layers, experts, depth)
        self.popular = Counts(layers, experts, depth)
        self.row_of = np.zeros(1, np.int32)
        self.uses = np.zeros((1, 2, layers, experts), np.float32)
        self.ids = 1

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """What the id says of this token's later layers and of the next token's (steps after that are taken for it)."""
        known = np.where(step.token < len(self.row_of), step.token, -1)
        row = np.where(known >= 0, self.row_of[known], 0)
        wider = self.popular.share.astype(np.float32)
        chances = interpolate(self.uses[row], wider, step.experts.shape[2])
        return chances[:, np.minimum(self.wraps, 1), self.target]

    def learn(self, step: Step) -> None:
        """Count."""
        self.popular.learn(step)
        self._make_rows(np.concatenate([step.token, step.token_before]))
        ids = np.stack([step.token, step.token_before], axis=1)  # [T, 2]
        row = np.where(ids >= 0, self.row_of[ids] * 2 + np.arange(2), -1)
        layer = row[:, :, None, None] * self.layers + np.arange(self.layers)[:, None]
        cells = layer * self.experts + step.experts[:, None]  # [T, 2, L, k]
        there = (row >= 0)[:, :, None, None] & (step.experts >= 0)[:, None]
        np.add.at(self.uses.reshape(-1), cells[there], np.float32(1))  # of another type: forty times as slow

    def _make_rows(self, ids: NDArray[np.int32]) -> None:
        """Rows for ids that have none."""
        ids = ids[ids >= 0]
        self.row_of = grown(self.row_of, int(ids.max(initial=0)) + 1)
        new = np.unique(ids[self.row_of[ids] == 0])
        self.row_of[new] = np.arange(self.ids, self.ids + len(new))
        self.ids += len(new)
        self.uses = grown(self.uses, self.ids)


class TokenIdentity(Online):
    """Predicts the expert that the token's id used most often; rare ids fall back to popularity."""

    source = "SiDA (Du et al. 2024)"

    def memory(self, layers: int, experts: int) -> Memory:
        """No ids yet."""
        return ByToken(layers, experts, self.depth)
