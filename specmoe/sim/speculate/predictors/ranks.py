"""Candidates that come with an order and no probability."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.speculate.predictor import Guess


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
