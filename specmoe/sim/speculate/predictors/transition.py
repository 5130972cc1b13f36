"""Expert-to-expert transitions between layers, learnt as they are seen (specMoE's `pattern`; a common baseline)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.speculate.online import Memory, Online, Step
from specmoe.sim.speculate.predictors.backoff import interpolate
from specmoe.sim.speculate.predictors.evidence import combined
from specmoe.sim.speculate.predictors.frequency import Counts


class Transitions(Memory):
    """Tokens that used expert a at layer l and b at layer l + d, [L, a, D, b]; across the end, their next tokens."""

    def __init__(self, layers: int, experts: int, depth: int) -> None:
        super().__init__(layers, experts, depth)
        self.popular = Counts(layers, experts, depth)
        self.seen = np.zeros((layers, experts, depth, experts), np.float32)

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """What follows the experts used, taken together."""
        top_k = step.experts.shape[2]
        wider = self.popular.share[self.target].astype(np.float32)
        return combined([self.following(step, rank, wider) for rank in range(top_k)], wider)

    def following(self, step: Step, rank: int, wider: NDArray[np.float32]) -> NDArray[np.float32]:
        """What follows the used expert of a rank, [T, L, D, E]; where it is new or dropped, what is popular."""
        used = step.experts[:, :, rank]
        found = self.seen[np.arange(self.layers), used]
        found[used < 0] = 0
        return interpolate(found, wider, step.experts.shape[2])

    def learn(self, step: Step) -> None:
        """Count pairs within the tokens, and from the tokens before to these."""
        self.popular.learn(step)
        row = np.arange(self.layers)[:, None] * self.experts
        add_pairs(self, self.seen, placed(step.experts, row), placed(step.before, row), step)


def placed(experts: NDArray[np.int16], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of a table of pairs, -1 where there is no expert."""
    return np.where(experts >= 0, row + experts, -1)


def add_pairs(
    memory: Memory, table: NDArray[np.float32], now: NDArray[np.int64], before: NDArray[np.int64], step: Step
) -> None:
    """Count into a table [rows..., D, E] what followed its rows `now` of these tokens and `before` of those before."""
    sources = np.where((memory.wraps == 0)[..., None], now[:, :, None], before[:, :, None])  # [T, L, D, k]
    sources[:, memory.wraps > 1] = -1
    targets = step.experts[:, memory.target].astype(np.int64)  # [T, L, D, k]
    place = sources * memory.depth + np.arange(memory.depth)[:, None]
    there = (sources >= 0)[..., None] & (targets >= 0)[..., None, :]
    cells = place[..., None] * memory.experts + targets[..., None, :]
    np.add.at(table.reshape(-1), cells[there], 1)


class Transition(Online):
    """First order: what follows this layer's experts; unseen ones fall back to popularity."""

    def memory(self, layers: int, experts: int) -> Memory:
        """No pairs yet."""
        return Transitions(layers, experts, self.depth)
