"""Expected error of a prediction, from past errors of simulated steps against replayed ones.

`data/accuracy.json` holds the figures of docs/validation.md and is generated with it. An error is that of a cell's
mean step, simulated / measured - 1, as an absolute share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.kernels import Fitting
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import Source
from specmoe.hwprofiles.shape import Format, ModelShape

OWN, UNCALIBRATED = "own", "microbenchmarks"  # host constants fitted on the machine, or only measured
SHIPPED = " as shipped"  # suffix: constants of a profile, used on another machine of its kind
MEASURED_SOURCES: tuple[Source, ...] = ("measured", "derived")
SAME_ERROR = 1e-6  # errors that differ by less are of the same calibration


class Accuracy(NamedTuple):
    """Errors of a profile's predictions over all cells of a replay."""

    profile: str
    constants: str  # own, microbenchmarks, carried from ..., emulated ..., ... as shipped
    cells: int
    held_out: bool  # whether the cells had no part in fitting the constants
    median_abs_error: float
    p95_abs_error: float
    worst_abs_error: float
    kendall_tau: float


class Expected(NamedTuple):
    """Expected error of a predicted mean step: an upper bound for most cells if `validated`, else a lower bound."""

    error: float
    validated: bool
    basis: str

    def rates(self, rate: float) -> tuple[float, float]:
        """Lowest and highest rate to expect on the device for a predicted rate."""
        return rate * (1 - self.error), rate * (1 + self.error)


@cache
def accuracies() -> tuple[Accuracy, ...]:
    """All comparisons in the package; raises InputError if the file is damaged."""
    file = files("specmoe.hwprofiles") / "data" / "accuracy.json"
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return tuple(Accuracy(**{name: row[name] for name in Accuracy._fields}) for row in rows)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file}: rows of {', '.join(Accuracy._fields)} expected ({error!r})") from None


def expected_error(
    profile: HardwareProfile, shape: ModelShape, held: Format, known: Sequence[Accuracy] | None = None
) -> Expected:
    """Expected error for a model on a profile, with experts in slots of format `held`.

    A bundled profile has the errors seen on another machine of its kind, else of another kind, because the user's
    machine is also another one. A user's calibrated profile has the errors of its calibration; one that was only
    measured has those of similar profiles. A profile with published, assumed or overridden numbers, or without measured
    kernels of the model, is not validated: the largest error seen with constants of another machine is a lower bound.
    """
    rows = accuracies() if known is None else known
    why = _why_unvalidated(profile, shape, held)
    if why:
        return _unvalidated(rows, why)
    if profile.calibration is None:
        return _uncalibrated(rows)
    return _calibrated(rows, profile)


def _why_unvalidated(profile: HardwareProfile, shape: ModelShape, held: Format) -> str | None:
    if any(source not in MEASURED_SOURCES for source in _sources(profile)):
        return f"{profile.name} has published or assumed numbers"
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
    """Expected error of a calibrated profile, from the package's comparisons, else from the profile's calibration."""
    calibration = profile.calibration
    assert calibration is not None
    for row in rows:
        same = abs(row.worst_abs_error - calibration.worst_abs_error) < SAME_ERROR
        if row.profile == profile.name and row.constants == OWN and same:
            return _shipped(rows, row)
    basis = f"the worst of {calibration.cells} held-out cells that {profile.name} was calibrated beside"
    return Expected(calibration.worst_abs_error, True, basis)


def _shipped(rows: Sequence[Accuracy], own: Accuracy) -> Expected:
    basis = f"95% of {own.cells} held-out cells replayed on {own.profile}"
    elsewhere = [row for row in rows if row.constants.endswith(SHIPPED)]
    mine = [row for row in elsewhere if row.constants == own.profile + SHIPPED]
    if not elsewhere:
        return Expected(own.p95_abs_error, True, basis)
    worst = max(mine or elsewhere, key=lambda row: row.p95_abs_error)
    kind = "this kind" if mine else f"the kind of {worst.constants.removesuffix(SHIPPED)}, as of no other of this"
    description = (
        f"95% of {worst.cells} cells on another machine of {kind}; {own.p95_abs_error:.1%} where it was calibrated"
    )
    return Expected(max(worst.p95_abs_error, own.p95_abs_error), True, description)
