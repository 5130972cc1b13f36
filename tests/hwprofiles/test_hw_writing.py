"""Profiles as text: what is read back is what was written, in units that people read."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hw_tables import points, quantity
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError
from specmoe.hwprofiles import HardwareProfile, Quantity, load_profile, profile_names
from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.profile_file import read_profile, to_toml, write_profile
from specmoe.hwprofiles.quantity import QUANTITIES

Maker = Callable[..., HardwareProfile]
HAND = load_profile("rtx3090")

EVERYTHING: dict[str, Any] = {
    "fitted_by": "isca24",
    "machine": {"device": 'A "card" \\ with\ttab and é', "odd name": 1, "clock": 1980, "share": 0.1},
    "calibration": {
        "median_abs_error": 0.0123456789,
        "worst_abs_error": 1,
        "cells": 11,
        "fit_cells": 4,
        "met": False,
        "ref": "cells of a grid",
    },
    "expert_curve": [
        {"d_model": 8, "d_ff": 16, "gated": True, "format": held, "points": points([[1, 1.5], [2, 7]], ("token", "us"))}
        for held in ("int4", "fp16")
    ],
    "dense_curve": [
        {
            "part": "head",
            "phase": "encode",
            "d_model": 8,
            "parameters": 9,
            "format": "bf16",
            "context": 0,
            "points": points([[16, 3]], ("token", "ms"), "derived"),
        }
    ],
    "host_to_device.pinned.bandwidth": None,
    "host_to_device.pinned.points": points([[4096, 2001], [1 << 30, 20_123_457]]),
    "host_to_device.pinned.busy": points([[3, 0.001]], ("B", "ms")),
    "dequantise.int8.points": points([[1.5, 7]], ("MiB", "us")),
    "host.graph.begin": quantity(0, "ns"),
}


def written(profile: HardwareProfile, path: Path) -> HardwareProfile:
    write_profile(profile, path)
    return read_profile(path)


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_come_back(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    again = written(profile, tmp_path / "p.toml")
    assert again == profile
    assert again.hash == profile.hash
    assert list(again.points) == list(profile.points)


def test_kernel_and_number_of_experts_are_written_if_unusual(make_profile: Maker, tmp_path: Path) -> None:
    usual = {"d_model": 8, "d_ff": 16, "gated": False, "format": "int4", "points": points([[1, 5]], ("token", "us"))}
    curves = [usual, usual | {"kernel": "fused"}, usual | {"kernel": "fused", "experts": 4}]
    profile = make_profile({"expert_curve": curves})
    assert written(profile, tmp_path / "p.toml") == profile
    text = (tmp_path / "p.toml").read_text()
    assert text.count('kernel = "fused"') == 2 and text.count("experts = 4") == 1
    assert "library" not in text and "experts = 1" not in text
    explicit = make_profile({"expert_curve": [usual | {"kernel": "library", "experts": 1}, *curves[1:]]})
    assert explicit == profile and explicit.hash == profile.hash


def test_everything_comes_back(make_profile: Maker, tmp_path: Path) -> None:
    profile = make_profile(EVERYTHING)
    again = written(profile, tmp_path / "p.toml")
    assert again == profile
    assert again.machine == EVERYTHING["machine"]
    assert [type(fact) for fact in again.machine.values()] == [str, int, int, float]


values = {
    "B": st.integers(1, 1 << 45),
    "ns": st.integers(0, 10**13),
    "B/s": st.floats(1e-3, 1e14),
    "flop/s": st.floats(1, 1e17) | st.integers(1, 10**17),
    "1": st.floats(1e-9, 1),
}


@given(st.data())
def test_no_digit_is_lost(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    names = data.draw(
        st.lists(st.sampled_from(sorted(set(HAND.quantities) - {"cpu.threads"})), min_size=1, max_size=4, unique=True)
    )
    changed = {name: Quantity(data.draw(values[QUANTITIES[name]]), QUANTITIES[name], "measured", "r") for name in names}
    steps = data.draw(st.lists(st.tuples(st.integers(1, 1 << 40), st.integers(0, 10**12)), min_size=1, max_size=5))
    amounts, times = (tuple(accumulate(column)) for column in zip(*steps, strict=True))
    drawn = {
        "nvme.held_out": Points(
            amounts, times, "B", "measured", data.draw(st.text("aé\"'\\\n\x7f\t ", min_size=1)) + "x"
        )
    }
    profile = HardwareProfile("drawn", "t", {**HAND.quantities, **changed}, {**HAND.points, **drawn})
    assert written(profile, tmp_path_factory.getbasetemp() / "drawn.toml") == profile


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("nvme.latency", 1500, 'latency = { value = 1.5, unit = "us"'),
        ("nvme.latency", 12_345, 'latency = { value = 12.345, unit = "us"'),
        ("nvme.latency", 7, 'latency = { value = 7, unit = "ns"'),
        ("nvme.latency", 0, 'latency = { value = 0, unit = "ns"'),
        ("nvme.bandwidth", 26.35e9, 'bandwidth = { value = 26.35, unit = "GB/s"'),
        ("nvme.bandwidth", 421_956e6, 'bandwidth = { value = 421.956, unit = "GB/s"'),
        ("device.vram", 80 << 30, 'vram = { value = 80, unit = "GiB"'),
        ("device.vram", (80 << 30) + 1, 'vram = { value = 85899345921, unit = "B"'),
        ("gemm.fp16.rate", 69.6 * 1e12, 'rate = { value = 69.6, unit = "TFLOP/s"'),
        ("gemm.fp16.efficiency", 0.5, 'efficiency = { value = 0.5, unit = "1"'),
        ("link.lanes", 16, 'lanes = { value = 16, unit = "1"'),
    ],
)
def test_units_are_those_with_the_fewest_digits(name: str, value: float, line: str) -> None:
    changed = {name: Quantity(value, QUANTITIES[name], "measured", "r")}
    text = to_toml(HardwareProfile("p", "t", {**HAND.quantities, **changed}, {}))
    assert line + ', source = "measured", ref = "r" }' in text


def test_points_share_the_units_of_their_columns() -> None:
    measured = Points((4096, 1 << 30), (2000, 20_500_000), "B", "measured", "r")
    table = tomllib.loads(to_toml(HardwareProfile("p", "t", {}, {"nvme.points": measured})))["nvme"]["points"]
    assert table["unit"] == ["KiB", "us"]
    assert table["values"] == [[4, 2], [1 << 20, 20_500]]


def test_a_file_is_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no directory"):
        write_profile(HAND, tmp_path / "absent" / "p.toml")
    (tmp_path / "p.toml").write_text("old")
    broken = HardwareProfile("p", "t", {"device.vram": Quantity(float("nan"), "B", "measured", "r")}, {})
    with pytest.raises(ValueError):
        write_profile(broken, tmp_path / "p.toml")
    assert (tmp_path / "p.toml").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["p.toml"]
