"""Curves of time against size: a latency and a bandwidth, or measured points; results are whole nanoseconds.

A copy of n bytes takes latency + n / bandwidth: bandwidth is the plateau of large copies, and half of it is reached at
latency * bandwidth bytes. If the measured bandwidth falls with size no such line fits; then straight lines join the
points, starting at (0, latency), and the last segment continues beyond them unless it falls. Times of copies never fall
as sizes grow; times of kernels may fall from one number of tokens to the next, where a library switches kernels.

Measured curves of whole parts say what they are curves of; a file has them as tables [[expert_curve]], [[dense_curve]]
and [[cpu_curve]].
"""

import dataclasses
import json
from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from specmoe.errors import Place, hint
from specmoe.files import require_names
from specmoe.hwprofiles import quantity
from specmoe.hwprofiles.shape import FORMATS, ComputeFormat, Format, Phase
from specmoe.units import Dimension, shown


class Range(NamedTuple):
    """Range of measured sizes, ends included."""

    least: int
    most: int

    def __contains__(self, amount: object) -> bool:
        return isinstance(amount, int) and self.least <= amount <= self.most


@dataclass(frozen=True)
class Points:
    """Measured (amount, ns) pairs with amounts that never fall; `unit` is the unit of the amounts."""

    amounts: tuple[int, ...]
    times_ns: tuple[int, ...]
    unit: Dimension
    source: quantity.Source
    ref: str
    low: float | None = None  # factor of all times; None if no range is known
    high: float | None = None

    @property
    def factors(self) -> quantity.Bounds | None:
        """Least and largest plausible factor of all times; None if no range is known."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def times(self, factor: float) -> "Points":
        """The points with all times multiplied, and no range any more; the points themselves if the factor is 1."""
        if factor == 1:
            return self
        times = tuple(max(1, round(time * factor)) for time in self.times_ns)
        return replace(self, times_ns=times, low=None, high=None)

    def not_below(self, least_ns: float) -> "Points":
        """The points with no time below `least_ns`."""
        return replace(self, times_ns=tuple(max(round(least_ns), time) for time in self.times_ns))

    @property
    def evidence(self) -> quantity.Evidence:
        """Evidence of a result that uses these points."""
        return quantity.OF_SOURCE[self.source]

    @property
    def range(self) -> Range:
        """Smallest and largest amount."""
        return Range(self.amounts[0], self.amounts[-1])


@dataclass(frozen=True)
class Line:
    """Straight line: latency + amount / rate, with the rate per second."""

    latency_ns: int
    rate: float
    measured: Range | None = None  # None: not fitted to points, so it has no range

    def __call__(self, amount: int) -> int:
        """Nanoseconds for an amount."""
        return round(self.latency_ns + amount / self.rate * 1e9)

    @property
    def half_bandwidth_amount(self) -> int:
        """Amount at which half of the plateau is reached."""
        return round(self.latency_ns * self.rate / 1e9)


@dataclass(frozen=True)
class Interpolated:
    """Straight line segments through (0, latency) and the points."""

    latency_ns: int
    points: Points

    @property
    def measured(self) -> Range:
        """Range of the points."""
        return self.points.range

    def __call__(self, amount: int) -> int:
        """Nanoseconds for an amount."""
        amounts, times = (0, *self.points.amounts), (self.latency_ns, *self.points.times_ns)
        right = min(max(bisect_left(amounts, amount), 1), len(amounts) - 1)
        left = right - 1
        slope = (times[right] - times[left]) / (amounts[right] - amounts[left])
        if amount > amounts[right]:
            left, slope = right, max(0.0, slope)
        return round(times[left] + (amount - amounts[left]) * slope)


Curve = Line | Interpolated


def extrapolation(curve: Curve, amount: int, name: str, unit: Dimension) -> str | None:
    """Warning if `amount` is outside the measured range of a curve, else None."""
    if curve.measured is None or amount in curve.measured:
        return None
    size, least, most = (" ".join(shown(value, unit)) for value in (amount, *curve.measured))
    return f"{name}: {size} is outside the measured {least} .. {most}"


def read_points(place: Place, table: object, unit: Dimension) -> Points:
    """Read points from {unit = [of amounts, of times], source, ref, values = [[amount, time], ...]}.

    Factors low and high are optional. Raises InputError for anything else and for amounts that fall.
    """
    fields = require_names(place, table, ("unit", "source", "ref", "values"), quantity.BOUNDS)
    units, values = fields["unit"], fields["values"]
    if not isinstance(units, list) or len(units) != 2:
        raise (place / "unit").wrong(f"{units!r}: two units, of the amounts and of the times, expected")
    scales = quantity.read_scale(place / "unit", units[0], unit), quantity.read_scale(place / "unit", units[1], "ns")
    if not isinstance(values, list) or not values:
        raise (place / "values").wrong(f"{values!r}: a list of [amount, time] expected")
    pairs = [_pair(place / f"values[{at}]", pair, unit, scales) for at, pair in enumerate(values)]
    for at, (before, after) in enumerate(pairwise(pairs), 1):
        if after[0] < before[0]:
            raise (place / f"values[{at}]").wrong(f"{values[at]}: rising amounts expected")
    amounts, times = zip(*pairs, strict=True)
    return Points(amounts, times, unit, *quantity.read_origin(place, fields), *quantity.read_bounds(place, fields, 1))


def require_rising(place: Place, points: Points) -> Points:
    """Return points whose amounts rise and times never fall; raises InputError for others."""
    for at, (left, right) in enumerate(pairwise(zip(points.amounts, points.times_ns, strict=True)), 1):
        if right[0] == left[0] or right[1] < left[1]:
            raise (place / f"values[{at}]").wrong("rising amounts, and times that never fall, expected")
    return points


def require_distinct(place: Place, points: Points) -> Points:
    """Return points whose amounts are distinct; raises InputError for others."""
    for at, (left, right) in enumerate(pairwise(points.amounts), 1):
        if right == left:
            raise (place / f"values[{at}]").wrong("rising amounts expected")
    return points


def _pair(place: Place, pair: object, unit: Dimension, scales: tuple[float, float]) -> tuple[int, int]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise place.wrong(f"{pair!r}: [amount, time] expected")
    amount = quantity.in_base(place, quantity.read_number(place, pair[0], unit), scales[0], unit)
    return round(amount), round(quantity.in_base(place, quantity.read_number(place, pair[1], "ns"), scales[1], "ns"))


DensePart = Literal["before", "head", "router"]
Kernel = Literal["library", "fused"]  # that a curve was measured with: torch's product, or the one that reads slots
Fact = str | int | float


@dataclass(frozen=True)
class ExpertCurve:
    """Measured (tokens of each expert, ns) of one launch of experts of a given shape and format, alone on the device.

    `kernel` is torch's product (`library`), after an expansion if the format is compressed, or the one that multiplies
    with the slots' bytes as it reads them (`fused`).
    """

    d_model: int
    d_ff: int
    gated: bool
    format: Format
    points: Points
    kernel: Kernel = "library"
    experts: int = 1  # in the launch

    @property
    def named(self) -> dict[str, Fact | bool]:
        """What it is a curve of, by field; `kernel` and `experts` only if they differ from their defaults."""
        return _named(self)


@dataclass(frozen=True)
class DenseCurve:
    """Measured (tokens, ns) of a dense part, captured as one graph, at one context.

    `before` is everything from the previous experts up to the router's result, `router` one more router, and `head`
    everything after the last MoE layer.
    """

    part: DensePart
    phase: Phase
    d_model: int
    parameters: int  # `ModelShape.dense_parameters` or `.head_parameters`
    format: ComputeFormat
    context: int  # positions that each token attends to; 0 for a head
    points: Points

    @property
    def named(self) -> dict[str, Fact | bool]:
        """What it is a curve of, by field."""
        return _named(self)


@dataclass(frozen=True)
class CpuCurve:
    """Measured (tokens, ns) of an expert that a number of the CPU's threads compute, between waits for the device."""

    d_model: int
    d_ff: int
    gated: bool
    format: Format
    threads: int
    points: Points

    @property
    def named(self) -> dict[str, Fact | bool]:
        """What it is a curve of, by field."""
        return _named(self)


AnyCurve = ExpertCurve | DenseCurve | CpuCurve
Timed = TypeVar("Timed", ExpertCurve, DenseCurve, CpuCurve)
CURVE_TABLES = {ExpertCurve: "expert_curve", DenseCurve: "dense_curve", CpuCurve: "cpu_curve"}  # in a file


def _named(curve: ExpertCurve | DenseCurve | CpuCurve) -> dict[str, Fact | bool]:
    usual = {field.name: field.default for field in dataclasses.fields(curve)}
    return {name: value for name, value in vars(curve).items() if name != "points" and value != usual[name]}


def curve_name(curve: AnyCurve) -> str:
    """Name of a curve from its fields, e.g. `expert_curve 768 3072 fp16`."""
    facts = (value for name, value in curve.named.items() if name != "gated")
    return " ".join([CURVE_TABLES[type(curve)], *map(str, facts)])


def identity_of(curve: DenseCurve | CpuCurve) -> str:
    """Text that is the same for equal curves, for hashes."""
    points = curve.points
    return json.dumps(dataclasses.asdict(curve) | {"points": [points.amounts, points.times_ns, points.source]})


Kind = Literal["size", "size or 0", "switch"]

_EXPECTED: dict[Kind, str] = {
    "size": "a whole number above 0",
    "size or 0": "a whole number, 0 or more,",
    "switch": "true or false",
}
_EXPERT: dict[str, Kind | tuple[str, ...]] = {
    "d_model": "size",
    "d_ff": "size",
    "gated": "switch",
    "format": FORMATS,
}
_LAUNCH: dict[str, Kind | tuple[str, ...]] = {"kernel": get_args(Kernel), "experts": "size"}  # optional
_CPU: dict[str, Kind | tuple[str, ...]] = {**_EXPERT, "threads": "size"}
_DENSE: dict[str, Kind | tuple[str, ...]] = {
    "part": get_args(DensePart),
    "phase": get_args(Phase),
    "d_model": "size",
    "parameters": "size",
    "format": get_args(ComputeFormat),
    "context": "size or 0",
}


def read_expert_curves(place: Place, tables: object) -> tuple[ExpertCurve, ...]:
    """Read all [[expert_curve]] tables; raises InputError with place and expected value."""
    return _read_curves(ExpertCurve, _EXPERT, place, tables)


def read_dense_curves(place: Place, tables: object) -> tuple[DenseCurve, ...]:
    """Read all [[dense_curve]] tables; raises InputError with place and expected value."""
    curves = _read_curves(DenseCurve, _DENSE, place, tables)
    for at, curve in enumerate(curves):
        if (curve.part == "before") != (curve.context > 0):
            expected = "more than 0 of what is before a router" if curve.part == "before" else f"0 of a {curve.part}"
            raise (place / f"{at}.context").wrong(f"{curve.context}: {expected} expected")
    return curves


def read_cpu_curves(place: Place, tables: object) -> tuple[CpuCurve, ...]:
    """Read all [[cpu_curve]] tables; raises InputError with place and expected value."""
    return _read_curves(CpuCurve, _CPU, place, tables)


def _read_curves(
    cls: type[Timed], fields: dict[str, Kind | tuple[str, ...]], place: Place, tables: object
) -> tuple[Timed, ...]:
    if not isinstance(tables, list):
        raise place.wrong(f"an array of tables, [[{place.field}]], expected")
    curves = [_read_curve(cls, fields, place / str(at), table) for at, table in enumerate(tables)]
    for at, curve in enumerate(curves):
        if any(_same(curve, other) for other in curves[:at]):
            raise (place / str(at)).wrong("a second curve of this kind: one of each expected")
    return tuple(curves)


def _read_curve(cls: type[Timed], fields: dict[str, Kind | tuple[str, ...]], place: Place, table: object) -> Timed:
    optional = _LAUNCH if cls is ExpertCurve else {}
    found = require_names(place, table, (*fields, "points"), optional)
    for name, wanted in {**fields, **optional}.items():
        if name in found:
            _require_value(place / name, found[name], wanted)
    return cls(**{**found, "points": _token_points(place / "points", found["points"])})


def _token_points(place: Place, table: object) -> Points:
    return require_distinct(place, read_points(place, table, "token"))


def _require_value(place: Place, value: Any, wanted: Kind | tuple[str, ...]) -> None:
    if isinstance(wanted, tuple):
        if value not in wanted:
            raise place.wrong(f"{value!r}: {hint(str(value), wanted)}")
    elif type(value) is not (bool if wanted == "switch" else int) or value < (wanted == "size"):
        raise place.wrong(f"{value!r}: {_EXPECTED[wanted]} expected")


def _same(one: Timed, other: Timed) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in vars(one) if name != "points")
