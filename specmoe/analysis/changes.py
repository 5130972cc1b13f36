"""What a row of a sweep sets, in words: names, and values in a unit that is read at a glance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from specmoe.hwprofiles.fields import OPTIONAL, REQUIRED
from specmoe.sweep_table import SCALE, SET

DIMENSIONS = REQUIRED | OPTIONAL
UNITS = {"B/s": ("GB/s", 1e9), "B": ("GiB", 2**30), "ns": ("us", 1e3), "flop/s": ("TFLOP/s", 1e12)}
USUAL: dict[str, Any] = {
    "link": "fifo",
    "host": "graph",
    "tier": "host-pinned",
    "home_format": "",
    "compressed_slots": 0,
}


def changes(row: Mapping[str, Any]) -> tuple[str, ...]:
    """name=value for each choice that is not the usual one, each value that is set and each that is scaled."""
    choices = {name: known(row[name]) or usual for name, usual in USUAL.items()}
    chosen = [f"{name.replace('_', '-')}={choices[name]}" for name, usual in USUAL.items() if choices[name] != usual]
    varied = [name for name in row if name.startswith((SET, SCALE)) and known(row[name]) is not None]
    return (*chosen, *(shown(name, row[name]) for name in varied if not (name.startswith(SCALE) and row[name] == 1)))


def known(value: Any) -> Any:
    """The value, or None where a cell is empty."""
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def shown(column: str, value: Any) -> str:
    """`host_to_device.pinned.bandwidth=12 GB/s` for a column `set.*`, `dense.layer_floor x 0.8` for one `scale.*`."""
    if column.startswith(SCALE):
        return f"{column.removeprefix(SCALE)} x {value:.4g}"
    name = column.removeprefix(SET)
    if isinstance(value, str):
        return f"{name}={value}"
    unit, size = unit_of(name)
    return f"{name}={value / size:.4g}{unit and f' {unit}'}"


def of_machine(column: str) -> bool:
    """Whether a column `set.*` or `scale.*` changes a number of the profile, so that it bears on every policy."""
    return column.startswith(SCALE) or column.removeprefix(SET) in DIMENSIONS


def unit_of(name: str) -> tuple[str, float]:
    """The unit that a value of a profile is shown in, and how many base units it is; none for other names."""
    return UNITS.get(DIMENSIONS.get(name, ""), ("", 1.0))
