"""Entropy and mutual information of what is counted, in bits, with Miller and Madow's correction (Miller 1955).

A plug-in entropy of m distinct values seen n times is too low by about (m - 1) / 2n nats, which is added.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def entropy(counts: NDArray[Any], corrected: bool = True) -> float:
    """Of counts of any shape, those of 0 aside; 0 bits of nothing."""
    counts = counts[counts > 0]
    total = counts.sum()
    if not total:
        return 0.0
    shares = counts / total
    extra = (len(counts) - 1) / (2 * total * np.log(2)) if corrected else 0.0
    return float(-(shares * np.log2(shares)).sum() + extra) + 0.0


def mutual_information(joint: NDArray[Any]) -> float:
    """Of two variables counted together, [A, B]; independent ones give 0 on average, so a little below it at times."""
    return entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1)) - entropy(joint)


def conditional_entropy(value: NDArray[Any], context: NDArray[Any]) -> float:
    """H(value | context) = H(value, context) - H(context) of codes [n], 0 or more.

    Where most contexts are seen once or twice it is far too low in spite of the correction.
    """
    if not len(value):
        return 0.0
    both = context.astype(np.int64) * (int(value.max()) + 1) + value
    return entropy(_counts(both)) - entropy(_counts(context))


def _counts(codes: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(codes, return_counts=True)[1]
