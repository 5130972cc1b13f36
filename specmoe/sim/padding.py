"""Sizes for which costs are computed and kernels captured: few of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTEXT_STEP = 32  # positions


def whole_context(positions: int) -> int:
    """Rounded up to a whole multiple of `CONTEXT_STEP`."""
    return -(-positions // CONTEXT_STEP) * CONTEXT_STEP


def padded(tokens: NDArray[Any]) -> NDArray[np.int64]:
    """The least powers of two that hold so many tokens, 1 or more each."""
    exponents = np.ceil(np.log2(np.maximum(tokens, 1))).astype(np.int64)
    sizes: NDArray[np.int64] = np.left_shift(np.int64(1), exponents)
    return sizes
