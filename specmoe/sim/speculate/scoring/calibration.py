"""Whether confidences mean what they say (Guo et al. 2017): of what is 70 % sure, 70 % should come true."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.speculate.predictor import Guess, Routed
from specmoe.sim.speculate.scoring.accuracy import target_of

BINS = 10


class Calibration(NamedTuple):
    """The expected calibration error, and the curve: of each filled bin, the mean confidence, accuracy and count."""

    ece: float
    reliability: list[dict[str, Any]]


def calibration(guess: Guess, routed: Routed) -> Calibration | None:
    """Of the best candidates one layer ahead within the step; None if there are no confidences.

    A confidence is the probability that the expert is used, so it comes true if the token uses it as any of its
    `top_k`. Where there is no candidate there is no confidence, and nothing is counted.
    """
    if guess.experts.shape[3] == 0:
        return None
    parts = [_of_layer(guess, routed, layer) for layer in range(guess.experts.shape[1] - 1)]
    if not parts:
        return None
    confidence, came_true = (np.concatenate(part) for part in zip(*parts, strict=True))
    return curve(confidence, came_true) if confidence.any() else None


def _of_layer(guess: Guess, routed: Routed, layer: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    used = target_of(routed, layer, 1)
    best = guess.experts[:, layer, 0, :1]
    counts = (best[:, 0] >= 0) & (used[:, 0] >= 0)
    return guess.confidence[counts, layer, 0, 0], (best == used).any(axis=1)[counts]


def curve(confidence: NDArray[np.floating[Any]], came_true: NDArray[np.bool_]) -> Calibration:
    """Ten bins of equal width, [0, 0.1), [0.1, 0.2), ..., [0.9, 1]; both arrays [n], n > 0.

    The error is the mean distance between a bin's confidence and its accuracy, weighted by the bin's count.
    """
    sure = confidence.astype(np.float64)
    number = np.minimum((sure * BINS).astype(int), BINS - 1)
    counts = np.bincount(number, minlength=BINS)
    means = np.bincount(number, sure, BINS) / np.maximum(counts, 1)
    shares = np.bincount(number, came_true, BINS) / np.maximum(counts, 1)
    error = float((counts * abs(means - shares)).sum() / counts.sum())
    filled = np.flatnonzero(counts).tolist()
    points = [{"confidence": float(means[n]), "accuracy": float(shares[n]), "count": int(counts[n])} for n in filled]
    return Calibration(error, points)
