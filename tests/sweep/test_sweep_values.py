"""What people may write for the values to try, and files and options that say what a sweep asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specmoe.errors import InputError
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.sweep.question import merged, read_grid, read_question, values_of


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
        ("", "x: no values"),
        ([], "x: no values"),
        ("1..2:1", "at least 2 and at most 10,000 expected"),
        ("2..2:3", "two different ends"),
        ("0..1:3log", "above 0, with log"),
        ("a..b:3", "x: a..b:3: FROM..TO:COUNT with two numbers expected"),
        ({"from": 1, "to": 2}, "count"),
        ({"from": 1, "to": 2, "count": 3, "lin": True}, "from, to and count"),
        ([[1]], r"x: \[1\]: a number, a word"),
        ("inf", "x: inf"),
    ],
)
def test_values_of_no_sense(written: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        values_of("x", written)


def test_quantities_are_in_base_units() -> None:
    assert values_of("vram", "4GiB..24GiB:6", "B", "VRAM") == [number << 30 for number in (4, 8, 12, 16, 20, 24)]
    assert values_of("x", "6GB/s..24GB/s:3log,1TB/s", "B/s") == [6e9, 12e9, 24e9, 1e12]
    assert values_of("x", ["2.7us", "1 ms"], "ns") == [2700, 1_000_000]
    assert values_of("x", {"from": "6GB/s", "to": "24GB/s", "count": 3, "log": True}, "B/s") == [6e9, 12e9, 24e9]


@pytest.mark.parametrize(
    "written", [26.4, "26.4", [26, "26GB/s"], {"from": 6e9, "to": 5e10, "count": 8}, "6e9..5e10:8log", "6..50GB/s:8"]
)
def test_a_bare_number_is_no_bandwidth(written: Any) -> None:
    with pytest.raises(InputError, match=r"link\.rate is in bytes/s: e\.g\. 26\.2GB/s$"):
        values_of("--set link.rate", written, "B/s", "link.rate")


@pytest.mark.parametrize(
    ("name", "written"),
    [("slots", "50..500:100000000"), ("slots", "1..2:" + "9" * 30), ("x", "0..1:10001"), ("x", list(range(10_001)))],
)
def test_too_many_values_are_refused_before_they_are_made(name: str, written: Any) -> None:
    with pytest.raises(InputError, match=r"at most 10,000|a whole number"):
        read_grid({name: written} if name == "slots" else {"set": {name: written}})


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"slots": "9" * 400}, "at most 10,000,000 expected"),
        ({"slots": 0}, "at least 1 expected"),
        ({"compressed-slots": -1}, "compressed-slots: -1: at least 0 expected"),
        ({"batch": -1}, "at least 1 expected"),
        ({"steps": 1e300}, "at most 1,000,000,000 expected"),
        ({"vram": 4}, r"VRAM is in bytes: did you mean 4GiB\?"),
        ({"vram": "1e400GiB"}, "from 1B to"),
        ({"vram": "-1GiB"}, "from 1B to"),
        ({"scale": {"expert.speed": 0}}, "a factor from 0.0001 to 10,000"),
        ({"scale": {"expert.speed": "1e-300"}}, "a factor from 0.0001 to 10,000"),
        ({"scale": {"expert.speed": "nan"}}, "a number, a word|finite"),
        ({"scale": {"expert.speed": "2GB/s"}}, "GB/s is no unit of a factor"),
        ({"scale": {"expert.speed": True}}, "a number expected"),
        ({"set": {"nvme.bandwidth": "1e-300GB/s"}}, "from 1MB/s to 1000TB/s"),
        ({"set": {"nvme.bandwidth": "7us"}}, "us is no unit of nvme.bandwidth, which is in bytes/s"),
        ({"set": {"nvme.bandwidth": "7Gb/s"}}, "Gb/s means bits"),
        ({"set": {"nvme.bandwidth": "fast"}}, "a bandwidth such as 26.2GB/s expected"),
        ({"set": {"nvme.bandwidth": True}}, "a bandwidth such as 26.2GB/s expected"),
    ],
)
def test_numbers_of_no_sense_are_refused_before_anything_is_computed(table: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_grid(table)


FILE = """
trace = "switch-mini-128/decode/test"
policy = ["on-demand-lru", "lookahead"]
vram = ["4GiB", "1000B"]
batch = {from = 1, to = 8, count = 4, log = true}
steps = 30
one-at-a-time = 0.2
[set]
prefetch.limit = [1, 2]
"eviction" = "lru,lfu"
host_to_device.pinned.bandwidth = {from = "6GB/s", to = "50GB/s", count = 2}
[scale]
expert.speed = 2
[[cells]]
policy = "all"
[[cells]]
slots = "64,154"
[cells.set]
prefetch.limit = 4
"""


def test_a_file_with_slots_and_vram(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('slots = 64\nvram = "4GiB"\n')
    with pytest.raises(InputError, match=rf"^{path}: either slots or vram expected, and not both$"):
        read_question(path)


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
        ({"host-set": "slow"}, "host-set: slow: one of eager, graph"),
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
    with pytest.raises(InputError, match=r"slots: 50\.\.500: FROM\.\.TO:COUNT expected"):
        values_of("slots", "50..500")
    assert values_of("trace", "../traces/a.parquet,1..x") == ["../traces/a.parquet", "1..x"]
