"""Numbers fitted on measurements, and how far they are from them. `specmoe profile fit NAME` makes them again.

All fits make the squares of the relative errors least, so a small copy counts as much as a large one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles import isca24
from specmoe.hwprofiles.curves import Curve, Line, Points
from specmoe.hwprofiles.fields import COPIES, GEMMS
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.units import shown


class FitRow(NamedTuple):
    """One measurement and what the profile says of it."""

    what: str
    at: str
    measured_ns: int
    model_ns: int

    @property
    def error(self) -> float:
        """Relative; above 0 where the profile is too slow."""
        return self.model_ns / self.measured_ns - 1


class SystemFit(NamedTuple):
    """How numbers were made out of whole runs, not out of points of one curve each."""

    refit: Callable[[HardwareProfile], dict[str, float]]
    rows: Callable[[HardwareProfile], list[FitRow]]


def fit_line(points: Points) -> Line:
    """Latency (0 or more) and rate of a line through points; raises InputError if all have one amount."""
    if len(set(points.amounts)) < 2:
        raise InputError("a line: points of two different amounts expected")
    amounts, times = _columns(points)
    latency, slope = _least_squares(np.stack([np.ones_like(amounts), amounts], axis=1), times)
    return Line(round(latency), float(1e9 / slope)) if latency >= 0 else Line(0, fit_rate(points))


def fit_rate(points: Points) -> float:
    """Amount a second of a line through 0."""
    amounts, times = _columns(points)
    (slope,) = _least_squares(amounts[:, None], times)
    return float(1e9 / slope)


def refit(profile: HardwareProfile) -> dict[str, float]:
    """What `derived` numbers that were fitted come out as, in base units by dotted name."""
    if profile.fitted_by:
        return _SYSTEMS[profile.fitted_by].refit(profile)
    fitted: dict[str, float] = {}
    for name, points in profile.points.items():
        group, _, role = name.rpartition(".")
        if role == "fitted_to" and group in COPIES:
            line = fit_line(points)
            fitted |= {f"{group}.latency": line.latency_ns, f"{group}.bandwidth": line.rate}
        elif role == "fitted_to":
            fitted[f"{group}.efficiency"] = fit_rate(points) / profile[f"{group}.rate"]
    return fitted


def fit_rows(profile: HardwareProfile) -> list[FitRow]:
    """Every measurement in the profile, or behind it, beside what its costs say."""
    rows = [
        FitRow(name, " ".join(shown(amount, points.unit)), time_ns, _model(profile, name)(amount))
        for name, points in profile.points.items()
        for amount, time_ns in zip(points.amounts, points.times_ns, strict=True)
    ]
    return rows + (_SYSTEMS[profile.fitted_by].rows(profile) if profile.fitted_by else [])


def _model(profile: HardwareProfile, name: str) -> Curve:
    group = name.rpartition(".")[0]
    if group in GEMMS:
        return Line(0, profile[f"{group}.rate"] * profile[f"{group}.efficiency"])
    return profile.curve(group)


def _isca24_rows(profile: HardwareProfile) -> list[FitRow]:
    return [
        FitRow("MoE layer, switch-base-64", str(seen), seen.measured_ns, isca24.layer_ns(profile, seen))
        for seen in isca24.observations()
    ]


_SYSTEMS: dict[str, SystemFit] = {"isca24": SystemFit(isca24.refit, _isca24_rows)}


def _columns(points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array(points.amounts, np.float64), np.array(points.times_ns, np.float64)


def _least_squares(design: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients [p] of columns [n, p] with the least relative errors."""
    # Columns differ by 10^8 in size: brought to one scale, no digit is lost.
    relative = design / times[:, None]
    scale = np.abs(relative).max(axis=0)
    found, *_ = np.linalg.lstsq(relative / scale, np.ones_like(times), rcond=None)
    return np.asarray(found / scale)
