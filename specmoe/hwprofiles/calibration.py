"""How well a profile whose host costs were fitted on whole runs predicts other runs, which the fit never saw."""

from __future__ import annotations

from dataclasses import dataclass

WORST = 0.04  # largest error of a held-out cell's mean step that is expected, and
MEDIAN = 0.01  # of the cells' median


@dataclass(frozen=True)
class Calibration:
    """Errors are absolute and relative, as shares; `cells` were held out, on `fit_cells` others the fit was made."""

    median_abs_error: float
    worst_abs_error: float
    cells: int
    fit_cells: int
    met: bool  # all that was expected
    ref: str

    @property
    def shortfall(self) -> str | None:
        """What a result must bear if the target was missed: one line."""
        if self.met:
            return None
        if self.worst_abs_error > WORST:
            missed = _beyond("worst", self.worst_abs_error, WORST)
        elif self.median_abs_error > MEDIAN:
            missed = _beyond("median", self.median_abs_error, MEDIAN)
        else:
            missed = self.ref
        return f"its calibration missed its target: {missed}"


def _beyond(what: str, error: float, most: float) -> str:
    return f"{what} held-out error {error:.1%}, at most {most:.0%} expected".replace("%", " %")
