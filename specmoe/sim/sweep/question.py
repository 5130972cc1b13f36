"""What a sweep asks, as a file or a command line tells it: a grid, or a list of grids.

    trace = "switch-mini-128/decode/test"
    policy = ["on-demand-lru", "lookahead"]        # or "all"
    slots = [64, 154]                              # and, or instead, vram = ["4GiB", "8GiB"]
    profile = "rtx3090"
    one-at-a-time = 0.2                            # each number that matters, 20 % less and 20 % more

    [set]                                          # of policies and profiles, by dotted name
    prefetch.limit = [1, 2, 4]
    host_to_device.pinned.bandwidth = {from = "6GB/s", to = "50GB/s", count = 8, log = true}

    [scale]                                        # of profiles: factors
    expert.speed = [1, 2]

    [[cells]]                                      # a list: each table is a grid of its own, the rest as above
    policy = "lookahead"
    batch = [1, 8]

Every combination is tried. Where there are `[[cells]]`, what stands above them is what they share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from specmoe.errors import InputError, hint
from specmoe.files import read_toml
from specmoe.hwprofiles.fields import HOST_SETS
from specmoe.hwprofiles.formats import FORMATS
from specmoe.sim.decide.policies import POLICIES
from specmoe.sim.overrides import dimension_of
from specmoe.sim.sweep.values import PARTS, values_of, word
from specmoe.sim.timing.engine import Order
from specmoe.units import COUNTS, Dimension, Value, factor, whole

Axes = dict[str, list[Any]]
Question = dict[str, Any]

TIERS = ("host-pinned", "host-pageable", "nvme")
CHOICES: dict[str, tuple[str, ...]] = {
    "format": FORMATS,
    "link": get_args(Order),
    "host": HOST_SETS,
    "tier": TIERS,
    "home-format": FORMATS,
}


def _count(option: str) -> Callable[[str, Value], int]:
    """What reads a number of things, within the limits of an option."""
    return lambda name, value: whole(f"{name}: {value!r}", value, *COUNTS[option])


AXES: dict[str, Callable[[str, Value], Any]] = {
    **dict.fromkeys(("trace", "policy", "profile", "shape", "format", "link", "host", "tier", "home-format"), word),
    **{option: _count(option) for option in ("slots", "batch", "compressed-slots")},
    "vram": lambda name, value: int(value),
}
UNITS: dict[str, Dimension] = {"vram": "B"}
ROOM = ("slots", "vram")  # of which a cell has one
PATHS = ("trace", "profile", "shape")  # that may hold commas
ONCE: dict[str, Callable[[str, Value], Any]] = {"steps": _count("steps"), "train": word}
BY_NAME, LIST, ASIDE = ("set", "scale"), "cells", "one-at-a-time"
DEFAULTS: Question = {"profile": ["rtx3090"], "shape": ["switch-base-128"], "batch": [1], "link": ["fifo"]}


def read_question(path: Path) -> Question:
    """What a file asks; raises InputError naming what is wrong and what would be right."""
    return read_grid(read_toml(path), f"{path}: ")


def read_grid(table: Mapping[str, Any], where: str = "", nested: bool = False) -> Question:
    """The same of a table that is at hand; each axis becomes a list of values, each dotted name too."""
    known = (*AXES, *ONCE, *BY_NAME, *(() if nested else (LIST, ASIDE)))
    found: Question = {}
    for name, written in table.items():
        if name not in known:
            raise InputError(f"{where}{name}: unknown: {hint(name, known)}")
        found[name] = _read(name, written, where)
    return found


def merged(under: Question, over: Question) -> Question:
    """What `over` asks, and what it leaves open as `under` has it; dotted names one by one."""
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
    if name in PATHS and isinstance(written, str):
        written = [written]
    values = values_of(f"{where}{name}", written, UNITS.get(name), "VRAM")
    if name in AXES:
        return _axis(name, values, where)
    if len(values) > 1:
        raise InputError(f"{where}{name}: {len(values)} values: one expected")
    return _share(where, values[0]) if name == ASIDE else ONCE[name](f"{where}{name}", values[0])


def _values(part: str, dotted: str, written: Any, where: str) -> list[Value]:
    """What is set, or the factors that scale, under a dotted name."""
    place = f"{where}{part} {dotted}"
    if part == "set":
        return values_of(place, written, dimension_of(dotted), dotted)
    return [factor(f"{place}: {value}", value) for value in values_of(place, written)]


def _axis(name: str, values: list[Value], where: str) -> list[Any]:
    found = list(dict.fromkeys(AXES[name](f"{where}{name}", value) for value in values))
    if name == "policy" and found == ["all"]:
        return list(POLICIES)
    for value in found:
        if name in CHOICES and value not in CHOICES[name]:
            raise InputError(f"{where}{name}: {value}: {hint(value, CHOICES[name])}")
    return found


def _share(where: str, value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise InputError(f"{where}{ASIDE}: {value!r}: a share between 0 and 1, such as 0.2, expected")
    return float(value)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted name, of tables in tables; a range is a value."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        inside = isinstance(value, dict) and not set(value) & set(PARTS)
        found |= _flat(value, f"{prefix}{name}.") if inside else {f"{prefix}{name}": value}
    return found
