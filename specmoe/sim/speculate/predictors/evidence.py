"""One opinion from several: what each of the experts that a token uses says of those to come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEVER = 1e-4  # least and, from 1, most probability of an opinion: counts are too few to rule anything out
ROUNDS = 3

Scores = NDArray[np.floating[Any]]


def combined(opinions: Sequence[Scores], popular: Scores) -> Scores:
    """Probability that each expert is used, [..., E], from k opinions of it and what is thought with none.

    Each opinion moves the log-odds from what is popular; were they independent the moves would add up (naive Bayes),
    were they all the same their mean would count. They are in between: the sum over sqrt(k). Experts nobody has seen
    stay at 0, and k experts are used in all.
    """
    k = len(opinions)
    if k == 1:
        return opinions[0]
    start, said = log_odds(popular), np.stack(opinions)
    moves = log_odds(said).sum(axis=0) - k * start
    likely = 1 / (1 + np.exp(-start - moves / np.float32(k**0.5)))
    return adding_up(np.where(said.any(axis=0), likely, np.float32(0)), k)


def log_odds(probability: Scores) -> Scores:
    """ln(p / (1 - p)), finite."""
    p = np.minimum(np.maximum(probability, NEVER), 1 - NEVER)
    return np.asarray(np.log(p / (1 - p)))


def adding_up(scores: Scores, total: int) -> Scores:
    """Scaled so that the last axis sums to the total, as far as none may be above 1."""
    for _ in range(ROUNDS):
        scores = np.minimum(1, scores * (total / np.maximum(scores.sum(axis=-1, keepdims=True), NEVER)))
    return scores
