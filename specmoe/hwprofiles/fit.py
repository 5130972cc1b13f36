"""Fits of profile numbers to measurements, and their residuals; `specmoe profile fit NAME` repeats them.

All fits minimise the squares of the relative errors, so a small copy counts as much as a large one.

`refit_isca24` derives a profile of the machine of the Pre-gated MoE authors (Hwang et al., ISCA 2024). They published
the latency of a whole decoder MoE layer of switch-base-64 (figures 10 and 14), not of its parts. The operations of
their runtime in such a layer are known (FasterTransformer, fp32, github.com/kaleid-liner/FasterTransformer), so four
numbers of the profile follow from 24 latencies; all others are taken from the profile.

    layer      attention, router, host round trip; then a wait for the fetch; then one grouped launch of all experts
    fetch      one copy per expert from pinned memory, in order, each followed by two copies inside VRAM, of which those
               of the last expert are not hidden; a resident expert also pays these two
    GPU-only   no fetch
    OnDemand   fetch after routing
    Pre-gated  the fetch for the next MoE layer is issued after routing; the first layer fetches its own before
    Prefetch   the same with all experts of a layer

Some numbers cannot be separated with these data. `dense.layer_floor` includes the errors of everything assumed about
the layer (router, round trip, bookkeeping, launch). `host_to_device.pinned.latency` depends on the bandwidth, taken
from a sister card, because all copies have one size. `device_copy.bandwidth` includes the host's part of a fetch
(issue, event).
"""

import csv
import re
from collections.abc import Callable
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.curves import Curve, Line, Points
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import COPIES, GEMMS
from specmoe.units import shown

FITTED_NAMES = (
    "dense.layer_floor",
    "expert_tiles.fp32.efficiency",
    "host_to_device.pinned.latency",
    "device_copy.bandwidth",
)
MOE_LAYERS = 6
CONTEXT = 192  # positions: mean of 128 generated so far (of 256) and 256 of the encoder's input
_SLOPE_STEP = 0.01  # relative, far above the rounding to nanoseconds
_ROUNDS = 6  # of Gauss-Newton


class Observation(NamedTuple):
    """Mean latency of a decoder MoE layer in which `active` experts are used by `batch` sequences."""

    method: str
    batch: int
    active: int
    measured_ns: int

    def __str__(self) -> str:
        return f"{self.method}, batch {self.batch}, {self.active} active"


def observations() -> tuple[Observation, ...]:
    """Published latencies of switch-base-64, figures 10 and 14."""
    table = files("specmoe.hwprofiles") / "data" / "isca24_switch_base_64.csv"
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return tuple(
        Observation(row["method"], int(row["batch"]), _active(row["metric"]), round(float(row["value"]) * 1e6))
        for row in rows
        if row["unit"] == "ms"
    )


def layer_ns(profile: HardwareProfile, seen: Observation) -> int:
    """Predicted latency of an observation."""
    shape = load_shape("switch-base-64")
    costs = Costs(profile, shape, "fp32", "eager", moves=("host-pinned", "device-copy"))
    if seen.method in ("GPU-only", "MoE-OnDemand"):
        fetched = seen.active if seen.method == "MoE-OnDemand" else 0
        return _before_ns(costs, seen) + _fetch_ns(costs, fetched) + _experts_ns(costs, seen)
    return _overlapped_ns(costs, seen, shape.experts.number if seen.method == "MoE-Prefetch" else seen.active)


def refit_isca24(profile: HardwareProfile) -> dict[str, float]:
    """The four fitted numbers, in base units, by Gauss-Newton on the relative errors."""
    values = np.array([profile[name] for name in FITTED_NAMES])
    seen = observations()
    for _ in range(_ROUNDS):
        error = _errors(profile, seen, values)
        steps = np.diag(values * _SLOPE_STEP)
        slopes = np.stack([(_errors(profile, seen, values + step) - error) / step.sum() for step in steps], axis=1)
        scale = 1 / values
        change, *_ = np.linalg.lstsq(slopes / scale, -error, rcond=None)
        values = values + change / scale
    return dict(zip(FITTED_NAMES, values.tolist(), strict=True))


def _errors(
    profile: HardwareProfile, seen: tuple[Observation, ...], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    changed = profile.with_overrides(dict(zip(FITTED_NAMES, values.tolist(), strict=True)))
    return np.array([layer_ns(changed, one) / one.measured_ns - 1 for one in seen])


def _before_ns(costs: Costs, seen: Observation) -> int:
    """Time from the layer's start until its experts could run."""
    device = costs.attention_ns("decode", seen.batch, CONTEXT) + costs.router_ns(seen.batch)
    return device + costs.host.sync_ns + costs.host.bookkeeping_ns + costs.host.launch_ns


def _experts_ns(costs: Costs, seen: Observation) -> int:
    return costs.experts_ns([seen.batch // seen.active] * seen.active)


def _fetch_ns(costs: Costs, experts: int) -> int:
    return experts * costs.load_ns() + _landing_ns(costs) if experts else 0


def _landing_ns(costs: Costs) -> int:
    """Cost of a fetch to its layer even if it is finished: issue, hand-over and two copies inside VRAM."""
    return costs.host.issue_ns + costs.host.event_ns + 2 * costs.device_copy_ns(costs.shape.expert_bytes())


def _overlapped_ns(costs: Costs, seen: Observation, fetched: int) -> int:
    """Mean over a step's layers with fetches one layer ahead; the link is idle when the step begins."""
    before, experts, fetch = _before_ns(costs, seen), _experts_ns(costs, seen), fetched * costs.load_ns()
    between = costs.dense_ns("decode", seen.batch, CONTEXT) - costs.attention_ns("decode", seen.batch, CONTEXT)
    clock, link, inside = 0, 0, 0
    for layer in range(MOE_LAYERS):
        start = clock
        clock += before
        if layer == 0:
            link = clock + fetch
        landed = link
        if layer < MOE_LAYERS - 1:
            link = max(link, clock) + fetch
        clock = max(clock, landed) + _landing_ns(costs) + experts
        inside += clock - start
        clock += between
    return round(inside / MOE_LAYERS)


def _active(metric: str) -> int:
    number = re.search(r"active=(\d+)", metric)
    return int(number[1]) if number else 1


class FitRow(NamedTuple):
    """A measurement and its prediction by the profile."""

    what: str
    at: str
    measured_ns: int
    model_ns: int

    @property
    def error(self) -> float:
        """Relative error; above 0 if the profile is too slow."""
        return self.model_ns / self.measured_ns - 1


class SystemFit(NamedTuple):
    """A fit of several numbers to whole runs, and its residuals."""

    refit: Callable[[HardwareProfile], dict[str, float]]
    rows: Callable[[HardwareProfile], list[FitRow]]


def fit_line(points: Points) -> Line:
    """Fit latency (0 or more) and rate of a line to points; raises InputError if all have the same amount."""
    if len(set(points.amounts)) < 2:
        raise InputError("line fit: points with two different amounts expected")
    amounts, times = _columns(points)
    latency, slope = _least_squares(np.stack([np.ones_like(amounts), amounts], axis=1), times)
    return Line(round(latency), float(1e9 / slope)) if latency >= 0 else Line(0, fit_rate(points))


def fit_rate(points: Points) -> float:
    """Fit the rate, in amount per second, of a line through 0."""
    amounts, times = _columns(points)
    (slope,) = _least_squares(amounts[:, None], times)
    return float(1e9 / slope)


def refit(profile: HardwareProfile) -> dict[str, float]:
    """Repeat the fits of `derived` numbers; returns base units by dotted name."""
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
    """All measurements in a profile, or behind its fit, with their predictions."""
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
        FitRow("MoE layer, switch-base-64", str(seen), seen.measured_ns, layer_ns(profile, seen))
        for seen in observations()
    ]


_SYSTEMS: dict[str, SystemFit] = {"isca24": SystemFit(refit_isca24, _isca24_rows)}


def _columns(points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array(points.amounts, np.float64), np.array(points.times_ns, np.float64)


def _least_squares(design: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients [p] of columns [n, p] that minimise the relative errors."""
    # Columns differ in size by 10^8; scaling them keeps all digits.
    relative = design / times[:, None]
    scale = np.abs(relative).max(axis=0)
    solution, *_ = np.linalg.lstsq(relative / scale, np.ones_like(times), rcond=None)
    return np.asarray(solution / scale)
