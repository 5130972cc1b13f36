"""A profile and a shape with round numbers, as the tables of their TOML files: 1 byte and 1 operation take 1 ns.

Copies take 1000 ns and 1 ns a byte; a kernel's floor is 100 ns, a layer's 10,000 ns, a router's 2,000 ns.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from specmoe.hwprofiles.quantity import COPIES, GEMMS, HOST_COSTS, HOST_SETS

Table = dict[str, Any]


def quantity(value: object, unit: str, source: str = "measured", ref: str = "by hand") -> Table:
    return {"value": value, "unit": unit, "source": source, "ref": ref}


def put(table: Table, name: str, value: object) -> Table:
    """A copy of a table with one dotted name set, or removed where the value is None."""
    changed = copy.deepcopy(table)
    *groups, last = name.split(".")
    inner = changed
    for group in groups:
        inner = inner.setdefault(group, {})
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return changed


def profile_table() -> Table:
    table: Table = {"name": "hand", "title": "Worked by hand"}
    numbers = {
        "device.vram": quantity(1, "GiB"),
        "device.memory_bandwidth": quantity(1, "GB/s"),
        "device.kernel_floor": quantity(100, "ns"),
        "link.generation": quantity(4, "1"),
        "link.lanes": quantity(16, "1"),
        "dense.layer_floor": quantity(10, "us"),
        "router.floor": quantity(2, "us"),
        "dequantise.int8.rate": quantity(2, "GB/s"),
        "dequantise.int4.rate": quantity(1, "GB/s"),
    }
    for name in COPIES:
        numbers |= {f"{name}.latency": quantity(1, "us"), f"{name}.bandwidth": quantity(1, "GB/s")}
    for name in GEMMS:
        numbers |= {f"{name}.rate": quantity(2, "GFLOP/s"), f"{name}.efficiency": quantity(0.5, "1")}
    for kind in HOST_SETS:
        numbers |= {f"host.{kind}.{cost}": quantity(at, "us") for at, cost in enumerate(HOST_COSTS, 1)}
    for name, number in numbers.items():
        table = put(table, name, number)
    return table


def points(values: list[Any], units: tuple[str, str] = ("B", "ns"), source: str = "measured") -> Table:
    return {"unit": list(units), "source": source, "ref": "by hand", "values": values}


def tiles(rows: int = 4, columns: int = 4, multiprocessors: int = 2, efficiency: float = 0.5) -> Table:
    return {
        "rows": quantity(rows, "1"),
        "columns": quantity(columns, "1"),
        "multiprocessors": quantity(multiprocessors, "1"),
        "efficiency": quantity(efficiency, "1"),
    }


def shape_table() -> Table:
    """Two MoE layers of 4 experts, 8 -> 16 -> 8 ungated, in 4 layers, and an encoder just the same."""
    stack = {"layers": 4, "first_moe": 1, "moe_every": 2, "dense_d_ff": 32}
    return {
        "name": "hand",
        "source": "by hand",
        "format": "fp32",
        "d_model": 8,
        "vocab": 50,
        "tied": True,
        "attention": {"heads": 2, "kv_heads": 2, "head_dim": 4},
        "experts": {"number": 4, "top_k": 1, "d_ff": 16, "gated": False},
        "decoder": dict(stack),
        "encoder": dict(stack),
    }


def to_toml(table: Table, comment: str = "") -> str:
    """TOML with inline tables; JSON's way of writing texts, numbers, booleans and lists is TOML's too."""
    return comment + "".join(f"{name} = {_inline(value)}\n" for name, value in table.items())


def write(path: Path, table: Table, comment: str = "") -> Path:
    path.write_text(to_toml(table, comment))
    return path


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_inline(part)}" for name, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float) and value != value:
        return "nan"
    return "inf" if value == float("inf") else json.dumps(value, ensure_ascii=False)
