"""A profile with some of its numbers set or multiplied: what-ifs, of machines that are measured curves too.

Besides a profile's quantities these names are known:

<copy>.bandwidth     of a copy that is a measured curve: what its large copies reach (`HardwareProfile.with_plateau`)
dequantise.<f>.rate  of an expansion that is a measured curve: likewise
expert.speed         to be multiplied only: how fast experts compute, measured curves of them or else their roofline
dense.speed          the same of all that is not an expert

A measured curve stays above its latency, and its times do not fall as sizes grow. Its latency (of an expansion, the
kernel's floor) is set by adding the difference to all of its times; its rate by multiplying what its times have above
the latency, after that. The floor of kernels changes no curve of experts or dense parts: speeds do. Everything that is
changed is `assumed` from then on. `DESCRIPTIVE` names change no time and are refused.

Two machines side by side: what differs between their profiles.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar, get_args

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.measured_curves import Fitting
from specmoe.hwprofiles.profile import DenseCurve, ExpertCurve, HardwareProfile
from specmoe.hwprofiles.quantity import COPIES, EXPANSIONS, GEMMS, SHARES, TILES
from specmoe.hwprofiles.shape import Phase
from specmoe.units import Dimension

EXPERT_SPEED, DENSE_SPEED = "expert.speed", "dense.speed"
SPEEDS = (EXPERT_SPEED, DENSE_SPEED)
ROOFLINE = ("device.memory_bandwidth", *(f"{gemm}.rate" for gemm in GEMMS))

DESCRIPTIVE = dict.fromkeys(("link.generation", "link.lanes"), "host_to_device.pinned.bandwidth")

Timed = TypeVar("Timed", ExpertCurve, DenseCurve)


def settable(profile: HardwareProfile) -> tuple[str, ...]:
    """Names that `with_values` knows: the quantities that act, and the rates of measured curves."""
    acting = (name for name in profile.quantities if name not in DESCRIPTIVE)
    return (*acting, *(name for name in _rates(profile) if name not in profile.quantities))


def instead(name: str, known: Iterable[str]) -> str:
    """What to set instead of a name that is not among the known ones."""
    acting = DESCRIPTIVE.get(name)
    return hint(name, known) if acting is None else f"it describes the link and changes no time: set {acting}"


def with_values(profile: HardwareProfile, values: Mapping[str, float]) -> HardwareProfile:
    """A copy in which some numbers, in base units, are the user's.

    Raises InputError for an unknown name, naming the nearest, or a bad value.
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
    """A copy in which some numbers are multiplied.

    Raises InputError for an unknown name, naming the nearest, and for a factor or a product of no sense.
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
    """Names for `scaled` whose number can change what these costs are, each number once.

    Left out are numbers that are 0, shares and tiles, by which a rate is multiplied only, and what measured curves
    leave without effect.
    """
    profile, curves = costs.profile, _rates(costs.profile).values()
    names = [_rate_of(name) if name in curves else name for name in costs.uses]
    known = [name for name in dict.fromkeys(names) if not name.endswith(SHARES) and not name.startswith(TILES)]
    idle = set[str]()
    fitting = Fitting(profile, costs.shape, costs.format)
    dense = fitting.dense(get_args(Phase) if costs.steps is None else (costs.steps.phase,))
    if fitting.slot and all(dense) and not any(name.startswith("dequantise.") for name in known):
        idle.add("device.kernel_floor")
    measured = {EXPERT_SPEED: fitting.slot is not None, DENSE_SPEED: any(dense)}
    speeds = (name for name, asked in measured.items() if asked)
    return (*(name for name in known if name not in idle and _value(profile, name)), *speeds)


def _rates(profile: HardwareProfile) -> dict[str, str]:
    """Rates of what was measured as a curve, and the names of the curves."""
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
    """The name of what a measured curve takes for nothing."""
    group = curve.removesuffix(".points")
    return "device.kernel_floor" if group in EXPANSIONS else f"{group}.latency"


def _shifted(profile: HardwareProfile, curve: str, more_ns: int) -> HardwareProfile:
    """A measured curve whose latency has changed: all of its times change as much, none below the latency."""
    if not more_ns:
        return profile
    points, least = profile.points[curve], profile.ns(_latency_of(curve))
    times = (max(least, time + more_ns) for time in points.times_ns)
    return dataclasses.replace(profile, points={**profile.points, curve: _assumed(points, times)})


def _with_rate(profile: HardwareProfile, name: str, rate: float) -> HardwareProfile:
    curve = _rates(profile)[name]
    points = profile.points[curve]
    latency = profile.ns(_latency_of(curve))
    if not math.isfinite(rate) or rate <= 0 or points.amounts[-1] / rate * 1e9 <= latency:
        least = f"below {points.amounts[-1] / latency * 1e9:.4g}" if latency else "finite"
        raise InputError(f"profile {profile.name}: {name}: {rate}: more than 0 and {least} expected, in B/s")
    if name.rpartition(".")[0] not in EXPANSIONS:
        return profile.with_plateau(name.removesuffix(".bandwidth"), rate)
    longer = (points.amounts[-1] / rate * 1e9 - latency) / max(1, points.times_ns[-1] - latency)
    times = (max(latency, latency + (time - latency) * longer) for time in points.times_ns)
    return dataclasses.replace(profile, points={**profile.points, curve: _assumed(points, times)})


def _faster(profile: HardwareProfile, speed: str, factor: float) -> HardwareProfile:
    """All curves of experts, or of dense parts, and the roofline where it is theirs, `factor` times as fast."""
    if factor == 1:
        return profile
    changed = profile.with_overrides({name: profile[name] for name in ROOFLINE})  # which are assumed from now on
    if speed == EXPERT_SPEED:
        curves = _all_faster(profile.expert_curves, factor)
        return dataclasses.replace(changed, expert_curves=curves, expert_speed=profile.expert_speed * factor)
    parts = _all_faster(profile.dense_curves, factor)
    return dataclasses.replace(changed, dense_curves=parts, dense_speed=profile.dense_speed * factor)


def _all_faster(curves: tuple[Timed, ...], factor: float) -> tuple[Timed, ...]:
    return tuple(
        dataclasses.replace(curve, points=_assumed(curve.points, (time / factor for time in curve.points.times_ns)))
        for curve in curves
    )


def _assumed(points: Points, times: Iterable[float]) -> Points:
    rounded = tuple(max(1, round(time)) for time in times)
    return dataclasses.replace(points, times_ns=rounded, source="assumed", ref="set by the user")


class Difference(NamedTuple):
    """A quantity, in base units, of two profiles; None where one of them has none."""

    name: str
    unit: Dimension
    first: float | None
    second: float | None

    @property
    def ratio(self) -> float | None:
        """Second to first; None without a first that is more than 0."""
        return self.second / self.first if self.first and self.second is not None else None


def differences(first: HardwareProfile, second: HardwareProfile) -> list[Difference]:
    """Quantities that differ in value, in the first's order, then those that only the second has."""
    names = dict.fromkeys((*first.quantities, *second.quantities))
    rows = [_difference(first, second, name) for name in names]
    return [row for row in rows if row.first != row.second]


def _difference(first: HardwareProfile, second: HardwareProfile, name: str) -> Difference:
    both = [profile.quantities.get(name) for profile in (first, second)]
    unit = next(quantity.unit for quantity in both if quantity)
    return Difference(name, unit, *(quantity.value if quantity else None for quantity in both))
