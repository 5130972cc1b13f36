"""Long columns of integers that Python loops read and write: 4 or 8 bytes each, where a list takes 40."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(values: NDArray[Any]) -> array[int]:
    """The same integers: times, which want 8 bytes."""
    return array("q", np.ascontiguousarray(values, np.int64).tobytes())


def packed_rows(values: NDArray[Any]) -> array[int]:
    """The same integers: numbers of rows, for which 4 bytes do."""
    return array("i", np.ascontiguousarray(values, np.int32).tobytes())


def column(length: int, value: int = 0) -> array[int]:
    """So many of one value."""
    return packed(np.full(length, value))


def unpacked(values: array[int]) -> NDArray[np.int64]:
    """The same integers as numpy sees them; shares memory."""
    return np.frombuffer(values, np.int64) if values else np.zeros(0, np.int64)
