"""Values to try, as people write them: one, several, or a range.

On a command line `64,154` and `6GB/s..50GB/s:8`, eight values from the one to the other, or `6GB/s..50GB/s:8log` with
equal ratios between them; in a file 64, [64, 154] and {from = "6GB/s", to = "50GB/s", count = 8, log = true}. Between
whole ends all are whole, where there are enough. What has a unit is written with it (`specmoe.units`); values are in
base units from here on.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np

from specmoe.errors import InputError
from specmoe.units import Dimension, Value, quantity, scalar

RANGE = re.compile(r"(?P<from>[^,:]+?)\.\.(?P<to>[^,:]+?):(?P<count>\d{1,18})(?P<log>log)?")
UNCOUNTED = re.compile(r"[0-9.e+-]*[0-9]\s*[A-Za-z/]*\.\.[0-9][0-9.e+-]*\s*[A-Za-z/]*")
DIGITS = 6  # significant ones, of the values inside a range
PARTS = ("from", "to", "count", "log")
MOST_VALUES = 10_000  # of one name
MOST_END = 1e21  # of a range


def values_of(name: str, written: Any, dimension: Dimension | None = None, called: str = "") -> list[Value]:
    """The values that are written for a name, in their order, none twice; raises InputError.

    Of a quantity, which is `called` so in complaints, the dimension is known: values are in its base unit.
    """
    reader = _Reader(name, dimension, called or name)
    if isinstance(written, str):
        values = [value for text in _split(written) for value in reader.of_text(text)]
    elif isinstance(written, dict):
        values = reader.of_range(written)
    else:
        values = [reader.value(part) for part in (written if isinstance(written, list | tuple) else [written])]
    for value in values:
        if not isinstance(value, Value) or (isinstance(value, float) and not math.isfinite(value)):
            raise InputError(f"{name}: {value!r}: a number, a word, true or false expected")
    if not values:
        raise InputError(f"{name}: nothing to try: one value at least expected")
    if len(values) > MOST_VALUES:
        raise InputError(f"{name}: {len(values):,} values: at most {MOST_VALUES:,} expected")
    return list({(type(value), value): value for value in values}.values())


def word(name: str, value: Value) -> str:
    """A name or a path; raises InputError."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{name}: {value!r}: a name expected")
    return value


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


class _Reader(NamedTuple):
    """Reads the values of one name; `dimension` is None unless it is a quantity."""

    name: str
    dimension: Dimension | None
    called: str

    def value(self, written: Any) -> Any:
        """One value of a file; a quantity's in base units."""
        if self.dimension is None or not isinstance(written, str | int | float):
            return written
        return quantity(f"{self.name}: {written}", self.called, str(written), self.dimension)

    def of_text(self, text: str) -> list[Value]:
        """One value of a command line, or a range's."""
        ends = RANGE.fullmatch(text)
        if ends is None and UNCOUNTED.fullmatch(text):
            raise InputError(f"{self.name}: {text}: how many values? FROM..TO:COUNT expected, such as 50..500:10")
        if ends is None:
            return [self._word(text)]
        first, last = (self._word(ends[end]) for end in ("from", "to"))
        return self._between(f"{self.name}: {text}", first, last, int(ends["count"]), bool(ends["log"]))

    def of_range(self, table: dict[str, Any]) -> list[Value]:
        """The values of a table with two ends and a count."""
        where = f"{self.name}: {', '.join(f'{part} = {value}' for part, value in table.items())}"
        first, last, count, log = (table.get(part, False) for part in PARTS)
        if set(table) - set(PARTS) or type(count) is not int or not isinstance(log, bool):
            raise InputError(f"{where}: from, to and count (and log = true) expected")
        return self._between(where, self.value(first), self.value(last), count, log)

    def _word(self, text: str) -> Any:
        return scalar(text) if self.dimension is None else self.value(text)

    def _between(self, where: str, first: Any, last: Any, count: int, log: bool) -> list[Value]:
        for end in (first, last):
            if isinstance(end, bool) or not isinstance(end, int | float) or not abs(end) <= MOST_END:
                raise InputError(f"{where}: FROM..TO:COUNT of two numbers expected, such as 50..500:10")
        if not 2 <= count <= MOST_VALUES:
            raise InputError(f"{where}: {count:,} values: 2 or more expected, and at most {MOST_VALUES:,}")
        if first == last or (log and not (first > 0 and last > 0)):
            raise InputError(f"{where}: two ends apart (above 0, with log) expected")
        inner = (np.geomspace if log else np.linspace)(first, last, count)[1:-1].tolist()
        if isinstance(first, int) and isinstance(last, int) and count <= abs(last - first) + 1:
            return [first, *map(round, inner), last]
        return [first, *(float(f"{value:.{DIGITS}g}") for value in inner), last]
