"""What a fit can tell of its constants: how sure it is of each, and which it cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST = 30.0  # condition number up to which constants are told apart
TAKES_PART = 0.3  # of a direction of length 1, from which on a constant belongs to it


def covariance(errors: Floats, weight: float, slopes: Floats) -> Floats:
    """Of the constants, [p, p], in their units; from the errors of the cells' means, [cells], and slopes [n, p].

    What is wrong in a cell may be wrong in all its steps, so a cell counts as one observation, not as many as it has
    steps; `weight` is what the square of an error of a whole cell counts in the sum that was made least.
    """
    variance = weight * (errors @ errors) / max(1, len(errors) - slopes.shape[1])
    return np.asarray(variance * np.linalg.pinv(slopes.T @ slopes))


def unresolved(slopes: Floats, names: Sequence[str]) -> tuple[float, tuple[str, ...]]:
    """The condition number of slopes [n, p], each column scaled to length 1, and a line for what cannot be told."""
    lengths = np.linalg.norm(slopes, axis=0)
    shows = lengths > 0
    silent = tuple(
        f"{name}: shows in no cell: as it was" for name, shown in zip(names, shows, strict=True) if not shown
    )
    known = [name for name, shown in zip(names, shows, strict=True) if shown]
    if not known:
        return np.inf, silent
    _, sizes, directions = np.linalg.svd(slopes[:, shows] / lengths[shows], full_matrices=False)
    conditions = sizes[0] / np.maximum(sizes, sizes[0] * np.finfo(np.float64).eps)
    alike = {_alike(known, row): size for row, size in zip(directions, conditions, strict=True) if size > MOST}
    lines = (
        f"{group}: hardly told apart by these cells (condition number {size:.2g})" for group, size in alike.items()
    )
    return (np.inf if silent else float(conditions[-1])), (*silent, *lines)


def _alike(names: Sequence[str], direction: Floats) -> str:
    """The constants that make up a direction."""
    return ", ".join(name for name, share in zip(names, np.abs(direction).tolist(), strict=True) if share > TAKES_PART)
