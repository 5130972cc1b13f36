"""Accuracy of predictions: hits by sequence, target layer and depth, with calibration and confidence intervals.

A confidence is calibrated if 70 % of the guesses with confidence 0.7 come true (Guo et al. 2017). Intervals resample
sequences and not tokens, since tokens of one text are alike.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.speculate.predictor import Guess, Routed

TOPS = (1, 2, 4, 8)
Ints = NDArray[np.int64]
BINS = 10
RESAMPLES = 1000
LEVEL = 0.95


class Tally(NamedTuple):
    """Counts of S sequences, L target layers and D depths. A target is a token's first-choice expert."""

    hits: Ints  # [S, L, D, N], targets among the best 1, 2, 4, 8 candidates
    targets: Ints  # [S, L, D]
    found: Ints  # [S, L, D], experts used that are among the best top_k candidates
    used: Ints  # [S, L, D]

    @property
    def wrapped(self) -> NDArray[np.bool_]:
        """Where the target is in the sequence's next token and not in the token that was routed, [L, D]."""
        layers, depths = self.targets.shape[1:]
        return np.arange(layers)[:, None] <= np.arange(depths)  # layer < depth, and depth counts from 1


def target_of(routed: Routed, layer: int, depth: int) -> NDArray[np.int16]:
    """The experts used by each of the workload's rows `depth` layers after `layer`, [n, k]; -1 where nothing is.

    Beyond the last layer, decoding, it is the sequence's next token; its last one has none, nor has an encoded one.
    """
    block, meta = routed.block, routed.workload.meta
    tokens, target = divmod(layer + depth, meta.num_layers)
    used = block.experts[:, target, : meta.top_k]
    if tokens == 0:
        return used[routed.workload.rows]
    later = np.full_like(used, -1)
    if meta.phase == "decode":
        same = block.sequence[tokens:] == block.sequence[:-tokens]
        later[:-tokens][same] = used[tokens:][same]
    return later[routed.workload.rows]


def tally(guess: Guess, routed: Routed) -> Tally:
    """Count the hits of all guesses. A dropped token is no target; where there is no candidate the guess is wrong."""
    names, sequence = np.unique(routed.block.sequence[routed.workload.rows], return_inverse=True)
    layers, depths = guess.experts.shape[1:3]
    counted = _empty(len(names), layers, depths)
    for layer in range(layers):
        for depth in range(1, depths + 1):
            used = target_of(routed, layer, depth)
            columns = _row_counts(guess.experts[:, layer, depth - 1], used)
            place = np.s_[:, (layer + depth) % layers, depth - 1]
            for total, column in zip(counted, columns, strict=True):
                np.add.at(total[place], sequence, column)
    return counted


def _empty(sequences: int, layers: int, depths: int) -> Tally:
    shape = (sequences, layers, depths)
    return Tally(np.zeros((*shape, len(TOPS)), np.int64), *(np.zeros(shape, np.int64) for _ in range(3)))


def _row_counts(candidates: NDArray[np.int16], used: NDArray[np.int16]) -> Tally:
    """Of rows [n, C] and [n, k]: what `Tally` counts, each [n, ...]."""
    there = used >= 0
    first = (candidates == used[:, :1]) & there[:, :1]
    hits = np.stack([first[:, :best].any(axis=1) for best in TOPS], axis=1)
    best = candidates[:, : used.shape[1]]
    found = ((best[:, :, None] == used[:, None, :]) & there[:, None, :]).any(axis=1)
    return Tally(*(np.asarray(part, np.int64) for part in (hits, there[:, 0], found.sum(axis=1), there.sum(axis=1))))


def accuracy(counted: Tally, where: NDArray[np.bool_]) -> dict[str, Any]:
    """top1 ... top8, recall and number of targets of the (target layer, depth) cells in `where` [L, D], pooled.

    None where there are no targets. `recall` is the share of a token's used experts among its best top_k candidates.
    """
    hits, targets, found, used = (part[:, where].sum(axis=(0, 1)) for part in counted)
    tops = {f"top{best}": _share(hits[place], targets) for place, best in enumerate(TOPS)}
    return {**tops, "recall": _share(found, used), "targets": int(targets)}


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


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


def interval(
    hits: NDArray[np.int64], targets: NDArray[np.int64], rng: np.random.Generator, resamples: int = RESAMPLES
) -> list[float] | None:
    """95 % percentile interval of sum(hits) / sum(targets), both [S] by sequence (Efron 1979); None without targets.

    Generators in the same state resample the same sequences: intervals of different predictors are paired so.
    """
    if not targets.sum():
        return None
    sequences = len(targets)
    weights = rng.multinomial(sequences, np.full(sequences, 1 / sequences), size=resamples)
    drawn = weights @ targets
    shares = (weights @ hits)[drawn > 0] / drawn[drawn > 0]
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]
