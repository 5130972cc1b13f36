"""A profile as TOML that `profile_file` reads back to the same profile, in units that people read.

A number, or a column of points, is written in the unit in which it has the fewest digits; none is lost.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from specmoe.files import replacing
from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.profile import DenseCurve, ExpertCurve, Fact, HardwareProfile
from specmoe.hwprofiles.quantity import Quantity, in_base
from specmoe.hwprofiles.reading import Place
from specmoe.units import SHOWN, UNITS, Dimension


def write_profile(profile: HardwareProfile, path: Path) -> None:
    """Write one file, whole or not at all; raises InputError if it cannot be written."""
    with replacing(path) as fresh:
        fresh.write_text(to_toml(profile), encoding="utf-8")


def to_toml(profile: HardwareProfile) -> str:
    """A whole profile: texts and facts, numbers and points group by group, curves, calibration."""
    parts = [_texts(profile), *_machine(profile.machine)]
    for group in dict.fromkeys(name.rpartition(".")[0] for name in (*profile.quantities, *profile.points)):
        parts += _group(profile, group)
    parts += [_curve("expert_curve", curve) for curve in profile.expert_curves]
    parts += [_curve("dense_curve", curve) for curve in profile.dense_curves]
    if profile.calibration is not None:
        parts.append(_table("calibration", dataclasses.asdict(profile.calibration)))
    return "\n".join(parts)


def _texts(profile: HardwareProfile) -> str:
    texts = {"name": profile.name, "title": profile.title, "fitted_by": profile.fitted_by}
    return _lines({name: text for name, text in texts.items() if text is not None})


def _machine(facts: Mapping[str, Fact]) -> Iterator[str]:
    if facts:
        yield _table("machine", facts)


def _group(profile: HardwareProfile, group: str) -> Iterator[str]:
    numbers = {name: quantity for name, quantity in profile.quantities.items() if name.rpartition(".")[0] == group}
    if numbers:
        rows = (f"{name.rpartition('.')[2]} = {_quantity(quantity)}\n" for name, quantity in numbers.items())
        yield f"[{group}]\n{''.join(rows)}"
    for name, points in profile.points.items():
        if name.rpartition(".")[0] == group:
            yield f"[{name}]\n{_points(points)}"


def _curve(name: str, curve: ExpertCurve | DenseCurve) -> str:
    fields = {field: value for field, value in vars(curve).items() if field != "points"}
    return f"[[{name}]]\n{_lines(fields)}\n[{name}.points]\n{_points(curve.points)}"


def _quantity(quantity: Quantity) -> str:
    unit, (value,) = _shortest([quantity.value], quantity.unit)
    return f"{{ value = {value}, unit = {_plain(unit)}, {_origin(quantity, ', ')} }}"


def _points(points: Points) -> str:
    amount_unit, amounts = _shortest(points.amounts, points.unit)
    time_unit, times = _shortest(points.times_ns, "ns")
    rows = "".join(f"    [{amount}, {time}],\n" for amount, time in zip(amounts, times, strict=True))
    units = f"unit = [{_plain(amount_unit)}, {_plain(time_unit)}]"
    return f"{units}\n{_origin(points, chr(10))}\nvalues = [\n{rows}]\n"


def _origin(known: Quantity | Points, between: str) -> str:
    return f"source = {_plain(known.source)}{between}ref = {_plain(known.ref)}"


def _shortest(values: Sequence[float], dimension: Dimension) -> tuple[str, list[str]]:
    """The unit, the largest of equals, in which the numbers have the fewest digits and read back as they are."""
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
    exact = all(_read(number, scale, dimension) == value for number, value in zip(numbers, values, strict=True))
    return [_plain(number) for number in numbers] if exact else None


def _read(number: float, scale: float, dimension: Dimension) -> float:
    return in_base(Place("profile"), number, scale, dimension)


def _table(name: str, values: Mapping[str, Fact]) -> str:
    return f"[{name}]\n{_lines(values)}"


def _lines(values: Mapping[str, Fact]) -> str:
    return "".join(f"{_key(name)} = {_plain(value)}\n" for name, value in values.items())


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _plain(name)


def _plain(value: Fact | bool) -> str:
    """Texts, numbers, true and false: as JSON writes them, TOML does, but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
