"""What people may write for the values to try, and files and options that say what a sweep asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specmoe.errors import InputError
from specmoe.sim.decide.policies import POLICIES
from specmoe.sim.sweep.question import merged, read_grid, read_question
from specmoe.sim.sweep.values import size, values_of


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("64", [64]),
        ("64, 154,64", [64, 154]),
        ("lru,lfu", ["lru", "lfu"]),
        ("true,1", [True, 1]),
        ("0.5,1,2", [0.5, 1, 2]),
        ([1, 2.5, "x"], [1, 2.5, "x"]),
        (7, [7]),
        ("1..4:4", [1, 2, 3, 4]),
        ("4..1:4", [4, 3, 2, 1]),
        ("0..1:3", [0, 0.5, 1]),
        ("1..16:5log", [1, 2, 4, 8, 16]),
        ("1..10:3log", [1, 3, 10]),
        ("1.0..10:3log", [1.0, 3.16228, 10]),
        ("6e9..50e9:2,1e9", [6e9, 50e9, 1e9]),
        ({"from": 1e9, "to": 2e9, "count": 3}, [1e9, 1.5e9, 2e9]),
        ({"from": 1, "to": 100, "count": 3, "log": True}, [1, 10, 100]),
    ],
)
def test_values(written: Any, values: list[Any]) -> None:
    found = values_of("x", written)
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "x: nothing to try"),
        ([], "x: nothing to try"),
        ("1..2:1", "2 or more expected"),
        ("2..2:3", "two ends apart"),
        ("0..1:3log", "above 0, with log"),
        ("a..b:3", "all of them numbers"),
        ({"from": 1, "to": 2}, "count"),
        ({"from": 1, "to": 2, "count": 3, "lin": True}, "from, to and count"),
        ([[1]], r"x: \[1\]: a number, a word"),
        ("inf", "x: inf"),
    ],
)
def test_values_of_no_sense(written: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        values_of("x", written)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("8GiB", 8 << 30), ("500 MB", 500_000_000), (1024, 1024), ("1.5gib", 3 << 29), (".5e3kB", 500_000)],
)
def test_sizes(text: Any, amount: int) -> None:
    assert size("vram", text) == amount


@pytest.mark.parametrize("text", ["8 apples", "GiB", 1.5, True, "1.2.3GiB", ".GiB", "1e400GiB"])
def test_no_sizes(text: Any) -> None:
    with pytest.raises(InputError, match=r"^vram: "):
        size("vram", text)


FILE = """
trace = "switch-mini-128/decode/test"
policy = ["on-demand-lru", "lookahead"]
vram = ["4GiB", 1000]
batch = {from = 1, to = 8, count = 4, log = true}
steps = 30
one-at-a-time = 0.2
[set]
prefetch.limit = [1, 2]
"eviction" = "lru,lfu"
host_to_device.pinned.bandwidth = {from = 6e9, to = 50e9, count = 2}
[scale]
expert.speed = 2
[[cells]]
policy = "all"
[[cells]]
slots = "64,154"
[cells.set]
prefetch.limit = 4
"""


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(FILE)
    found = read_question(tmp_path / "s.toml")
    assert found == {
        "trace": ["switch-mini-128/decode/test"],
        "policy": ["on-demand-lru", "lookahead"],
        "vram": [4 << 30, 1000],
        "batch": [1, 2, 4, 8],
        "steps": 30,
        "one-at-a-time": 0.2,
        "set": {
            "prefetch.limit": [1, 2],
            "eviction": ["lru", "lfu"],
            "host_to_device.pinned.bandwidth": [6e9, 50e9],
        },
        "scale": {"expert.speed": [2]},
        "cells": [{"policy": list(POLICIES)}, {"slots": [64, 154], "set": {"prefetch.limit": [4]}}],
    }


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"polcy": "x"}, "polcy: unknown: did you mean 'policy'"),
        ({"cells": [{"polcy": "x"}]}, r"cells\[0\].polcy: unknown"),
        ({"cells": [{"one-at-a-time": 0.2}]}, r"cells\[0\].one-at-a-time: unknown"),
        ({"cells": {"policy": "x"}}, r"tables \[\[cells\]\] expected"),
        ({"set": 3}, r"a table \[set\] expected"),
        ({"slots": "many"}, "slots: 'many': a whole number"),
        ({"slots": 1.5}, "slots: 1.5: a whole number"),
        ({"slots": True}, "slots: True: a whole number"),
        ({"policy": 3}, "policy: 3: a name expected"),
        ({"format": "fp17"}, "format: fp17: did you mean 'fp16'"),
        ({"link": "lifo"}, "link: lifo: did you mean 'fifo'"),
        ({"host": "slow"}, "host: slow: one of eager, graph"),
        ({"steps": [1, 2]}, "steps: 2 values: one expected"),
        ({"one-at-a-time": 2}, "a share between 0 and 1"),
        ({"one-at-a-time": "x"}, "a share between 0 and 1"),
    ],
)
def test_what_is_wrong_in_a_file(table: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=f"^here: .*{told}"):
        read_grid(table, "here: ")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("policy = [")
    for path in (tmp_path / "s.toml", tmp_path / "absent.toml"):
        with pytest.raises(InputError, match=path.name):
            read_question(path)


def test_options_go_before_the_file_name_by_name() -> None:
    under = read_grid({"policy": "a", "slots": 3, "set": {"x.y": 1, "z": 2}, "steps": 5})
    over = read_grid({"policy": "b,c", "vram": "1GiB", "set": {"z": "3,4"}})
    assert merged(under, over) == {
        "policy": ["b", "c"],
        "vram": [1 << 30],
        "set": {"x.y": [1], "z": [3, 4]},
        "steps": 5,
    }
    assert merged(under, {}) == under


def test_a_range_without_a_count_says_what_is_missing() -> None:
    with pytest.raises(InputError, match=r"slots: 50\.\.500: how many values\? FROM\.\.TO:COUNT expected"):
        values_of("slots", "50..500")
    assert values_of("trace", "../traces/a.parquet,1..x") == ["../traces/a.parquet", "1..x"]
