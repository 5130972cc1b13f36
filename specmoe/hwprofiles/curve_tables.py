"""The tables [[expert_curve]] and [[dense_curve]] of a profile's file."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, get_args

from specmoe.errors import hint
from specmoe.hwprofiles.curves import Points, read_points, require_distinct
from specmoe.hwprofiles.formats import FORMATS, ComputeFormat
from specmoe.hwprofiles.profile import DenseCurve, DensePart, ExpertCurve
from specmoe.hwprofiles.reading import Place, require_names
from specmoe.hwprofiles.shape import Phase

Kind = Literal["size", "size or 0", "switch"]
Curve = TypeVar("Curve", ExpertCurve, DenseCurve)

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
_DENSE: dict[str, Kind | tuple[str, ...]] = {
    "part": get_args(DensePart),
    "phase": get_args(Phase),
    "d_model": "size",
    "parameters": "size",
    "format": get_args(ComputeFormat),
    "context": "size or 0",
}


def read_expert_curves(place: Place, tables: object) -> tuple[ExpertCurve, ...]:
    """All [[expert_curve]]; raises InputError naming what would be right."""
    return _read(ExpertCurve, _EXPERT, place, tables)


def read_dense_curves(place: Place, tables: object) -> tuple[DenseCurve, ...]:
    """All [[dense_curve]]; raises InputError naming what would be right."""
    curves = _read(DenseCurve, _DENSE, place, tables)
    for at, curve in enumerate(curves):
        if (curve.part == "before") != (curve.context > 0):
            expected = "more than 0 of what is before a router" if curve.part == "before" else f"0 of a {curve.part}"
            raise (place / f"{at}.context").wrong(f"{curve.context}: {expected} expected")
    return curves


def _read(
    cls: type[Curve], fields: dict[str, Kind | tuple[str, ...]], place: Place, tables: object
) -> tuple[Curve, ...]:
    if not isinstance(tables, list):
        raise place.wrong(f"an array of tables, [[{place.field}]], expected")
    curves = [_curve(cls, fields, place / str(at), table) for at, table in enumerate(tables)]
    for at, curve in enumerate(curves):
        if any(_same(curve, other) for other in curves[:at]):
            raise (place / str(at)).wrong("measured twice: one curve of each kind expected")
    return tuple(curves)


def _curve(cls: type[Curve], fields: dict[str, Kind | tuple[str, ...]], place: Place, table: object) -> Curve:
    found = require_names(place, table, (*fields, "points"))
    for name, wanted in fields.items():
        _require(place / name, found[name], wanted)
    return cls(**{**found, "points": _points(place / "points", found["points"])})


def _points(place: Place, table: object) -> Points:
    return require_distinct(place, read_points(place, table, "token"))


def _require(place: Place, value: Any, wanted: Kind | tuple[str, ...]) -> None:
    if isinstance(wanted, tuple):
        if value not in wanted:
            raise place.wrong(f"{value!r}: {hint(str(value), wanted)}")
    elif type(value) is not (bool if wanted == "switch" else int) or value < (wanted == "size"):
        raise place.wrong(f"{value!r}: {_EXPECTED[wanted]} expected")


def _same(one: Curve, other: Curve) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in vars(one) if name != "points")
