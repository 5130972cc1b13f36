"""A number that says what it is: value, unit, source and reference. Units end here: see `specmoe.units`.

    source     what it means                                                             evidence
    measured   measured on this machine                                                  measured
    derived    computed, as `ref` says, from numbers measured on this machine            fitted
    published  somebody published it for this device                                     published
    assumed    everything else: a neighbouring device's number, an expectation, a guess  assumed

`extrapolated` stands between the last two: a curve asked beyond the points that it was measured or fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from specmoe.errors import hint
from specmoe.hwprofiles.reading import Place, require_names
from specmoe.units import KIND, UNITS, WHOLE, Dimension

Source = Literal["measured", "published", "derived", "assumed"]
Evidence = Literal["measured", "fitted", "published", "extrapolated", "assumed"]

EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)  # strongest first
OF_SOURCE: dict[Source, Evidence] = {
    "measured": "measured",
    "derived": "fitted",
    "published": "published",
    "assumed": "assumed",
}


@dataclass(frozen=True)
class Quantity:
    """One number of a profile; `value` is in the base unit `unit`, and whole for a time."""

    value: float
    unit: Dimension
    source: Source
    ref: str

    @property
    def evidence(self) -> Evidence:
        """What a result may claim that rests on this number."""
        return OF_SOURCE[self.source]


def weakest(evidence: Iterable[Evidence]) -> Evidence:
    """The least trustworthy of some; `measured` of none."""
    return max(evidence, key=EVIDENCE.index, default="measured")


def read_quantity(place: Place, table: object, dimension: Dimension) -> Quantity:
    """A quantity of a known dimension from {value, unit, source, ref}; raises InputError for anything else."""
    found = require_names(place, table, ("value", "unit", "source", "ref"))
    scale = read_scale(place / "unit", found["unit"], dimension)
    value = in_base(place / "value", read_number(place / "value", found["value"], dimension), scale, dimension)
    return Quantity(value, dimension, *read_origin(place, found))


def read_origin(place: Place, found: dict[str, Any]) -> tuple[Source, str]:
    """`source` and `ref` of a table; raises InputError for an unknown source or an empty reference."""
    source, ref = found["source"], found["ref"]
    if source not in get_args(Source):
        raise (place / "source").wrong(f"{source!r}: {hint(str(source), get_args(Source))}")
    if not isinstance(ref, str) or not ref.strip():
        raise (place / "ref").wrong(f"{ref!r}: a text that says who, where, when or how expected")
    return cast(Source, source), ref


def read_scale(place: Place, unit: object, dimension: Dimension) -> float:
    """Base units in one of `unit`; raises InputError if it is unknown or measures something else."""
    fitting = [name for name, known in UNITS.items() if known.dimension == dimension]
    if not isinstance(unit, str) or unit not in UNITS:
        raise place.wrong(f"{unit!r}: unknown unit: {hint(str(unit), fitting)}")
    if unit not in fitting:
        raise place.wrong(f"{unit!r} is not {KIND[dimension]}: one of {', '.join(fitting)} expected")
    return UNITS[unit].scale


def read_number(place: Place, value: object, dimension: Dimension) -> float:
    """A finite number above 0, or 0 if it is a time; raises InputError for anything else."""
    least = "0 or more" if dimension == "ns" else "more than 0"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise place.wrong(f"{value!r}: a number expected")
    if not math.isfinite(value) or value < 0 or (value == 0 and dimension != "ns"):
        raise place.wrong(f"{value}: a finite number, {least}, expected")
    return value


def in_base(place: Place, value: float, scale: float, dimension: Dimension) -> float:
    """A value in base units; times, bytes and tokens are whole. Raises InputError if what was more than 0 becomes 0."""
    base = value * scale
    if dimension not in WHOLE:
        return base
    if value and not round(base):
        raise place.wrong(f"{value}: at least 1 {dimension} expected")
    return round(base)
