"""Ranges of quantities and of curves: what is read, written, shown and drawn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hw_tables import points, profile_table, put, quantity, write
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.hwprofiles import HardwareProfile, load_profile
from specmoe.hwprofiles.profile_file import read_profile, write_profile

Maker = Callable[..., HardwareProfile]
ISSUE = quantity(11, "us") | {"low": 7, "high": 16.5}
LINK = quantity(26.2, "GB/s", "published") | {"low": 25.6, "high": 27.2}
READS = points([[4096, 10], [1 << 20, 1000]], ("B", "us")) | {"low": 0.5, "high": 2.0}
CURVE = {"d_model": 8, "d_ff": 16, "gated": True, "format": "fp16"}
RANGED: dict[str, Any] = {
    "host.graph.issue": ISSUE,
    "host_to_device.pinned.bandwidth": LINK,
    "nvme.bandwidth": None,
    "nvme.latency": quantity(10, "us") | {"low": 1, "high": 10},
    "nvme.points": READS,
    "expert_curve": [CURVE | {"points": points([[1, 8], [2, 9]], ("token", "us")) | {"low": 0.75, "high": 1.25}}],
}


@pytest.fixture
def ranged(make_profile: Maker) -> HardwareProfile:
    return make_profile(RANGED)


def test_ranges_are_in_base_units_and_factors(ranged: HardwareProfile) -> None:
    assert ranged.ranges == {
        "host.graph.issue": (7000, 16500),
        "host_to_device.pinned.bandwidth": (25.6e9, 27.2e9),
        "nvme.latency": (1000, 10000),
        "nvme.points": (0.5, 2.0),
        "expert_curve 8 16 fp16": (0.75, 1.25),
    }
    assert load_profile("h100-sxm5-80gb").ranges == {}


def test_a_file_keeps_its_ranges(ranged: HardwareProfile, tmp_path: Path) -> None:
    write_profile(ranged, tmp_path / "again.toml")
    assert read_profile(tmp_path / "again.toml") == ranged


def test_a_range_is_part_of_what_a_profile_says(ranged: HardwareProfile, make_profile: Maker) -> None:
    assert make_profile(RANGED | {"host.graph.issue": ISSUE | {"high": 17}}).hash != ranged.hash


@pytest.mark.parametrize(
    ("name", "table", "complaint"),
    [
        ("host.graph.issue", ISSUE | {"low": 12}, "low 12, value 11, high 16.5: low <= value <= high expected"),
        ("host.graph.issue", ISSUE | {"low": 20}, "low 20, value 11, high 16.5: low <= value <= high expected"),
        ("host.graph.issue", quantity(11, "us") | {"low": 7}, "low alone: both low and high, or neither, expected"),
        ("host.graph.issue", ISSUE | {"high": "many"}, "host.graph.issue.high: 'many': a number expected"),
        ("gemm.fp16.efficiency", quantity(0.5, "1") | {"low": 0.1, "high": 1.5}, "1.5: a share, at most 1, expected"),
        ("nvme.points", READS | {"low": 1.1}, "low 1.1, value 1, high 2: low <= value <= high expected"),
    ],
)
def test_a_range_around_nothing_is_refused(make_profile: Maker, name: str, table: Any, complaint: str) -> None:
    with pytest.raises(InputError) as error:
        make_profile({name: table, **({"nvme.bandwidth": None} if name == "nvme.points" else {})})
    assert complaint in str(error.value) and name in str(error.value) and "\n" not in str(error.value)


def test_one_machine_out_of_the_ranges(ranged: HardwareProfile) -> None:
    drawn = ranged.with_values(
        {"host.graph.issue": 7000.4, "nvme.points": 2, "nvme.latency": 9000, "expert_curve 8 16 fp16": 0.75}
    )
    assert (drawn.ns("host.graph.issue"), drawn.quantities["host.graph.issue"].source) == (7000, "measured")
    assert drawn.points["nvme.points"].times_ns == (20_000, 2_000_000)
    assert drawn.expert_curves[0].points.times_ns == (6000, 6750)
    assert set(drawn.ranges) == {"host_to_device.pinned.bandwidth"}, "what is drawn is one number"
    assert drawn.evidence(drawn.quantities) == ranged.evidence(ranged.quantities)


def test_no_copy_of_a_drawn_machine_is_shorter_than_its_latency(ranged: HardwareProfile) -> None:
    drawn = ranged.with_values({"nvme.points": 0.5, "nvme.latency": 9000})
    assert drawn.points["nvme.points"].times_ns == (9000, 500_000)


def test_only_what_has_a_range_is_drawn(ranged: HardwareProfile) -> None:
    with pytest.raises(InputError, match=r"nvme.latencies: no range is known: .*nvme.latency"):
        ranged.with_values({"nvme.latencies": 1})


def test_an_own_value_has_no_range(ranged: HardwareProfile) -> None:
    assert "host.graph.issue" not in ranged.with_overrides({"host.graph.issue": 5000}).ranges


def test_show_prints_ranges(tmp_path: Path) -> None:
    table = profile_table()
    for name, value in RANGED.items():
        table = put(table, name, value)
    path = write(tmp_path / "own.toml", table)
    shown = CliRunner().invoke(app, ["profile", "show", str(path)], env={"COLUMNS": "200"}).stdout
    for text in ("7 us .. 16.5 us", "25.6 GB/s .. 27.2 GB/s", "times 0.5 .. 2", "expert_curve 8 16 fp16"):
        assert text in shown
    (told,) = json.loads(CliRunner().invoke(app, ["profile", "show", str(path), "--json"]).stdout)
    assert told["ranges"]["nvme.points"] == [0.5, 2.0]
    assert (told["quantities"]["host.graph.issue"]["low"], told["quantities"]["nvme.latency"]["high"]) == (7000, 10000)
