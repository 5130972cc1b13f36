"""A profile of the Pre-gated MoE authors' machine, out of whole MoE layers that they timed (Hwang et al., ISCA 2024).

They published the latency of a decoder MoE layer of switch-base-64 (figures 10 and 14), not that of its parts. What
their runtime (FasterTransformer, fp32, github.com/kaleid-liner/FasterTransformer) does in such a layer is known, so
four numbers of the profile follow from 24 latencies; everything else is taken as the profile has it.

    layer      attention, router, host round trip; then the fetch is waited for; then one grouped launch of all experts
    fetch      one copy of a whole expert from pinned memory each, in order; two copies inside VRAM after it, of which
               those of the last expert are not hidden; a resident expert pays these two as well
    GPU-only   no fetch
    OnDemand   fetch after routing
    Pre-gated  the fetch for the next MoE layer is issued after routing; the first layer fetches its own before
    Prefetch   the same with all experts of a layer

What these data cannot tell apart: `dense.layer_floor` takes in the true cost of everything of the layer that is assumed
(router, round trip, bookkeeping, launch); `host_to_device.pinned.latency` depends on the bandwidth, taken from a
sister card, because all copies have one size; `device_copy.bandwidth` takes in the host's part of a fetch (issue,
event).

Numbers fitted on measurements, and how far they are from them. `specmoe profile fit NAME` makes them again.

All fits make the squares of the relative errors least, so a small copy counts as much as a large one.
"""

from __future__ import annotations

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

FREE = (
    "dense.layer_floor",
    "expert_tiles.fp32.efficiency",
    "host_to_device.pinned.latency",
    "device_copy.bandwidth",
)
MOE_LAYERS = 6
CONTEXT = 192  # positions: mean of 128 of the text so far (256 are generated) and 256 of the encoder's input
_STEP = 0.01  # relative, for slopes: far above the rounding to nanoseconds
_ROUNDS = 6


class Observation(NamedTuple):
    """Mean latency of a decoder MoE layer in which `active` experts are used by `batch` sequences."""

    method: str
    batch: int
    active: int
    measured_ns: int

    def __str__(self) -> str:
        return f"{self.method}, batch {self.batch}, {self.active} active"


def observations() -> tuple[Observation, ...]:
    """The latencies of figures 10 and 14, switch-base-64."""
    table = files("specmoe.hwprofiles") / "data" / "isca24_switch_base_64.csv"
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return tuple(
        Observation(row["method"], int(row["batch"]), _active(row["metric"]), round(float(row["value"]) * 1e6))
        for row in rows
        if row["unit"] == "ms"
    )


def layer_ns(profile: HardwareProfile, seen: Observation) -> int:
    """What the profile says of an observation's latency."""
    shape = load_shape("switch-base-64")
    costs = Costs(profile, shape, "fp32", "eager", moves=("host-pinned", "device-copy"))
    if seen.method in ("GPU-only", "MoE-OnDemand"):
        fetched = seen.active if seen.method == "MoE-OnDemand" else 0
        return _before_ns(costs, seen) + _fetch_ns(costs, fetched) + _experts_ns(costs, seen)
    return _overlapped_ns(costs, seen, shape.experts.number if seen.method == "MoE-Prefetch" else seen.active)


def refit_isca24(profile: HardwareProfile) -> dict[str, float]:
    """The four numbers, in base units, that make the squares of the relative errors least (Gauss-Newton)."""
    values = np.array([profile[name] for name in FREE])
    seen = observations()
    for _ in range(_ROUNDS):
        error = _errors(profile, seen, values)
        steps = np.diag(values * _STEP)
        slopes = np.stack([(_errors(profile, seen, values + step) - error) / step.sum() for step in steps], axis=1)
        scale = 1 / values
        change, *_ = np.linalg.lstsq(slopes / scale, -error, rcond=None)
        values = values + change / scale
    return dict(zip(FREE, values.tolist(), strict=True))


def _errors(
    profile: HardwareProfile, seen: tuple[Observation, ...], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    changed = profile.with_overrides(dict(zip(FREE, values.tolist(), strict=True)))
    return np.array([layer_ns(changed, one) / one.measured_ns - 1 for one in seen])


def _before_ns(costs: Costs, seen: Observation) -> int:
    """From the layer's start until its experts could run."""
    device = costs.attention_ns("decode", seen.batch, CONTEXT) + costs.router_ns(seen.batch)
    return device + costs.host.sync_ns + costs.host.bookkeeping_ns + costs.host.launch_ns


def _experts_ns(costs: Costs, seen: Observation) -> int:
    return costs.experts_ns([seen.batch // seen.active] * seen.active)


def _fetch_ns(costs: Costs, experts: int) -> int:
    return experts * costs.load_ns() + _landing_ns(costs) if experts else 0


def _landing_ns(costs: Costs) -> int:
    """Issue, hand-over and the two copies inside VRAM: what even a finished fetch costs its layer."""
    return costs.host.issue_ns + costs.host.event_ns + 2 * costs.device_copy_ns(costs.shape.expert_bytes())


def _overlapped_ns(costs: Costs, seen: Observation, fetched: int) -> int:
    """Mean over the layers of a step with one fetch ahead; the link is idle when the step begins."""
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
    found = re.search(r"active=(\d+)", metric)
    return int(found[1]) if found else 1


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
        FitRow("MoE layer, switch-base-64", str(seen), seen.measured_ns, layer_ns(profile, seen))
        for seen in observations()
    ]


_SYSTEMS: dict[str, SystemFit] = {"isca24": SystemFit(refit_isca24, _isca24_rows)}


def _columns(points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array(points.amounts, np.float64), np.array(points.times_ns, np.float64)


def _least_squares(design: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients [p] of columns [n, p] with the least relative errors."""
    # Columns differ by 10^8 in size: brought to one scale, no digit is lost.
    relative = design / times[:, None]
    scale = np.abs(relative).max(axis=0)
    found, *_ = np.linalg.lstsq(relative / scale, np.ones_like(times), rcond=None)
    return np.asarray(found / scale)
