"""The tables of measured curves in a file: [[expert_curve]], [[dense_curve]] and [[cpu_curve]]."""

from typing import Any, Literal, TypeVar, get_args

from specmoe.errors import hint
from specmoe.hwprofiles.curves import Points, read_points, require_distinct
from specmoe.hwprofiles.profile import CpuCurve, DenseCurve, DensePart, ExpertCurve
from specmoe.hwprofiles.shape import FORMATS, ComputeFormat, Phase
from specmoe.hwprofiles.style import Kernel
from specmoe.toml import Place, require_names

Kind = Literal["size", "size or 0", "switch"]
Curve = TypeVar("Curve", ExpertCurve, DenseCurve, CpuCurve)

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
    cls: type[Curve], fields: dict[str, Kind | tuple[str, ...]], place: Place, tables: object
) -> tuple[Curve, ...]:
    if not isinstance(tables, list):
        raise place.wrong(f"an array of tables, [[{place.field}]], expected")
    curves = [_read_curve(cls, fields, place / str(at), table) for at, table in enumerate(tables)]
    for at, curve in enumerate(curves):
        if any(_same(curve, other) for other in curves[:at]):
            raise (place / str(at)).wrong("a second curve of this kind: one of each expected")
    return tuple(curves)


def _read_curve(cls: type[Curve], fields: dict[str, Kind | tuple[str, ...]], place: Place, table: object) -> Curve:
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


def _same(one: Curve, other: Curve) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in vars(one) if name != "points")
