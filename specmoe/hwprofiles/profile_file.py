"""A profile from its TOML file; every number must say its unit and source, and every name must be known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from specmoe.errors import hint
from specmoe.files import read_toml
from specmoe.hwprofiles.calibration import Calibration
from specmoe.hwprofiles.curve_tables import read_dense_curves, read_expert_curves
from specmoe.hwprofiles.curves import Points, read_points, require_rising
from specmoe.hwprofiles.fields import COPIES, OPTIONAL, POINTS, QUANTITIES, REQUIRED, SHARES, SYSTEM_FITS, TILES
from specmoe.hwprofiles.profile import Fact, HardwareProfile
from specmoe.hwprofiles.quantity import Quantity, read_quantity
from specmoe.hwprofiles.reading import Place, read_record

_TEXTS = ("name", "title")
_BESIDE = (*_TEXTS, "fitted_by", "machine", "calibration", "expert_curve", "dense_curve")
_LEAVES = {**QUANTITIES, **POINTS}


def read_profile(path: Path) -> HardwareProfile:
    """Read one file; raises InputError naming file, field and what would be right."""
    place, table = Place(str(path)), read_toml(path)
    leaves = dict(_leaves(place, {name: part for name, part in table.items() if name not in _BESIDE}))
    quantities = {name: _quantity(place / name, leaves[name]) for name in leaves if name in QUANTITIES}
    points = {name: _points(place, name, leaves[name]) for name in leaves if name in POINTS}
    _require_complete(place, table, quantities, points)
    return HardwareProfile(
        name=_text(place, table, "name"),
        title=_text(place, table, "title"),
        quantities=quantities,
        points=points,
        expert_curves=read_expert_curves(place / "expert_curve", table.get("expert_curve", [])),
        fitted_by=_fitted_by(place, table),
        dense_curves=read_dense_curves(place / "dense_curve", table.get("dense_curve", [])),
        calibration=_calibration(place, table),
        machine=_machine(place / "machine", table.get("machine", {})),
    )


def _leaves(place: Place, table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Tables of quantities and points by their dotted names; raises InputError for an unknown name."""
    for key, part in table.items():
        name = prefix + key
        if name in _LEAVES:
            yield name, part
        elif not any(known.startswith(f"{name}.") for known in _LEAVES):
            known = {leaf.removeprefix(prefix).split(".")[0] for leaf in _LEAVES if leaf.startswith(prefix)}
            raise (place / name).wrong(f"unknown field: {hint(key, known if prefix else known.union(_BESIDE))}")
        elif not isinstance(part, dict):
            raise (place / name).wrong(f"{part!r}: a table expected")
        else:
            yield from _leaves(place, part, f"{name}.")


def _quantity(place: Place, table: object) -> Quantity:
    quantity = read_quantity(place, table, QUANTITIES[place.field])
    if place.field.endswith(SHARES) and quantity.value > 1:
        raise (place / "value").wrong(f"{quantity.value}: a share, at most 1, expected")
    return quantity


def _points(place: Place, name: str, table: object) -> Points:
    points = read_points(place / name, table, POINTS[name])
    return require_rising(place / name, points) if name.endswith(".points") else points


def _require_complete(
    place: Place, table: dict[str, Any], quantities: dict[str, Quantity], points: dict[str, Points]
) -> None:
    numbers = [name for name in REQUIRED if name not in quantities]
    lines = [f"{copy}.bandwidth" for copy in COPIES if f"{copy}.points" not in points]
    missing = [*(name for name in _TEXTS if name not in table), *numbers, *(n for n in lines if n not in quantities)]
    if len(missing) > 1:
        raise place.wrong(f"{len(missing)} fields missing: {', '.join(missing)}")
    for name in numbers:
        raise (place / name).wrong("missing: value, unit, source and ref expected")
    for copy in COPIES:
        line, curve = f"{copy}.bandwidth", f"{copy}.points"
        if (line in quantities) == (curve in points):
            raise (place / copy).wrong("either bandwidth or points expected, one of the two")
    tiles = [name for name in OPTIONAL if name.startswith(TILES)]
    for name in tiles:
        if name not in quantities and any(other in quantities for other in tiles):
            raise (place / name).wrong(f"missing: all of {TILES} or none expected")


def _calibration(place: Place, table: dict[str, Any]) -> Calibration | None:
    return read_record(Calibration, place / "calibration", table["calibration"]) if "calibration" in table else None


def _machine(place: Place, facts: object) -> dict[str, Fact]:
    if not isinstance(facts, dict):
        raise place.wrong(f"{facts!r}: a table expected")
    for name, fact in facts.items():
        if type(fact) not in get_args(Fact):
            raise (place / name).wrong(f"{fact!r}: a text or a number expected")
    return facts


def _fitted_by(place: Place, table: dict[str, Any]) -> str | None:
    name = _text(place, table, "fitted_by") if "fitted_by" in table else None
    if name is not None and name not in SYSTEM_FITS:
        raise (place / "fitted_by").wrong(f"{name!r}: {hint(name, SYSTEM_FITS)}")
    return name


def _text(place: Place, table: dict[str, Any], name: str) -> str:
    text = table.get(name)
    if not isinstance(text, str) or not text.strip():
        raise (place / name).wrong("missing" if text is None else f"{text!r}: a text expected")
    return text
