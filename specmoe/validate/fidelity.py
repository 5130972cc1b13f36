"""How far a simulated run is from real ones of the same decisions.

Of the repeats of a real run: a step's latency is the median over them, and so are its parts; means are over these. (On
an H100 and an H200, three of seven repeats agreed with three others better so than by the median of their means.)
Errors are shares: simulated / measured - 1 of a latency, and (simulated - measured) / the measured mean step of a part,
so that the errors of the parts add up to that of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from specmoe.errors import InputError
from specmoe.results import RunResult, same_decisions
from specmoe.validate.cells import Cell
from specmoe.validate.noise import correlation_of, noise_of
from specmoe.validate.steps import Steps, steps_of

PARTS = ("compute", "stall", "host")
MS = 1e6  # ns


class Side(NamedTuple):
    """Times of a step, ns. The mean is the sum of its parts; host: the compute stream waits for the host thread."""

    mean_ns: float
    p50_ns: float
    p95_ns: float
    compute_ns: float
    stall_ns: float
    host_ns: float


@dataclass(frozen=True)
class CellFidelity:
    """One cell, measured and simulated."""

    cell: Cell
    repeats: int
    measured: Side
    simulated: Side
    spread: float  # largest minus smallest mean of the repeats, as a share of the median
    noise_ns: float  # of a step between repeats: see `noise`
    step_correlation: float | None  # see `noise`

    @property
    def error(self) -> float:
        """Of the mean step."""
        return self.simulated.mean_ns / self.measured.mean_ns - 1

    @property
    def p50_error(self) -> float:
        """Of the median step."""
        return self.simulated.p50_ns / self.measured.p50_ns - 1

    @property
    def p95_error(self) -> float:
        """Of the 95th percentile of steps."""
        return self.simulated.p95_ns / self.measured.p95_ns - 1

    def part_error(self, part: str) -> float:
        """Of one of `PARTS`, as a share of the measured mean step."""
        name = f"{part}_ns"
        difference: float = getattr(self.simulated, name) - getattr(self.measured, name)
        return difference / self.measured.mean_ns


def compare(cell: Cell, simulated: RunResult, measured: Sequence[RunResult]) -> CellFidelity:
    """Judge a simulated run by two real ones or more; raises InputError if decisions differ, naming where."""
    for run in measured:
        try:
            same_decisions(simulated, run)
        except InputError as error:
            raise InputError(f"{cell.name}: {error}") from None
    _require_repeats(cell, len(measured))
    return judge(cell, steps_of([simulated]), steps_of(measured))


def judge(cell: Cell, simulated: Steps, measured: Steps) -> CellFidelity:
    """Judge a simulation by stored runs, two or more; raises InputError if they were of other decisions."""
    if simulated.decisions != measured.decisions:
        raise InputError(f"{cell.name}: the decisions simulated are not those that were measured: cannot be compared")
    repeats = len(measured.latency)
    _require_repeats(cell, repeats)
    means, noise = measured.latency.mean(axis=1), noise_of(measured.latency)
    return CellFidelity(
        cell=cell,
        repeats=repeats,
        measured=_side(measured),
        simulated=_side(simulated),
        spread=float(np.ptp(means) / np.median(means)),
        noise_ns=noise,
        step_correlation=correlation_of(simulated.typical, measured.typical, noise),
    )


def require_quiet(cells: Sequence[CellFidelity], most: float = 0.10) -> None:
    """Raise InputError if the median spread of the cells is so large that noise is all that was measured."""
    spreads = [cell.spread for cell in cells]
    if cells and np.median(spreads) > most:
        worst = cells[int(np.argmax(spreads))]
        raise InputError(
            f"the device is busy: repeated runs differ by {_percent(float(np.median(spreads)))} in the median and by "
            f"{_percent(worst.spread)} in {worst.cell.name}: at most {_percent(most)} expected of one that is idle"
        )


def rows(cells: Sequence[CellFidelity]) -> list[dict[str, str]]:
    """A table for people, a row for each cell."""
    return [
        {
            "group": cell.cell.group.name,
            "policy": cell.cell.policy,
            "slots": str(cell.cell.slots),
            "role": cell.cell.role.replace("_", " "),
            "measured ms": f"{cell.measured.mean_ns / MS:.3f}",
            "simulated ms": f"{cell.simulated.mean_ns / MS:.3f}",
            "error": _signed(cell.error),
            "p50": _signed(cell.p50_error),
            "p95": _signed(cell.p95_error),
            **{part: _signed(cell.part_error(part)) for part in PARTS},
            "correlation": "" if cell.step_correlation is None else f"{cell.step_correlation:.4f}",
            "spread": _percent(cell.spread),
        }
        for cell in cells
    ]


def _side(steps: Steps) -> Side:
    mean, compute, stall = (
        float(np.median(times, axis=0).mean()) for times in (steps.latency, steps.compute, steps.stall)
    )
    p50, p95 = (float(value) for value in np.percentile(steps.typical, (50, 95)))
    return Side(mean, p50, p95, compute, stall, mean - compute - stall)


def _require_repeats(cell: Cell, repeats: int) -> None:
    if repeats < 2:
        raise InputError(f"{cell.name}: measured {repeats} times: 2 or more expected")


def _signed(share: float) -> str:
    return f"{100 * share:+.2f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
