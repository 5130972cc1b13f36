"""Reading and writing a profile as TOML: every number has a unit and a source, and every name must be known.

Writing keeps all digits: a number, or a column of points, is written in the unit in which it has the fewest digits, and
`read_profile` restores the same profile.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from specmoe.errors import Place, hint
from specmoe.files import read_record, read_toml, replacing
from specmoe.hwprofiles.curves import (
    AnyCurve,
    Fact,
    Points,
    read_cpu_curves,
    read_dense_curves,
    read_expert_curves,
    read_points,
    require_distinct,
    require_rising,
)
from specmoe.hwprofiles.profile import Calibration, HardwareProfile, Host
from specmoe.hwprofiles.quantity import (
    BOUNDS,
    COPIES,
    LINKS,
    OPTIONAL,
    POINTS,
    QUANTITIES,
    REQUIRED,
    SHARES,
    SYSTEM_FITS,
    TILES,
    Quantity,
    in_base,
    owner_of,
    read_quantity,
)
from specmoe.hwprofiles.shape import FORMATS
from specmoe.units import SHOWN, UNITS, Dimension

Part = Literal["device", "host"]
_TEXTS = ("name", "title")
_OF_OTHERS: dict[Part, tuple[str, ...]] = {  # fields that a part's file may not have, besides others' quantities
    "device": ("cpu_curve", "measured_with", "host_name"),
    "host": ("usual_host", "host_name", "fitted_by", "calibration", "expert_curve", "dense_curve"),
}
_NOT_LEAVES = (*_TEXTS, "machine", "measured_with", *(name for name in _OF_OTHERS["host"]), "cpu_curve")
_LEAVES = {**QUANTITIES, **POINTS}


def read_profile(path: Path) -> HardwareProfile:
    """Read a whole machine, or a device that names its usual host; raises InputError with file, field and remedy."""
    place, table = Place(str(path)), read_toml(path)
    quantities, points = _numbers(place, table, "device" if "usual_host" in table else None)
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
        cpu_curves=read_cpu_curves(place / "cpu_curve", table.get("cpu_curve", [])),
        usual_host=_optional_text(place, table, "usual_host"),
        host=_optional_text(place, table, "host_name"),
    )


def read_host(path: Path) -> Host:
    """Read a host; raises InputError with file, field and expected value."""
    place, table = Place(str(path)), read_toml(path)
    quantities, points = _numbers(place, table, "host")
    return Host(
        name=_text(place, table, "name"),
        title=_text(place, table, "title"),
        quantities=quantities,
        points=points,
        cpu_curves=read_cpu_curves(place / "cpu_curve", table.get("cpu_curve", [])),
        machine=_machine(place / "machine", table.get("machine", {})),
        measured_with=_optional_text(place, table, "measured_with"),
    )


def _numbers(place: Place, table: dict[str, Any], part: Part | None) -> tuple[dict[str, Quantity], dict[str, Points]]:
    """Quantities and points of a file, of a whole machine (None) or of a part; raises InputError for others'."""
    if part is not None:
        _refuse_others(place, part, (name for name in table if name in _OF_OTHERS[part]))
    leaves = dict(_leaves(place, {name: table[name] for name in table if name not in _NOT_LEAVES}))
    if part is not None:
        _refuse_others(place, part, (name for name in leaves if owner_of(name) not in (part, "either")))
    if part is None and leaves and not any(owner_of(name) == "device" for name in leaves):
        raise place.wrong("a host, not a profile: give it with --host")
    quantities = {name: _quantity(place / name, leaves[name]) for name in leaves if name in QUANTITIES}
    points = {name: _points(place, name, leaves[name]) for name in POINTS if name in leaves}
    _require_complete(place, table, quantities, points, part)
    return quantities, points


def _refuse_others(place: Place, part: Part, others: Iterable[str]) -> None:
    """Raise InputError for the first of the names that a part's file may not have."""
    other = "host" if part == "device" else "device"
    for name in others:
        raise (place / name).wrong(f"a {other}'s field in a {part}'s file: it belongs in the {other}'s own")


def write_profile(profile: HardwareProfile, path: Path) -> None:
    """Write a profile atomically; raises InputError if the file cannot be written."""
    with replacing(path) as fresh:
        fresh.write_text(to_toml(profile), encoding="utf-8")


def _leaves(place: Place, table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Tables of quantities and points by dotted name; raises InputError for an unknown name."""
    for key, part in table.items():
        name = prefix + key
        if name in _LEAVES:
            yield name, part
        elif not any(known.startswith(f"{name}.") for known in _LEAVES):
            known = {leaf.removeprefix(prefix).split(".")[0] for leaf in _LEAVES if leaf.startswith(prefix)}
            raise (place / name).wrong(f"unknown field: {hint(key, known if prefix else known.union(_NOT_LEAVES))}")
        elif not isinstance(part, dict):
            raise (place / name).wrong(f"{part!r}: a table expected")
        else:
            yield from _leaves(place, part, f"{name}.")


def _quantity(place: Place, table: object) -> Quantity:
    quantity = read_quantity(place, table, QUANTITIES[place.field])
    for name in ("value", "high"):
        if place.field.endswith(SHARES) and (getattr(quantity, name) or 0) > 1:
            raise (place / name).wrong(f"{getattr(quantity, name)}: a share, at most 1, expected")
    return quantity


def _points(place: Place, name: str, table: object) -> Points:
    points = read_points(place / name, table, POINTS[name])
    if name.endswith(".by_threads"):
        return require_distinct(place / name, points)
    return require_rising(place / name, points) if name.endswith(".points") else points


def missing_fields(
    quantities: Mapping[str, Quantity], points: Mapping[str, Points], part: Part | None = None
) -> list[str]:
    """Names that a whole machine (None), or a part of one, lacks."""
    copies = _copies(quantities, points, part)
    needed = [name for name in REQUIRED if name.removesuffix(".latency") not in COPIES and _is_needed(name, part)]
    numbers = [*needed, *(f"{copy}.latency" for copy in copies)]
    lines = [f"{copy}.bandwidth" for copy in copies if f"{copy}.points" not in points]
    return [name for name in (*numbers, *lines) if name not in quantities]


def _copies(quantities: Mapping[str, Quantity], points: Mapping[str, Points], part: Part | None) -> list[str]:
    """Kinds of copies that a part's file has or must have."""
    known = (*quantities, *points)
    return [copy for copy in COPIES if _is_needed(copy, part) or any(name.startswith(f"{copy}.") for name in known)]


def _require_complete(
    place: Place,
    table: dict[str, Any],
    quantities: dict[str, Quantity],
    points: dict[str, Points],
    part: Part | None,
) -> None:
    numbers, copies = missing_fields(quantities, points, part), _copies(quantities, points, part)
    missing = [*(name for name in _TEXTS if name not in table), *numbers]
    if len(missing) > 1:
        raise place.wrong(f"{len(missing)} fields missing: {', '.join(missing)}")
    for name in numbers:
        if not name.endswith(".bandwidth"):
            raise (place / name).wrong("missing: value, unit, source and ref expected")
    for copy in copies:
        line, curve = f"{copy}.bandwidth", f"{copy}.points"
        if (line in quantities) == (curve in points):
            raise (place / copy).wrong("either bandwidth or points expected, one of the two")
    tiles = [name for name in OPTIONAL if name.startswith(TILES)]
    for name in tiles:
        if name not in quantities and any(other in quantities for other in tiles):
            raise (place / name).wrong(f"missing: all of {TILES} or none expected")
    _require_whole_cpu(place, quantities, points)


def _is_needed(name: str, part: Part | None) -> bool:
    """Whether every file of a part needs a required name; copies that device and host limit are the host's at least."""
    owner = owner_of(name)
    return part is None or owner == part or (owner == "either" and not (part == "device" and name in LINKS))


def _require_whole_cpu(place: Place, quantities: dict[str, Quantity], points: dict[str, Points]) -> None:
    """Raise InputError for a part of a CPU's numbers without those that every expert on it needs."""
    if not any(name.startswith("cpu.") for name in (*quantities, *points)):
        return
    for name in ("cpu.threads", "cpu.start", "cpu.join"):
        if name not in quantities:
            raise (place / name).wrong("missing: all of cpu.threads, cpu.start, cpu.join and cpu.read or none expected")
    if quantities["cpu.threads"].value % 1:
        raise (place / "cpu.threads").wrong(f"{quantities['cpu.threads'].value}: a whole number expected")
    for group in ("read", *FORMATS):
        rate, curve = f"cpu.{group}.{'bandwidth' if group == 'read' else 'rate'}", f"cpu.{group}.by_threads"
        if (rate in quantities) + (curve in points) not in ((1,) if group == "read" else (0, 1)):
            raise (place / f"cpu.{group}").wrong(
                f"either {rate.rpartition('.')[2]} or by_threads expected, one of the two"
            )


def _calibration(place: Place, table: dict[str, Any]) -> Calibration | None:
    return read_record(Calibration, place / "calibration", table["calibration"]) if "calibration" in table else None


def _machine(place: Place, facts: object) -> dict[str, Fact]:
    if not isinstance(facts, dict):
        raise place.wrong(f"{facts!r}: a table expected")
    for name, fact in facts.items():
        if type(fact) not in get_args(Fact):
            raise (place / name).wrong(f"{fact!r}: a text or a number expected")
    return facts


def _optional_text(place: Place, table: dict[str, Any], name: str) -> str | None:
    return _text(place, table, name) if name in table else None


def _fitted_by(place: Place, table: dict[str, Any]) -> str | None:
    name = _optional_text(place, table, "fitted_by")
    if name is not None and name not in SYSTEM_FITS:
        raise (place / "fitted_by").wrong(f"{name!r}: {hint(name, SYSTEM_FITS)}")
    return name


def _text(place: Place, table: dict[str, Any], name: str) -> str:
    text = table.get(name)
    if not isinstance(text, str) or not text.strip():
        raise (place / name).wrong("missing" if text is None else f"{text!r}: a text expected")
    return text


def to_toml(profile: HardwareProfile) -> str:
    """Profile as TOML: texts and facts, numbers and points group by group, curves, calibration."""
    parts = [_texts(profile), *_machine_text(profile.machine)]
    for group in dict.fromkeys(name.rpartition(".")[0] for name in (*profile.quantities, *profile.points)):
        parts += _group(profile, group)
    parts += [_curve_text("expert_curve", curve) for curve in profile.expert_curves]
    parts += [_curve_text("dense_curve", curve) for curve in profile.dense_curves]
    parts += [_curve_text("cpu_curve", curve) for curve in profile.cpu_curves]
    if profile.calibration is not None:
        parts.append(_table("calibration", dataclasses.asdict(profile.calibration)))
    return "\n".join(parts)


def _texts(profile: HardwareProfile) -> str:
    texts = {"name": profile.name, "title": profile.title, "fitted_by": profile.fitted_by}
    texts |= {"usual_host": profile.usual_host, "host_name": profile.host}
    return _lines({name: text for name, text in texts.items() if text is not None})


def _machine_text(facts: Mapping[str, Fact]) -> Iterator[str]:
    if facts:
        yield _table("machine", facts)


def _group(profile: HardwareProfile, group: str) -> Iterator[str]:
    numbers = {name: quantity for name, quantity in profile.quantities.items() if name.rpartition(".")[0] == group}
    if numbers:
        rows = (f"{name.rpartition('.')[2]} = {_quantity_text(quantity)}\n" for name, quantity in numbers.items())
        yield f"[{group}]\n{''.join(rows)}"
    for name, points in profile.points.items():
        if name.rpartition(".")[0] == group:
            yield f"[{name}]\n{_points_text(points)}"


def _curve_text(name: str, curve: AnyCurve) -> str:
    return f"[[{name}]]\n{_lines(curve.named)}\n[{name}.points]\n{_points_text(curve.points)}"


def _quantity_text(quantity: Quantity) -> str:
    unit, numbers = _shortest([quantity.value, *(quantity.range or ())], quantity.unit)
    bounds = "".join(f", {name} = {number}" for name, number in zip(BOUNDS, numbers[1:], strict=False))
    return f"{{ value = {numbers[0]}, unit = {_plain(unit)}{bounds}, {_origin(quantity, ', ')} }}"


def _points_text(points: Points) -> str:
    amount_unit, amounts = _shortest(points.amounts, points.unit)
    time_unit, times = _shortest(points.times_ns, "ns")
    rows = "".join(f"    [{amount}, {time}],\n" for amount, time in zip(amounts, times, strict=True))
    units = f"unit = [{_plain(amount_unit)}, {_plain(time_unit)}]"
    bounds = "".join(f"{name} = {_plain(end)}\n" for name, end in zip(BOUNDS, points.factors or (), strict=False))
    return f"{units}\n{_origin(points, chr(10))}\n{bounds}values = [\n{rows}]\n"


def _origin(known: Quantity | Points, between: str) -> str:
    return f"source = {_plain(known.source)}{between}ref = {_plain(known.ref)}"


def _shortest(values: Sequence[float], dimension: Dimension) -> tuple[str, list[str]]:
    """Unit in which the numbers read back exactly with the fewest digits (the largest of equals), and the digits."""
    units = reversed(SHOWN[dimension]) if any(values) else SHOWN[dimension]
    written = {unit: _in_unit(values, unit, dimension) for unit in units}
    exact = {unit: numbers for unit, numbers in written.items() if numbers is not None}
    unit = min(exact, key=lambda name: sum(len(number.replace(".", "")) for number in exact[name]))
    return unit, exact[unit]


def _in_unit(values: Sequence[float], unit: str, dimension: Dimension) -> list[str] | None:
    scale, numbers = UNITS[unit].scale, []
    for value in values:
        number = value / scale if value % scale else value // scale
        numbers.append(int(number) if float(number).is_integer() else float(number))
    exact = all(_as_read(number, scale, dimension) == value for number, value in zip(numbers, values, strict=True))
    return [_plain(number) for number in numbers] if exact else None


def _as_read(number: float, scale: float, dimension: Dimension) -> float:
    return in_base(Place("profile"), number, scale, dimension)


def _table(name: str, values: Mapping[str, Fact]) -> str:
    return f"[{name}]\n{_lines(values)}"


def _lines(values: Mapping[str, Fact]) -> str:
    return "".join(f"{_key(name)} = {_plain(value)}\n" for name, value in values.items())


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _plain(name)


def _plain(value: Fact | bool) -> str:
    """TOML value, which is as in JSON except for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
