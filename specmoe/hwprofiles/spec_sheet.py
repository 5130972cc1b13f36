"""A profile from a spec sheet: numbers that are given, and those of a similar machine for all others."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.profile_file import missing_fields
from specmoe.hwprofiles.quantity import POINTS, QUANTITIES, SHARES, Quantity
from specmoe.units import WHOLE

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
