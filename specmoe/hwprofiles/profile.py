"""How well a profile whose host costs were fitted on whole runs predicts other runs, which the fit never saw.

A machine: named quantities, measured points, and curves made of them. `fields` tells the names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.curves import Curve, Interpolated, Line, Points, Range
from specmoe.hwprofiles.formats import ComputeFormat, Format
from specmoe.hwprofiles.quantity import (
    CONTENTION,
    EXPANSIONS,
    INTERFERENCE,
    QUANTITIES,
    SHARES,
    TILES,
    Evidence,
    Quantity,
    weakest,
)
from specmoe.hwprofiles.shape import Phase

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


DensePart = Literal["before", "head", "router"]
Fact = str | int | float


@dataclass(frozen=True)
class ExpertCurve:
    """Measured (tokens, ns) of one expert of a certain shape, alone on the device, held in one format.

    Where that is a compressed one, every time includes its expansion.
    """

    d_model: int
    d_ff: int
    gated: bool
    format: Format
    points: Points


@dataclass(frozen=True)
class DenseCurve:
    """Measured (tokens, ns) of what is not an expert, as one captured graph, at one context.

    `before` is everything before a MoE layer's experts up to the router's result, `head` what is behind the last one.
    """

    part: DensePart
    phase: Phase
    d_model: int
    parameters: int  # `ModelShape.dense_parameters` or `.head_parameters`
    format: ComputeFormat
    context: int  # positions that each token attends to; 0 for a head
    points: Points


@dataclass(frozen=True)
class HardwareProfile:
    """How long things take on one machine."""

    name: str
    title: str
    quantities: Mapping[str, Quantity]
    points: Mapping[str, Points]
    expert_curves: tuple[ExpertCurve, ...] = ()
    fitted_by: str | None = None  # which of `fields.SYSTEM_FITS` made the derived numbers out of whole runs
    dense_curves: tuple[DenseCurve, ...] = ()
    calibration: Calibration | None = None
    machine: Mapping[str, Fact] = field(default_factory=dict)  # what was measured, in plain facts
    expert_speed: float = 1.0  # what multiplies the roofline where it is of experts, measured curves aside
    dense_speed: float = 1.0  # the same of all that is not an expert

    def __getitem__(self, name: str) -> float:
        """A number in base units by its dotted name; raises KeyError for an optional one that is absent."""
        return self.quantities[name].value

    def __contains__(self, name: object) -> bool:
        return name in self.quantities

    def ns(self, name: str) -> int:
        """A time."""
        return int(self.quantities[name].value)

    @property
    def contention(self) -> float:
        """How many times longer pinned copies take in whole runs than alone; 1 unless that is known."""
        known = self.quantities.get(CONTENTION)
        return known.value if known else 1.0

    @property
    def interference(self) -> float:
        """The share by which kernels take longer while a copy is under way; 0 unless that is known."""
        known = self.quantities.get(INTERFERENCE)
        return known.value if known else 0.0

    def curve(self, group: str) -> Curve:
        """Time of one of `fields.COPIES`, or of `fields.EXPANSIONS`, against its bytes."""
        expands = group in EXPANSIONS
        latency = self.ns("device.kernel_floor" if expands else f"{group}.latency")
        if f"{group}.points" in self.points:
            return Interpolated(latency, self.points[f"{group}.points"])
        return Line(latency, self[f"{group}.rate" if expands else f"{group}.bandwidth"], self._fitted_range(group))

    def plateau(self, copy: str) -> float:
        """Bytes a second of large copies: the bandwidth, or that of the largest one measured."""
        if f"{copy}.points" not in self.points:
            return self[f"{copy}.bandwidth"]
        points = self.points[f"{copy}.points"]
        return points.amounts[-1] / points.times_ns[-1] * 1e9

    def with_plateau(self, copy: str, rate: float) -> HardwareProfile:
        """A copy in which a link's large copies reach another bandwidth, `assumed` from then on; latency stays.

        Times above the latency are multiplied alike, so that a measured curve keeps its form; none gets below it.
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
        """Names of the quantities `group.*`, or of its points where they are its curve, with what begins it."""
        curve, replaced = f"{group}.points", f"{group}.rate"
        inside = tuple(name for name in self.quantities if name.startswith(f"{group}."))
        return (*(name for name in inside if name != replaced), curve) if curve in self.points else inside

    def evidence(self, names: Iterable[str]) -> Evidence:
        """The weakest evidence among quantities and points."""
        return weakest(self._origin(name).evidence for name in names)

    def assumed(self, names: Iterable[str] | None = None) -> tuple[str, ...]:
        """Those of the names (all, unless told) that are assumed, in their order."""
        return tuple(
            name for name in (self.quantities if names is None else names) if self._origin(name).source == "assumed"
        )

    def _origin(self, name: str) -> Quantity | Points:
        return self.quantities[name] if name in self.quantities else self.points[name]

    def with_overrides(self, values: Mapping[str, float]) -> HardwareProfile:
        """A copy in which some quantities, in base units (bytes, bytes/s, ns, flop/s), are the user's.

        They are `assumed` from then on. Raises InputError for an unknown name, naming the nearest, or a bad value.
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

    def with_calibrated(self, values: Mapping[str, float], ref: str) -> HardwareProfile:
        """A copy in which costs of the host, or of copies beside kernels, were derived from whole runs, as `ref` says.

        Optional ones may be new, and an interference of 0 is left out. Raises InputError for any other name, naming the
        nearest, or a bad value.
        """
        quantities = {**self.quantities, **{name: self._derived(name, value, ref) for name, value in values.items()}}
        if not values.get(INTERFERENCE, 1):
            del quantities[INTERFERENCE]
        return dataclasses.replace(self, quantities=quantities)

    def _derived(self, name: str, value: float, ref: str) -> Quantity:
        known = [other for other in QUANTITIES if other.startswith("host.") or other in (CONTENTION, INTERFERENCE)]
        if name not in known:
            raise InputError(f"profile {self.name}: {name}: not to be calibrated: {hint(name, known)}")
        unit = QUANTITIES[name]
        if not math.isfinite(value) or value < 0:
            raise InputError(f"profile {self.name}: {name}: {value}: a finite number, 0 or more, expected, in {unit}")
        return Quantity(round(value) if unit == "ns" else value, unit, "derived", ref)

    @property
    def hash(self) -> str:
        """SHA-256 of everything that decides a cost or its evidence; wording, units and layout do not matter."""
        numbers = {name: (f"{q.value:.12g}", q.source) for name, q in self.quantities.items()}
        points = {name: (p.amounts, p.times_ns, p.source) for name, p in self.points.items()}
        curves = sorted(json.dumps(dataclasses.asdict(curve) | {"points": None}) for curve in self.expert_curves)
        timed = sorted((c.points.amounts, c.points.times_ns, c.points.source) for c in self.expert_curves)
        # What a profile without dense curves is known by does not change because there are others.
        dense = [sorted(map(_identity, self.dense_curves))] if self.dense_curves else []
        speeds = [self.expert_speed, self.dense_speed] if (self.expert_speed, self.dense_speed) != (1, 1) else []
        text = json.dumps([self.name, numbers, points, curves, timed, *dense, *speeds], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _identity(curve: DenseCurve) -> str:
    points = curve.points
    return json.dumps(dataclasses.asdict(curve) | {"points": [points.amounts, points.times_ns, points.source]})
