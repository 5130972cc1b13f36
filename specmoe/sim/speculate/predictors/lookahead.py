"""Gate look-ahead: this layer's input through a later layer's router (Eliseev & Mazur 2023, mixtral-offloading)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.speculate.predictor import Guess, Predictor, Routed


class LookAhead(Predictor):
    """Predicts what the next layer's router chooses for this layer's input, as the trace recorded it.

    The confidence of the candidate of rank r is how often the train split used it, in that layer and at that depth;
    without a train split, or deeper than that was recorded, 1 / (r + 1).
    """

    source = "gate look-ahead, Eliseev & Mazur 2023"

    def __init__(self, depth: int = 1) -> None:
        super().__init__(depth)
        self._rates: NDArray[np.float32] | None = None  # [L, D, M]

    def fit(self, train: Routed) -> None:
        """How often the candidate of each rank is used."""
        if train.workload.meta.has_lookahead:
            self._rates = used_by_rank(train)

    def guess(self, routed: Routed) -> Guess:
        """Raises InputError for a trace whose look-ahead was not recorded so deep."""
        meta = routed.workload.meta
        recorded = meta.lookahead_depth if meta.has_lookahead else 0
        if recorded < self.depth:
            wanted = "1 layer" if self.depth == 1 else f"{self.depth} layers"
            raise InputError(
                f"lookahead: {wanted} ahead asked, and this trace has {recorded} recorded: "
                f"`specmoe collect --lookahead-depth {self.depth}` records it; imported traces have none"
            )
        experts = routed.block.lookahead[routed.workload.rows, :, : self.depth]
        confidence = by_rank(experts).copy()
        if self._rates is not None:
            known = self._rates[:, : self.depth, : experts.shape[3]]
            confidence[:, :, : known.shape[1], : known.shape[2]] = known
        return within_step(Guess(experts, confidence))


def used_by_rank(train: Routed) -> NDArray[np.float32]:
    """Share of tokens that use the look-ahead's candidate of each rank, [L, D, M]; 0 across the end of a step."""
    ahead, used = train.block.lookahead, train.block.experts[:, :, : train.workload.meta.top_k]
    rates = np.zeros(ahead.shape[1:], np.float32)
    for depth in range(1, ahead.shape[2] + 1):
        found = ahead[:, :-depth, depth - 1, :, None] == used[:, depth:, None, :]
        rates[:-depth, depth - 1] = found.any(axis=-1).mean(axis=0)
    return rates


def by_rank(candidates: NDArray[Any]) -> NDArray[np.float32]:
    """1, 1/2, 1/3, ... along the last axis."""
    ranks: NDArray[np.float32] = (1 / (1 + np.arange(candidates.shape[-1]))).astype(np.float32)
    return np.broadcast_to(ranks, candidates.shape)


def within_step(guess: Guess) -> Guess:
    """The same without guesses about the next step, candidates closed up: none behind a -1."""
    layers, depth = guess.experts.shape[1:3]
    reached = np.add.outer(np.arange(layers), np.arange(1, depth + 1)) < layers
    there = (guess.experts >= 0) & reached[..., None]
    order = np.argsort(np.where(there, -guess.confidence, 1), axis=-1, kind="stable")
    experts = np.where(there, guess.experts, -1).astype(np.int16)
    confidence = np.where(there, guess.confidence, 0).astype(np.float32)
    return Guess(np.take_along_axis(experts, order, axis=-1), np.take_along_axis(confidence, order, axis=-1))
