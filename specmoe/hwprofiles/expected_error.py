"""How far simulated steps were from replayed ones, and what error must therefore be expected of a prediction.

`data/accuracy.json` holds the figures of docs/validation.md and is made with it. An error is that of a cell's mean
step, simulated / measured - 1, as an absolute share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.formats import Format
from specmoe.hwprofiles.measured_curves import Fitting
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import Source
from specmoe.hwprofiles.shape import ModelShape

OWN, UNCALIBRATED = "own", "microbenchmarks"  # constants that were fitted on the machine; that were only measured
SHIPPED = " as shipped"  # ends: a profile's, on another machine of its kind
OF_THE_MACHINE = ("measured", "derived")  # sources of numbers that belong to the machine
SAME = 1e-6  # errors that differ by less are those of the same calibration


class Accuracy(NamedTuple):
    """One comparison of all cells of a replay with a profile's predictions."""

    profile: str
    constants: str  # own, microbenchmarks, carried from ..., emulated ..., ... as shipped
    cells: int
    held_out: bool  # whether the cells had no part in fitting the constants
    median_abs_error: float
    p95_abs_error: float
    worst_abs_error: float
    kendall_tau: float


class Expected(NamedTuple):
    """The error to expect of a predicted mean step: of nearly all if `validated`, else the least there will be."""

    error: float
    validated: bool
    basis: str

    def rates(self, rate: float) -> tuple[float, float]:
        """The lowest and the highest rate on the device if this one is predicted."""
        return rate * (1 - self.error), rate * (1 + self.error)


@cache
def accuracies() -> tuple[Accuracy, ...]:
    """Every comparison that comes with the package; raises InputError if the file is damaged."""
    file = files("specmoe.hwprofiles") / "data" / "accuracy.json"
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return tuple(Accuracy(**{name: row[name] for name in Accuracy._fields}) for row in rows)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file}: rows of {', '.join(Accuracy._fields)} expected ({error!r})") from None


def expected_error(
    profile: HardwareProfile, shape: ModelShape, held: Format, known: Sequence[Accuracy] | None = None
) -> Expected:
    """What is to be expected of predictions of a model with its experts in slots of format `held`.

    A shipped profile has the errors that were seen on another machine of its kind, or else of another kind, as the
    asker's is another too; one's own calibrated profile has those of its calibration, and one that was only measured
    those of others like it. What rests on published, assumed or overridden numbers, or on kernels that were not
    measured, is not validated: the largest error that was seen with constants of another machine is the least to
    expect.
    """
    rows = accuracies() if known is None else known
    unmeasured = _why_unvalidated(profile, shape, held)
    if unmeasured:
        return _unvalidated(rows, unmeasured)
    if profile.calibration is None:
        return _uncalibrated(rows)
    return _calibrated(rows, profile)


def _why_unvalidated(profile: HardwareProfile, shape: ModelShape, held: Format) -> str | None:
    if any(source not in OF_THE_MACHINE for source in _sources(profile)):
        return f"{profile.name} rests on published or assumed numbers"
    if Fitting(profile, shape, held).slot is None:
        return f"no kernels of {shape.name} were measured on {profile.name}"
    return None


def _sources(profile: HardwareProfile) -> Iterator[Source]:
    numbers = (quantity.source for quantity in profile.quantities.values())
    return chain(numbers, (points.source for points in profile.points.values()))


def _unvalidated(rows: Sequence[Accuracy], why: str) -> Expected:
    elsewhere = [row for row in rows if row.constants not in (OWN, UNCALIBRATED)]
    worst = max(elsewhere or rows, key=lambda row: row.worst_abs_error)
    seen = f"{worst.worst_abs_error:.1%} was seen with {worst.profile}, constants {worst.constants}"
    return Expected(worst.worst_abs_error, False, f"not validated, as {why}; {seen}")


def _uncalibrated(rows: Sequence[Accuracy]) -> Expected:
    mine = [row for row in rows if row.constants == UNCALIBRATED]
    worst = max(mine, key=lambda row: row.p95_abs_error)
    return Expected(worst.p95_abs_error, True, f"95% of {worst.cells} cells of {worst.profile}, measured likewise")


def _calibrated(rows: Sequence[Accuracy], profile: HardwareProfile) -> Expected:
    """Of the replays that the calibration was judged by: in the package, or else as the profile itself tells."""
    judged = profile.calibration
    assert judged is not None
    for row in rows:
        same = abs(row.worst_abs_error - judged.worst_abs_error) < SAME
        if row.profile == profile.name and row.constants == OWN and same:
            return _shipped(rows, row)
    basis = f"the worst of {judged.cells} held-out cells that {profile.name} was calibrated beside"
    return Expected(judged.worst_abs_error, True, basis)


def _shipped(rows: Sequence[Accuracy], own: Accuracy) -> Expected:
    basis = f"95% of {own.cells} held-out cells replayed on {own.profile}"
    elsewhere = [row for row in rows if row.constants.endswith(SHIPPED)]
    mine = [row for row in elsewhere if row.constants == own.profile + SHIPPED]
    if not elsewhere:
        return Expected(own.p95_abs_error, True, basis)
    worst = max(mine or elsewhere, key=lambda row: row.p95_abs_error)
    kind = "this kind" if mine else f"the kind of {worst.constants.removesuffix(SHIPPED)}, as of no other of this"
    told = f"95% of {worst.cells} cells on another machine of {kind}; {own.p95_abs_error:.1%} where it was calibrated"
    return Expected(max(worst.p95_abs_error, own.p95_abs_error), True, told)
