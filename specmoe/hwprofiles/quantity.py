"""A number that says what it is: value, unit, source and reference. Units end here.

Inside, every quantity is in the base unit of its dimension: B, B/s, ns (whole), flop, flop/s, token, or 1 for a plain
number. `MB` is 10^6 and `MiB` 2^20 bytes. Bandwidth is bytes moved one way.

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
from typing import Any, Literal, NamedTuple, cast, get_args

from specmoe.hwprofiles.reading import Place, hint, require_names

Source = Literal["measured", "published", "derived", "assumed"]
Evidence = Literal["measured", "fitted", "published", "extrapolated", "assumed"]
Dimension = Literal["B", "B/s", "ns", "flop", "flop/s", "token", "1"]

EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)  # strongest first
OF_SOURCE: dict[Source, Evidence] = {
    "measured": "measured",
    "derived": "fitted",
    "published": "published",
    "assumed": "assumed",
}
KIND: dict[Dimension, str] = {
    "B": "bytes",
    "B/s": "a bandwidth",
    "ns": "a time",
    "flop": "operations",
    "flop/s": "an arithmetic rate",
    "token": "tokens",
    "1": "a plain number",
}


class Unit(NamedTuple):
    """`scale` base units of a dimension."""

    dimension: Dimension
    scale: float


UNITS: dict[str, Unit] = {
    "B": Unit("B", 1),
    "KiB": Unit("B", 2**10),
    "MiB": Unit("B", 2**20),
    "GiB": Unit("B", 2**30),
    "kB": Unit("B", 1e3),
    "MB": Unit("B", 1e6),
    "GB": Unit("B", 1e9),
    "B/s": Unit("B/s", 1),
    "MB/s": Unit("B/s", 1e6),
    "GB/s": Unit("B/s", 1e9),
    "GiB/s": Unit("B/s", 2**30),
    "TB/s": Unit("B/s", 1e12),
    "ns": Unit("ns", 1),
    "us": Unit("ns", 1e3),
    "ms": Unit("ns", 1e6),
    "s": Unit("ns", 1e9),
    "flop": Unit("flop", 1),
    "GFLOP": Unit("flop", 1e9),
    "flop/s": Unit("flop/s", 1),
    "GFLOP/s": Unit("flop/s", 1e9),
    "TFLOP/s": Unit("flop/s", 1e12),
    "token": Unit("token", 1),
    "1": Unit("1", 1),
}
SHOWN: dict[Dimension, tuple[str, ...]] = {
    "B": ("B", "KiB", "MiB", "GiB"),
    "B/s": ("B/s", "MB/s", "GB/s", "TB/s"),
    "ns": ("ns", "us", "ms", "s"),
    "flop": ("flop", "GFLOP"),
    "flop/s": ("flop/s", "GFLOP/s", "TFLOP/s"),
    "token": ("token",),
    "1": ("1",),
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


def shown(value: float, dimension: Dimension) -> tuple[str, str]:
    """Value and unit for people: the largest unit in which the value is 1 or more, and none for a plain number."""
    names = SHOWN[dimension]
    name = next((name for name in reversed(names) if value >= UNITS[name].scale), names[0])
    return f"{value / UNITS[name].scale:.5g}", "" if dimension == "1" else name


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
    if dimension not in ("ns", "B", "token"):
        return base
    if value and not round(base):
        raise place.wrong(f"{value}: at least 1 {dimension} expected")
    return round(base)
