"""The question of a sweep, as a TOML file or the command line gives it: a grid of values, or a list of grids.

    trace = "switch-mini-128/decode/test"
    policy = ["on-demand-lru", "lookahead"]        # or "all"
    slots = [64, 154]                              # or vram = ["4GiB", "8GiB"], not both
    profile = "rtx3090"
    one-at-a-time = 0.2                            # each number that affects a cell, -20 % and +20 %

    [set]                                          # of policies and profiles, by dotted name
    prefetch.limit = [1, 2, 4]
    host_to_device.pinned.bandwidth = {from = "6GB/s", to = "50GB/s", count = 8, log = true}

    [scale]                                        # of profiles: factors
    expert.speed = [1, 2]

    [[cells]]                                      # a list: each table is a grid of its own, the rest as above
    policy = "lookahead"
    batch = [1, 8]

Every combination is tried. What stands above `[[cells]]` is shared by all of them.

Several values are written `64,154` on the command line and [64, 154] in a file. `6GB/s..50GB/s:8` is eight values from
one end to the other, and `6GB/s..50GB/s:8log` has equal ratios between them; between whole ends all values are whole if
there are enough. Quantities are written with their unit (`specmoe.units`) and held in base units.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from specmoe.errors import InputError, hint
from specmoe.files import read_toml
from specmoe.hwprofiles.kernels import style_of
from specmoe.hwprofiles.quantity import HOST_SETS
from specmoe.hwprofiles.shape import FORMATS, KV_FORMATS
from specmoe.sim.budget import tokens_of
from specmoe.sim.config import Order, dimension_of
from specmoe.sim.decide.policy import chosen_names
from specmoe.traces.store import domains_in
from specmoe.units import COUNTS, Dimension, Value, factor, quantity, scalar, whole

RANGE = re.compile(r"(?P<from>[^,:]+?)\.\.(?P<to>[^,:]+?):(?P<count>\d{1,18})(?P<log>log)?")
UNCOUNTED = re.compile(r"[0-9.e+-]*[0-9]\s*[A-Za-z/]*\.\.[0-9][0-9.e+-]*\s*[A-Za-z/]*")
DIGITS = 6  # significant digits of the values inside a range
PARTS = ("from", "to", "count", "log")
MOST_VALUES = 10_000  # most values of one name
MOST_END = 1e21  # largest magnitude of a range's ends
Axes = dict[str, list[Any]]
Question = dict[str, Any]
TIERS = ("host-pinned", "host-pageable", "nvme")
CHOICES: dict[str, tuple[str, ...]] = {
    "format": FORMATS,
    "link": get_args(Order),
    "host-set": HOST_SETS,
    "tier": TIERS,
    "home-format": FORMATS,
    "dense-format": FORMATS,
    "kv-format": KV_FORMATS,
}
UNITS: dict[str, Dimension] = {"vram": "B", "assumed-reserve": "B"}
ROOM = ("slots", "vram")  # a grid has only one of them
WHOLE = ("trace", "profile", "host", "shape", "source", "train-source")  # one value each, with its commas
BY_NAME, LIST, ASIDE = ("set", "scale"), "cells", "one-at-a-time"
DEFAULTS: Question = {"profile": ["rtx3090"], "batch": [1], "link": ["fifo"]}


def word(name: str, value: Value) -> str:
    """The value itself if it is a name or path; raises InputError otherwise."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{name}: {value!r}: a name expected")
    return value


def _count(option: str) -> Callable[[str, Value], int]:
    """A function that reads a count within the limits of an option."""
    return lambda name, value: whole(f"{name}: {value!r}", value, *COUNTS[option])


def _style(name: str, value: Value) -> str:
    """The whole name of a style; raises InputError for an unknown one."""
    try:
        return str(style_of(word(name, value)))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _domains(name: str, value: Value) -> tuple[str, ...]:
    """Text domains of `fiction,legal`."""
    return domains_in(word(name, value))


AXES: dict[str, Callable[[str, Value], Any]] = {
    **dict.fromkeys(("trace", "policy", "profile", "shape", "host", "format", "link", "tier", "home-format"), word),
    **dict.fromkeys(("dense-format", "host-set", "kv-format"), word),
    **dict.fromkeys(("source", "train-source"), _domains),
    "style": _style,
    **{option: _count(option) for option in ("slots", "batch", "compressed-slots", "threads")},
    **dict.fromkeys(("vram", "assumed-reserve"), lambda name, value: int(value)),
    "context": lambda name, value: tokens_of(f"{name}: {value}", value if isinstance(value, str) else int(value)),
}


def flag(name: str, value: Value) -> bool:
    """True or false; raises InputError otherwise."""
    if not isinstance(value, bool):
        raise InputError(f"{name}: {value!r}: true or false expected")
    return value


ONCE: dict[str, Callable[[str, Value], Any]] = {
    "steps": _count("steps"),
    "warm-up": _count("warm-up"),
    "aligned": flag,
    "pieces": _count("pieces"),
    "draws": _count("draws"),
    "seed": _count("seed"),
    "train": word,
}


def read_question(path: Path) -> Question:
    """Read the question of a TOML file; raises InputError that names what is wrong and what would be right."""
    return read_grid(read_toml(path), f"{path}: ")


def read_grid(table: Mapping[str, Any], where: str = "", nested: bool = False) -> Question:
    """Read the question of a parsed table: each axis and each dotted name becomes a list of values."""
    known = (*AXES, *ONCE, *BY_NAME, *(() if nested else (LIST, ASIDE)))
    question: Question = {}
    for name, written in table.items():
        if name not in known:
            raise InputError(f"{where}{name}: unknown: {hint(name, known)}")
        question[name] = _read(name, written, where)
    if set(ROOM) <= set(question):
        file, space, prefix = where.rpartition(" ")
        raise InputError(f"{file}{space}either {prefix}slots or {prefix}vram expected, and not both")
    return question


def merged(under: Question, over: Question) -> Question:
    """The question `over`, completed by values of `under`; dotted names are completed one by one."""
    room = {name: value for name, value in under.items() if name not in ROOM}
    base = room if set(ROOM) & set(over) else under
    named = {part: base.get(part, {}) | over.get(part, {}) for part in BY_NAME if part in base or part in over}
    return base | over | named


def _read(name: str, written: Any, where: str) -> Any:
    if name == LIST:
        if not isinstance(written, list) or not all(isinstance(part, dict) for part in written):
            raise InputError(f"{where}{LIST}: tables [[{LIST}]] expected")
        return [read_grid(part, f"{where}{LIST}[{at}].", nested=True) for at, part in enumerate(written)]
    if name in BY_NAME:
        if not isinstance(written, dict):
            raise InputError(f"{where}{name}: a table [{name}] expected")
        return {dotted: _values(name, dotted, value, where) for dotted, value in _flat(written).items()}
    if name in WHOLE and isinstance(written, str):
        written = [written]
    values = values_of(f"{where}{name}", written, UNITS.get(name), "VRAM")
    if name in AXES:
        return _axis(name, values, where)
    if len(values) > 1:
        raise InputError(f"{where}{name}: {len(values)} values: one expected")
    return _share(where, values[0]) if name == ASIDE else ONCE[name](f"{where}{name}", values[0])


def _values(part: str, dotted: str, written: Any, where: str) -> list[Value]:
    """Values that are set, or factors that scale, under a dotted name."""
    place = f"{where}{part} {dotted}"
    if part == "set":
        return values_of(place, written, dimension_of(dotted), dotted)
    return [factor(f"{place}: {value}", value) for value in values_of(place, written)]


def _axis(name: str, values: list[Value], where: str) -> list[Any]:
    axis = list(dict.fromkeys(AXES[name](f"{where}{name}", value) for value in values))
    if name == "policy":
        return chosen_names(axis)
    for value in axis:
        if name in CHOICES and value not in CHOICES[name]:
            raise InputError(f"{where}{name}: {value}: {hint(value, CHOICES[name])}")
    return axis


def _share(where: str, value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise InputError(f"{where}{ASIDE}: {value!r}: a share between 0 and 1 expected, e.g. 0.2")
    return float(value)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested tables by dotted name; a table that is a range counts as a value."""
    values: dict[str, Any] = {}
    for name, value in table.items():
        inside = isinstance(value, dict) and not set(value) & set(PARTS)
        values |= _flat(value, f"{prefix}{name}.") if inside else {f"{prefix}{name}": value}
    return values


def values_of(name: str, written: Any, dimension: Dimension | None = None, called: str = "") -> list[Value]:
    """The values written for a name, in order and without duplicates; raises InputError for anything else.

    With a `dimension`, values are quantities in its base unit; `called` is the name of the quantity in errors.
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
        raise InputError(f"{name}: no values: at least one expected")
    if len(values) > MOST_VALUES:
        raise InputError(f"{name}: {len(values):,} values: at most {MOST_VALUES:,} expected")
    return list({(type(value), value): value for value in values}.values())


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


class _Reader(NamedTuple):
    """Reads the values of one name; `dimension` is None unless they are quantities."""

    name: str
    dimension: Dimension | None
    called: str

    def value(self, written: Any) -> Any:
        """One value of a file; a quantity is converted to base units."""
        if self.dimension is None or not isinstance(written, str | int | float):
            return written
        return quantity(f"{self.name}: {written}", self.called, str(written), self.dimension)

    def of_text(self, text: str) -> list[Value]:
        """The values of one part of a command line: a single value or a range."""
        ends = RANGE.fullmatch(text)
        if ends is None and UNCOUNTED.fullmatch(text):
            raise InputError(f"{self.name}: {text}: FROM..TO:COUNT expected, e.g. 50..500:10 for ten values")
        if ends is None:
            return [self._word(text)]
        first, last = (self._word(ends[end]) for end in ("from", "to"))
        return self._between(f"{self.name}: {text}", first, last, int(ends["count"]), bool(ends["log"]))

    def of_range(self, table: dict[str, Any]) -> list[Value]:
        """The values of a range that is written as a table."""
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
                raise InputError(f"{where}: FROM..TO:COUNT with two numbers expected, e.g. 50..500:10")
        if not 2 <= count <= MOST_VALUES:
            raise InputError(f"{where}: {count:,} values: at least 2 and at most {MOST_VALUES:,} expected")
        if first == last or (log and not (first > 0 and last > 0)):
            raise InputError(f"{where}: two different ends (above 0, with log) expected")
        inner = (np.geomspace if log else np.linspace)(first, last, count)[1:-1].tolist()
        if isinstance(first, int) and isinstance(last, int) and count <= abs(last - first) + 1:
            return [first, *map(round, inner), last]
        return [first, *(float(f"{value:.{DIGITS}g}") for value in inner), last]
