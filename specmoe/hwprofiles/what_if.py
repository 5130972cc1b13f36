"""What-if changes of a profile: numbers set or multiplied, measured curves included; and differences of two profiles.

`from_spec_sheet` makes a profile of a few published numbers, with those of a similar machine for all others.

Besides a profile's quantities these names are accepted:

<copy>.bandwidth     bandwidth of large copies, if the copy is a measured curve (`HardwareProfile.with_plateau`)
dequantise.<f>.rate  likewise, rate of an expansion that is a measured curve
expert.speed         only to multiply: speed of experts, of their measured curves or else of their roofline
dense.speed          likewise, of everything except experts

A measured curve stays above its latency, and its times do not fall as sizes grow. Setting its latency (for an
expansion, the kernel's floor) adds the difference to all of its times; setting its rate then multiplies the part of its
times above the latency. The floor of kernels changes no curve of experts or dense parts; speeds do. Every changed
number becomes `assumed`. `DESCRIPTIVE` names change no time and are refused.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.curves import DenseCurve, ExpertCurve, Points
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.profile_file import missing_fields
from specmoe.hwprofiles.quantity import COPIES, EXPANSIONS, GEMMS, POINTS, QUANTITIES, SHARES, TILES, Quantity
from specmoe.units import WHOLE, Dimension

EXPERT_SPEED, DENSE_SPEED = "expert.speed", "dense.speed"
SPEEDS = (EXPERT_SPEED, DENSE_SPEED)
ROOFLINE = ("device.memory_bandwidth", *(f"{gemm}.rate" for gemm in GEMMS))

DESCRIPTIVE = dict.fromkeys(("link.generation", "link.lanes"), "host_to_device.pinned.bandwidth")

Timed = TypeVar("Timed", ExpertCurve, DenseCurve)


def settable(profile: HardwareProfile) -> tuple[str, ...]:
    """Names that `with_values` accepts: quantities that affect times, and the rates of measured curves."""
    acting = (name for name in profile.quantities if name not in DESCRIPTIVE)
    return (*acting, *(name for name in _rates(profile) if name not in profile.quantities))


def instead(name: str, known: Iterable[str]) -> str:
    """Suggestion for a name that is not among `known`."""
    acting = DESCRIPTIVE.get(name)
    return hint(name, known) if acting is None else f"it describes the link and changes no time: set {acting}"


def with_values(profile: HardwareProfile, values: Mapping[str, float]) -> HardwareProfile:
    """Copy of a profile with values set by the user, in base units.

    Raises InputError for an unknown name, suggesting the nearest, or a bad value.
    """
    curves = {name: value for name, value in values.items() if name in _rates(profile)}
    for name in values:
        if name not in settable(profile):
            raise InputError(f"profile {profile.name}: {name}: no such quantity: {instead(name, settable(profile))}")
    changed = profile.with_overrides({name: value for name, value in values.items() if name not in curves})
    for curve in _rates(profile).values():
        changed = _shifted(changed, curve, changed.ns(latency := _latency_of(curve)) - profile.ns(latency))
    for name, value in curves.items():
        changed = _with_rate(changed, name, value)
    return changed


def scaled(profile: HardwareProfile, factors: Mapping[str, float]) -> HardwareProfile:
    """Copy of a profile with numbers multiplied by factors.

    Raises InputError for an unknown name, suggesting the nearest, and for an invalid factor or product.
    """
    for name, factor in factors.items():
        if name not in (known := (*settable(profile), *SPEEDS)):
            raise InputError(f"profile {profile.name}: {name}: nothing to scale: {instead(name, known)}")
        if not math.isfinite(factor) or factor <= 0:
            raise InputError(f"--scale {name}={factor}: a finite number above 0 expected")
    named = {name: factor for name, factor in factors.items() if name not in SPEEDS}
    changed = with_values(profile, {name: _value(profile, name) * factor for name, factor in named.items()})
    for name in SPEEDS:
        changed = _faster(changed, name, factors.get(name, 1))
    return changed


def scalable(costs: Costs) -> tuple[str, ...]:
    """Names for `scaled` that can change these costs, each number once.

    Skips numbers whose change has no effect or means nothing: zeros, shares, tile sizes, and rates that a measured
    curve overrides.
    """
    profile, curves = costs.profile, _rates(costs.profile).values()
    names = [_rate_of(name) if name in curves else name for name in costs.uses]
    known = [name for name in dict.fromkeys(names) if not name.endswith(SHARES) and not name.startswith(TILES)]
    idle = set[str]()
    if costs.is_measured and not any(name.startswith("dequantise.") for name in known):
        idle.add("device.kernel_floor")
    speeds = (name for name, asked in ((EXPERT_SPEED, costs.asks_experts), (DENSE_SPEED, costs.asks_dense)) if asked)
    return (*(name for name in known if name not in idle and _value(profile, name)), *speeds)


def _rates(profile: HardwareProfile) -> dict[str, str]:
    """Names of the rates that measured curves replace, with the names of the curves."""
    rates = {f"{copy}.bandwidth": f"{copy}.points" for copy in COPIES}
    rates |= {f"{kind}.rate": f"{kind}.points" for kind in EXPANSIONS}
    return {name: curve for name, curve in rates.items() if curve in profile.points}


def _rate_of(curve: str) -> str:
    group = curve.removesuffix(".points")
    return f"{group}.rate" if group in EXPANSIONS else f"{group}.bandwidth"


def _value(profile: HardwareProfile, name: str) -> float:
    curve = _rates(profile).get(name)
    if curve is None:
        return profile[name]
    points = profile.points[curve]
    return points.amounts[-1] / points.times_ns[-1] * 1e9


def _latency_of(curve: str) -> str:
    """Name of the latency of a measured curve."""
    group = curve.removesuffix(".points")
    return "device.kernel_floor" if group in EXPANSIONS else f"{group}.latency"


def _shifted(profile: HardwareProfile, curve: str, more_ns: int) -> HardwareProfile:
    """Shift all times of a measured curve by `more_ns`, none below its latency."""
    if not more_ns:
        return profile
    points, least = profile.points[curve], profile.ns(_latency_of(curve))
    times = (max(least, time + more_ns) for time in points.times_ns)
    return replace(profile, points={**profile.points, curve: _assumed(points, times)})


def _with_rate(profile: HardwareProfile, name: str, rate: float) -> HardwareProfile:
    curve = _rates(profile)[name]
    points = profile.points[curve]
    latency = profile.ns(_latency_of(curve))
    if not math.isfinite(rate) or rate <= 0 or points.amounts[-1] / rate * 1e9 <= latency:
        bound = f"below {points.amounts[-1] / latency * 1e9:.4g}" if latency else "finite"
        raise InputError(f"profile {profile.name}: {name}: {rate}: more than 0 and {bound} expected, in B/s")
    if name.rpartition(".")[0] not in EXPANSIONS:
        return profile.with_plateau(name.removesuffix(".bandwidth"), rate)
    longer = (points.amounts[-1] / rate * 1e9 - latency) / max(1, points.times_ns[-1] - latency)
    times = (max(latency, latency + (time - latency) * longer) for time in points.times_ns)
    return replace(profile, points={**profile.points, curve: _assumed(points, times)})


def _faster(profile: HardwareProfile, speed: str, factor: float) -> HardwareProfile:
    """Multiply the speed of all curves and the roofline of experts, or of dense parts, by `factor`."""
    if factor == 1:
        return profile
    changed = profile.with_overrides({name: profile[name] for name in ROOFLINE})  # marks them as assumed
    if speed == EXPERT_SPEED:
        curves = _all_faster(profile.expert_curves, factor)
        return replace(changed, expert_curves=curves, expert_speed=profile.expert_speed * factor)
    parts = _all_faster(profile.dense_curves, factor)
    return replace(changed, dense_curves=parts, dense_speed=profile.dense_speed * factor)


def _all_faster(curves: tuple[Timed, ...], factor: float) -> tuple[Timed, ...]:
    return tuple(
        replace(curve, points=_assumed(curve.points, (time / factor for time in curve.points.times_ns)))
        for curve in curves
    )


def _assumed(points: Points, times: Iterable[float]) -> Points:
    rounded = tuple(max(1, round(time)) for time in times)
    return replace(points, times_ns=rounded, source="assumed", ref="set by the user")


class Difference(NamedTuple):
    """Values of a quantity in two profiles, in base units; None where a profile lacks it."""

    name: str
    unit: Dimension
    first: float | None
    second: float | None

    @property
    def ratio(self) -> float | None:
        """Second value divided by the first; None if the first is 0 or a value is missing."""
        return self.second / self.first if self.first and self.second is not None else None


def differences(first: HardwareProfile, second: HardwareProfile) -> list[Difference]:
    """Quantities with different values, in the order of the first profile, then those only in the second."""
    names = dict.fromkeys((*first.quantities, *second.quantities))
    rows = [_difference(first, second, name) for name in names]
    return [row for row in rows if row.first != row.second]


def _difference(first: HardwareProfile, second: HardwareProfile, name: str) -> Difference:
    both = [profile.quantities.get(name) for profile in (first, second)]
    unit = next(quantity.unit for quantity in both if quantity)
    return Difference(name, unit, *(quantity.value if quantity else None for quantity in both))


Number = TypeVar("Number", Quantity, Points)
UNREFERENCED = "given without a reference"


def from_spec_sheet(
    name: str, title: str, values: Mapping[str, float], ref: str | None = None, base: HardwareProfile | None = None
) -> HardwareProfile:
    """Profile of values in base units, published as `ref` says, else assumed; all others are the base's, and assumed.

    Measured curves of whole experts and dense parts are not taken over. Raises InputError for an unknown name, and, in
    one line, for all names that are missing if there is no base.
    """
    for one in values:
        if one not in QUANTITIES:
            raise InputError(f"--set {one}: no such quantity: {hint(one, QUANTITIES)}")
    given = {one: _given(one, value, ref) for one, value in values.items()}
    taken = {} if base is None else {one: _taken(quantity, base) for one, quantity in base.quantities.items()}
    points = {} if base is None else {one: _taken(curve, base) for one, curve in base.points.items() if _acts(one)}
    replaced = {f"{one.rpartition('.')[0]}.points" for one in values if one.endswith((".bandwidth", ".rate"))}
    both = {**taken, **given}
    profile = HardwareProfile(
        name,
        title,
        {one: both[one] for one in QUANTITIES if one in both},
        {one: curve for one, curve in points.items() if one not in replaced},
    )
    missing = missing_fields(profile.quantities, profile.points)
    if missing:
        raise InputError(f"{len(missing)} fields missing: {', '.join(missing)}: --set each, or name a --base")
    return profile


def _given(name: str, value: float, ref: str | None) -> Quantity:
    unit = QUANTITIES[name]
    if name.endswith(SHARES) and value > 1:
        raise InputError(f"--set {name}={value}: a share, at most 1, expected")
    whole = round(value) if unit in WHOLE else value
    return Quantity(whole, unit, "assumed" if ref is None else "published", ref or UNREFERENCED)


def _taken(number: Number, base: HardwareProfile) -> Number:
    return replace(number, source="assumed", ref=f"not given: that of {base.name}: {number.ref}")


def _acts(name: str) -> bool:
    """Whether points replace a rate, instead of being there for comparison."""
    return name in POINTS and name.endswith((".points", ".by_threads"))
