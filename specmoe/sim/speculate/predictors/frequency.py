"""The experts used most so far: what MoE-Infinity's and every LFU's popularity assumption comes down to."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.speculate.online import Memory, Online, Reset, Step


class Counts(Memory):
    """Uses of every expert, [L, E], and tokens seen; both fade by half within `half_life` tokens."""

    def __init__(self, layers: int, experts: int, depth: int, half_life: float = float("inf")) -> None:
        super().__init__(layers, experts, depth)
        self.uses = np.zeros((layers, experts))
        self.tokens = 0.0
        self.fade = 0.5 ** (1 / half_life)

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of tokens that used each expert, [L, E]."""
        return self.uses / max(self.tokens, 1e-9)

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """The share of tokens that used it, at whatever layer comes then."""
        return self.share[self.target][np.newaxis]

    def learn(self, step: Step) -> None:
        """Count; of tokens in one step the later ones are the fresher ones."""
        count = len(step.token)
        fresh = self.fade ** np.arange(count - 1, -1, -1)
        there = step.experts >= 0
        key = np.arange(self.layers)[:, None] * self.experts + step.experts
        weight = np.broadcast_to(fresh[:, None, None], key.shape)
        self.uses *= self.fade**count
        np.add.at(self.uses.reshape(-1), key[there], weight[there])
        self.tokens = self.tokens * self.fade**count + float(fresh.sum())


class Frequency(Online):
    """Predicts the experts used most so far.

    With `reset="sequence"` and a cold start, within the sequence (HOBBIT, Tang et al. 2024); with a `half_life` in
    tokens, of late.
    """

    source = "popularity, e.g. MoE-Infinity (Xue et al. 2024)"

    def __init__(
        self,
        depth: int = 1,
        half_life: float = float("inf"),
        online: bool = True,
        warm: bool = True,
        reset: Reset = "never",
    ) -> None:
        super().__init__(depth, online, warm, reset)
        if not half_life > 0:
            raise InputError(f"half_life {half_life}: more than 0 tokens expected")
        self.half_life = half_life

    def memory(self, layers: int, experts: int) -> Memory:
        """No uses yet."""
        return Counts(layers, experts, self.depth, self.half_life)
