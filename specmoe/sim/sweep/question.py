"""What a sweep asks, as a file or a command line tells it: a grid, or a list of grids.

    trace = "switch-mini-128/decode/test"
    policy = ["on-demand-lru", "lookahead"]        # or "all"
    slots = [64, 154]                              # and, or instead, vram = ["4GiB", "8GiB"]
    profile = "rtx3090"
    one-at-a-time = 0.2                            # each number that matters, 20 % less and 20 % more

    [set]                                          # of policies and profiles, by dotted name, in base units
    prefetch.limit = [1, 2, 4]
    host_to_device.pinned.bandwidth = {from = 6e9, to = 50e9, count = 8, log = true}

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

from specmoe.errors import InputError
from specmoe.files import read_toml
from specmoe.hwprofiles.fields import HOST_SETS
from specmoe.hwprofiles.formats import FORMATS
from specmoe.hwprofiles.reading import hint
from specmoe.sim.decide.policies import POLICIES
from specmoe.sim.sweep.values import PARTS, Value, size, values_of, whole, word
from specmoe.sim.timing.engine import Order

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
AXES: dict[str, Callable[[str, Value], Any]] = {
    **dict.fromkeys(("trace", "policy", "profile", "shape", "format", "link", "host", "tier", "home-format"), word),
    **dict.fromkeys(("slots", "batch", "compressed-slots"), whole),
    "vram": size,
}
ROOM = ("slots", "vram")  # of which a cell has one
PATHS = ("trace", "profile", "shape")  # that may hold commas
ONCE: dict[str, Callable[[str, Value], Any]] = {"steps": whole, "train": word}
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
        return {dotted: values_of(f"{where}{name} {dotted}", value) for dotted, value in _flat(written).items()}
    if name in PATHS and isinstance(written, str):
        written = [written]
    values = values_of(f"{where}{name}", written)
    if name in AXES:
        return _axis(name, values, where)
    if len(values) > 1:
        raise InputError(f"{where}{name}: {len(values)} values: one expected")
    return _share(where, values[0]) if name == ASIDE else ONCE[name](f"{where}{name}", values[0])


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
