"""Two machines side by side: what differs between their profiles."""

from __future__ import annotations

from typing import NamedTuple

from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.units import Dimension


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
