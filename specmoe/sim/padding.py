"""Padding: sizes are rounded up to a few, for which costs are computed and kernels are captured."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTEXT_STEP = 32  # positions


def whole_context(positions: int) -> int:
    """Number of positions, rounded up to a multiple of `CONTEXT_STEP`."""
    return -(-positions // CONTEXT_STEP) * CONTEXT_STEP


def padded(tokens: NDArray[Any]) -> NDArray[np.int64]:
    """Smallest powers of two that are at least `tokens` (and at least 1), elementwise."""
    exponents = np.ceil(np.log2(np.maximum(tokens, 1))).astype(np.int64)
    sizes: NDArray[np.int64] = np.left_shift(np.int64(1), exponents)
    return sizes
