"""A hardware profile: named quantities, measured points, the curves made of them, and how well it was calibrated.

`quantity` lists the names. A calibration records how well a profile with host costs fitted on whole runs predicts other
runs, which the fit did not use.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.curves import (
    AnyCurve,
    CpuCurve,
    Curve,
    DenseCurve,
    ExpertCurve,
    Fact,
    Interpolated,
    Line,
    Points,
    Range,
    Timed,
    curve_name,
    identity_of,
)
from specmoe.hwprofiles.quantity import (
    CALIBRATED,
    CONTENTION,
    COPIES,
    EXPANSIONS,
    INTERFERENCE,
    QUANTITIES,
    SHARES,
    TILES,
    Bounds,
    Evidence,
    Quantity,
    weakest,
)

TARGET_WORST_ERROR = 0.04  # of a held-out cell's mean step
TARGET_MEDIAN_ERROR = 0.01  # median over held-out cells


@dataclass(frozen=True)
class Calibration:
    """Absolute relative errors on `cells` held-out cells after a fit on `fit_cells` others."""

    median_abs_error: float
    worst_abs_error: float
    cells: int
    fit_cells: int
    met: bool  # all targets
    ref: str

    @property
    def shortfall(self) -> str | None:
        """Warning for every result if a target was missed, else None."""
        if self.met:
            return None
        if self.worst_abs_error > TARGET_WORST_ERROR:
            missed = _beyond("worst", self.worst_abs_error, TARGET_WORST_ERROR)
        elif self.median_abs_error > TARGET_MEDIAN_ERROR:
            missed = _beyond("median", self.median_abs_error, TARGET_MEDIAN_ERROR)
        else:
            missed = self.ref
        return f"its calibration missed its target: {missed}"


@dataclass(frozen=True)
class HardwareProfile:
    """Speeds and durations of one machine."""

    name: str
    title: str
    quantities: Mapping[str, Quantity]
    points: Mapping[str, Points]
    expert_curves: tuple[ExpertCurve, ...] = ()
    fitted_by: str | None = None  # one of `quantity.SYSTEM_FITS`, which derived numbers from whole runs
    dense_curves: tuple[DenseCurve, ...] = ()
    calibration: Calibration | None = None
    machine: Mapping[str, Fact] = field(default_factory=dict)  # facts about the measured machine
    expert_speed: float = 1.0  # multiplies the roofline rates of experts; measured curves have it already
    dense_speed: float = 1.0  # likewise, of everything except experts
    usual_host: str | None = None  # of a device without the numbers of a host
    host: str | None = None  # of a device together with that host's numbers
    note: str | None = None  # warning for every result
    cpu_curves: tuple[CpuCurve, ...] = ()

    def __getitem__(self, name: str) -> float:
        """Value of a quantity in base units by dotted name; raises KeyError for an absent optional one."""
        return self.quantities[name].value

    def __contains__(self, name: object) -> bool:
        return name in self.quantities

    def ns(self, name: str) -> int:
        """Value of a time by dotted name, in ns."""
        return int(self.quantities[name].value)

    @property
    def contention(self) -> float:
        """Factor by which pinned copies take longer in whole runs than alone; 1 if unknown."""
        known = self.quantities.get(CONTENTION)
        return known.value if known else 1.0

    @property
    def interference(self) -> float:
        """Share by which kernels take longer during a copy; 0 if unknown."""
        known = self.quantities.get(INTERFERENCE)
        return known.value if known else 0.0

    def curve(self, group: str) -> Curve:
        """Time against bytes of one of `quantity.COPIES` or `quantity.EXPANSIONS`."""
        expands = group in EXPANSIONS
        latency = self.ns("device.kernel_floor" if expands else f"{group}.latency")
        if f"{group}.points" in self.points:
            return Interpolated(latency, self.points[f"{group}.points"])
        return Line(latency, self[f"{group}.rate" if expands else f"{group}.bandwidth"], self._fitted_range(group))

    def plateau(self, copy: str) -> float:
        """Bytes per second of large copies: the bandwidth, or the rate of the largest measured copy."""
        return plateau_of(copy, self.quantities, self.points)

    def with_plateau(self, copy: str, rate: float) -> "HardwareProfile":
        """Copy of the profile with another bandwidth for large copies, which becomes `assumed`; the latency stays.

        All times above the latency are multiplied by one factor, so a measured curve keeps its form; no time falls
        below the latency.
        """
        name = f"{copy}.points"
        if name not in self.points:
            return self.with_overrides({f"{copy}.bandwidth": rate})
        old, latency = self.points[name], self.ns(f"{copy}.latency")
        longer = (old.amounts[-1] / rate * 1e9 - latency) / max(1, old.times_ns[-1] - latency)
        times = tuple(max(latency, 1, round(latency + (time - latency) * longer)) for time in old.times_ns)
        changed = dataclasses.replace(old, times_ns=times, source="assumed", ref="set by the user")
        return dataclasses.replace(self, points={**self.points, name: changed})

    def _fitted_range(self, copy: str) -> Range | None:
        fitted_to = self.points.get(f"{copy}.fitted_to")
        return fitted_to.range if fitted_to else None

    def names_under(self, group: str) -> tuple[str, ...]:
        """Names of the quantities `group.*`; if points are its curve, they replace its rate."""
        curve, replaced = f"{group}.points", f"{group}.rate"
        inside = tuple(name for name in self.quantities if name.startswith(f"{group}."))
        return (*(name for name in inside if name != replaced), curve) if curve in self.points else inside

    def evidence(self, names: Iterable[str]) -> Evidence:
        """Weakest evidence among the named quantities and points."""
        return weakest(self._origin(name).evidence for name in names)

    def assumed(self, names: Iterable[str] | None = None) -> tuple[str, ...]:
        """Assumed quantities among `names` (default: all), in their order."""
        return tuple(
            name for name in (self.quantities if names is None else names) if self._origin(name).source == "assumed"
        )

    def _origin(self, name: str) -> Quantity | Points:
        return self.quantities[name] if name in self.quantities else self.points[name]

    def with_overrides(self, values: Mapping[str, float]) -> "HardwareProfile":
        """Copy of the profile with values set by the user, in base units (bytes, bytes/s, ns, flop/s).

        They become `assumed`. Raises InputError for an unknown name, suggesting the nearest, or a bad value.
        """
        changed = {name: self._overridden(name, value) for name, value in values.items()}
        return dataclasses.replace(self, quantities={**self.quantities, **changed})

    def _overridden(self, name: str, value: float) -> Quantity:
        if name not in self.quantities:
            raise InputError(f"profile {self.name}: {name}: no such quantity: {hint(name, self.quantities)}")
        old = self.quantities[name]
        is_time = old.unit == "ns"
        if not math.isfinite(value) or value < 0 or (value == 0 and not is_time):
            raise InputError(f"profile {self.name}: {name}: {value}: a finite number above 0 expected, in {old.unit}")
        if name.endswith(SHARES) and value > 1:
            raise InputError(f"profile {self.name}: {name}: {value}: a share, at most 1, expected")
        if name.startswith(TILES) and not name.endswith(SHARES) and value < 1:
            raise InputError(f"profile {self.name}: {name}: {value}: 1 or more expected")
        return Quantity(round(value) if is_time else value, old.unit, "assumed", "set by the user")

    @property
    def named_points(self) -> dict[str, Points]:
        """All points by name; those of curves under `curve_name`."""
        curves: tuple[AnyCurve, ...] = (*self.expert_curves, *self.dense_curves, *self.cpu_curves)
        return {**self.points, **{curve_name(curve): curve.points for curve in curves}}

    @property
    def ranges(self) -> dict[str, Bounds]:
        """Least and largest plausible value of each quantity with a range, and factor of each curve, by name."""
        numbers = {name: quantity.range for name, quantity in self.quantities.items()}
        known = {**numbers, **{name: points.factors for name, points in self.named_points.items()}}
        return {name: bounds for name, bounds in known.items() if bounds is not None}

    def with_values(self, values: Mapping[str, float]) -> "HardwareProfile":
        """One machine out of `ranges`: quantities in base units and factors of curves, by name.

        Sources stay, and what is set has no range any more. Raises InputError for a name without a range.
        """
        known = self.ranges
        for name in values:
            if name not in known:
                raise InputError(f"profile {self.name}: {name}: no range is known: {hint(name, known)}")
        drawn = {name: self.quantities[name].at(value) for name, value in values.items() if name in self}
        machine = dataclasses.replace(self, quantities={**self.quantities, **drawn})
        points = {name: points.times(values.get(name, 1)) for name, points in self.points.items()}
        for name in (f"{copy}.points" for copy in COPIES if f"{copy}.points" in points):
            points[name] = points[name].not_below(machine[name.replace(".points", ".latency")])

        def timed(curve: Timed) -> Timed:
            return dataclasses.replace(curve, points=curve.points.times(values.get(curve_name(curve), 1)))

        return dataclasses.replace(
            machine,
            points=points,
            expert_curves=tuple(map(timed, self.expert_curves)),
            dense_curves=tuple(map(timed, self.dense_curves)),
            cpu_curves=tuple(map(timed, self.cpu_curves)),
        )

    def with_calibrated(self, values: Mapping[str, float], ref: str) -> "HardwareProfile":
        """Copy of the profile with costs of the host or of its CPU, contention or interference derived from whole runs.

        `ref` says how.

        Optional quantities may be added; an interference of 0 is dropped. Raises InputError for any other name,
        suggesting the nearest, or a bad value.
        """
        quantities = {**self.quantities, **{name: self._derived(name, value, ref) for name, value in values.items()}}
        if not values.get(INTERFERENCE, 1):
            del quantities[INTERFERENCE]
        return dataclasses.replace(self, quantities=quantities)

    def _derived(self, name: str, value: float, ref: str) -> Quantity:
        known = [other for other in QUANTITIES if other.startswith("host.") or other in CALIBRATED]
        if name not in known:
            raise InputError(f"profile {self.name}: {name}: not to be calibrated: {hint(name, known)}")
        unit = QUANTITIES[name]
        if not math.isfinite(value) or value < 0:
            raise InputError(f"profile {self.name}: {name}: {value}: a finite number, 0 or more, expected, in {unit}")
        return Quantity(round(value) if unit == "ns" else value, unit, "derived", ref)

    @property
    def hash(self) -> str:
        """SHA-256 of everything that determines a cost or its evidence, independent of wording, units and layout."""
        numbers = {name: (f"{q.value:.12g}", q.source) for name, q in self.quantities.items()}
        points = {name: (p.amounts, p.times_ns, p.source) for name, p in self.points.items()}
        ranges = [{name: [f"{end:.12g}" for end in ends] for name, ends in self.ranges.items()}] if self.ranges else []
        curves = sorted(json.dumps(curve.named | {"points": None}) for curve in self.expert_curves)
        timed = sorted((c.points.amounts, c.points.times_ns, c.points.source) for c in self.expert_curves)
        # Hash other curves and ranges only if present, so that hashes of older profiles stay the same.
        dense = [sorted(map(identity_of, curves)) for curves in (self.dense_curves, self.cpu_curves) if curves]
        speeds = [self.expert_speed, self.dense_speed] if (self.expert_speed, self.dense_speed) != (1, 1) else []
        text = json.dumps([self.name, numbers, points, curves, timed, *dense, *speeds, *ranges], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def plateau_of(copy: str, quantities: Mapping[str, Quantity], points: Mapping[str, Points]) -> float:
    """Bytes per second of large copies: the bandwidth, or the rate of the largest measured copy."""
    if f"{copy}.points" not in points:
        return quantities[f"{copy}.bandwidth"].value
    curve = points[f"{copy}.points"]
    return curve.amounts[-1] / curve.times_ns[-1] * 1e9


def _beyond(what: str, error: float, most: float) -> str:
    return f"{what} held-out error {error:.1%}, at most {most:.0%} expected".replace("%", " %")


@dataclass(frozen=True)
class Host:
    """Everything of a machine except its device: link, memory, CPU, launches and waits, disk."""

    name: str
    title: str
    quantities: Mapping[str, Quantity]
    points: Mapping[str, Points]
    cpu_curves: tuple[CpuCurve, ...] = ()
    machine: Mapping[str, Fact] = field(default_factory=dict)
    measured_with: str | None = None  # the device that its numbers were measured or fitted with
