"""Values to try, as people write them: one, several, or a range.

On a command line `64,154` and `6e9..50e9:8`, eight values from the one to the other, or `6e9..50e9:8log` with equal
ratios between them; in a file 64, [64, 154] and {from = 6e9, to = 50e9, count = 8, log = true}. Between whole ends
all are whole, where there are so many.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from specmoe.errors import InputError
from specmoe.hwprofiles.quantity import UNITS

Value = str | int | float | bool
RANGE = re.compile(r"(?P<from>[^,:]+?)\.\.(?P<to>[^,:]+?):(?P<count>\d+)(?P<log>log)?")
UNCOUNTED = re.compile(r"[0-9.e+-]*[0-9]\.\.[0-9][0-9.e+-]*")
SIZE = re.compile(r"\s*(?P<number>([0-9]+\.?[0-9]*|\.[0-9]+)(e[0-9]{1,2})?)\s*(?P<unit>[A-Za-z]*)\s*")
DIGITS = 6  # significant ones, of the values inside a range
PARTS = ("from", "to", "count", "log")


def values_of(name: str, written: Any) -> list[Value]:
    """The values that are written for a name, in their order, none twice; raises InputError."""
    if isinstance(written, str):
        found = [part for text in _split(written) for part in _of_text(name, text)]
    elif isinstance(written, dict):
        found = _of_range(name, written)
    else:
        found = list(written) if isinstance(written, list | tuple) else [written]
    for value in found:
        if not isinstance(value, Value) or (isinstance(value, float) and not math.isfinite(value)):
            raise InputError(f"{name}: {value!r}: a number, a word, true or false expected")
    if not found:
        raise InputError(f"{name}: nothing to try: one value at least expected")
    return list({(type(value), value): value for value in found}.values())


def whole(name: str, value: Value) -> int:
    """A whole number; raises InputError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise InputError(f"{name}: {value!r}: a whole number expected")
    return int(value)


def word(name: str, value: Value) -> str:
    """A name or a path; raises InputError."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{name}: {value!r}: a name expected")
    return value


def size(name: str, value: Value) -> int:
    """Bytes, as a number or as 8GiB; raises InputError."""
    if not isinstance(value, str):
        return whole(name, value)
    found = SIZE.fullmatch(value)
    units = {unit.lower(): known.scale for unit, known in UNITS.items() if known.dimension == "B"}
    if found is None or found["unit"].lower() not in units:
        raise InputError(f"{name}: {value!r}: a number of bytes such as 8GiB or 500MB expected")
    return int(float(found["number"]) * units[found["unit"].lower()])


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _of_text(name: str, text: str) -> list[Value]:
    found = RANGE.fullmatch(text)
    if found is None and UNCOUNTED.fullmatch(text):
        raise InputError(f"{name}: {text}: how many values? FROM..TO:COUNT expected, such as 50..500:10")
    if found is None:
        return [scalar(text)]
    ends = {end: scalar(found[end]) for end in ("from", "to")}
    return _of_range(name, {**ends, "count": int(found["count"]), "log": bool(found["log"])})


def scalar(text: str) -> Value:
    """A number where it is one, true, false, or the text."""
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _of_range(name: str, table: dict[str, Any]) -> list[Value]:
    first, last, count, log = (table.get(part, False) for part in PARTS)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (first, last))
    if set(table) - set(PARTS) or not numbers or type(count) is not int or not isinstance(log, bool):
        raise InputError(f"{name}: {table}: from, to and count (and log = true) expected, all of them numbers")
    if count < 2 or first == last or (log and not (first > 0 and last > 0)):
        raise InputError(f"{name}: {first}..{last}:{count}: two ends apart (above 0, with log) and 2 or more expected")
    inner = (np.geomspace if log else np.linspace)(first, last, count)[1:-1].tolist()
    values = [first, *(float(f"{value:.{DIGITS}g}") for value in inner), last]
    is_whole = isinstance(first, int) and isinstance(last, int) and count <= abs(last - first) + 1
    return [round(value) for value in values] if is_whole else values
