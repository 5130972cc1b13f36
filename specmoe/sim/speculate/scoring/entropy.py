"""Entropy of what is counted, and the accuracy that it allows."""

from __future__ import annotations

from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 60  # of the bisection: beyond a double's precision


def entropy(values: NDArray[Any], corrected: bool = True) -> float:
    """Plug-in entropy of the distinct values [n], in bits; `corrected` adds (m - 1) / 2n nats (Miller 1955)."""
    counts = np.unique(values, return_counts=True)[1]
    share = counts / counts.sum()
    extra = (len(counts) - 1) / (2 * len(values)) if corrected else 0.0
    return float(-(share * np.log2(share)).sum() + extra / np.log(2))


def conditional_entropy(values: NDArray[Any], context: NDArray[Any], corrected: bool = True) -> float:
    """H(value | context) = H(value, context) - H(context) of codes [n], in bits."""
    both = np.unique(np.stack([context, values]), axis=1, return_inverse=True)[1]
    return entropy(both, corrected) - entropy(context, corrected)


def fano_error(bits: float, experts: int) -> float:
    """The least share of errors with which the next of E experts can be told, at `bits` of entropy (Fano 1961).

    It solves h(p) + p log2(E - 1) = bits, whose left side rises from 0 at p = 0 to log2(E) at p = 1 - 1/E.
    """
    low, high = 0.0, 1 - 1 / experts
    for _ in range(STEPS):
        middle = (low + high) / 2
        enough = _binary_entropy(middle) + middle * log2(max(experts - 1, 1)) >= bits
        low, high = (low, middle) if enough else (middle, high)
    return high


def fano_accuracy(bits: float, experts: int) -> float:
    """The accuracy that no predictor can exceed: 1 at 0 bits, 1/E at log2(E) bits and beyond."""
    return 1.0 if bits <= 0 else 1 - fano_error(bits, experts)


def _binary_entropy(p: float) -> float:
    return 0.0 if p in (0, 1) else -p * log2(p) - (1 - p) * log2(1 - p)
