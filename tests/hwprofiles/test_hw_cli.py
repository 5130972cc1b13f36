"""`specmoe profile ...`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hw_tables import points, profile_table, put, quantity, write
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.hwprofiles import load_profile, profile_names

WIDE = {"COLUMNS": "200"}


def run(*arguments: object) -> Any:
    """Run a command that should succeed; what `--json` printed, if it was asked for."""
    result = CliRunner().invoke(app, ["profile", *map(str, arguments)], env=WIDE)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def fail(*arguments: object) -> str:
    """Run a command that should fail; the one line it printed."""
    result = CliRunner().invoke(app, ["profile", *map(str, arguments)])
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_list() -> None:
    rows = run("list", "--json")
    assert tuple(row["name"] for row in rows) == profile_names()
    (row,) = [row for row in rows if row["name"] == "rtx5090"]
    assert (row["vram_gib"], row["pinned_gb_s"]) == (32.0, 56.4)
    assert row["assumed"] == len(load_profile("rtx5090").assumed())
    assert "rtx3090" in run("list")


def test_show() -> None:
    (told,) = run("show", "rtx3090", "--json")
    profile = load_profile("rtx3090")
    assert (told["name"], told["title"], told["hash"]) == ("rtx3090", profile.title, profile.hash)
    assert told["assumed"] == list(profile.assumed())
    assert list(told["quantities"]) == list(profile.quantities)
    assert told["quantities"]["device.memory_bandwidth"] == {
        "value": 838.4e9,
        "unit": "B/s",
        "source": "published",
        "ref": profile.quantities["device.memory_bandwidth"].ref,
        "low": 799e9,
        "high": 843e9,
    }
    assert {row["source"] for row in told["kernel_shares"]} == {"derived"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in told["kernel_shares"])
    assert {"what", "at", "measured_ns", "model_ns", "error"} == set(told["fits"][0])


def test_show_in_words() -> None:
    text = run("show", "rtx3090")
    for word in (
        "host.graph.issue",
        "838.4",
        "GB/s",
        "published",
        "valdemardi",
        "device_copy.held_out",
        "-7.29%",
        "27 MiB",
        "799 GB/s .. 843 GB/s",
        "int4.memory",
    ):
        assert word in text
    assert "MoE-OnDemand, batch 64, 16 active" in run("show", "a100-sxm4-80gb")
    assert "error" in run("show", "rtx4090"), "of the points of its host"


def test_show_of_an_own_file(tmp_path: Path) -> None:
    path = write(tmp_path / "own.toml", profile_table())
    assert run("show", path, "--json")[0]["assumed"] == []


def test_show_of_a_measured_machine(tmp_path: Path) -> None:
    machine = {"device": "A card", "clock": 1980}
    calibration = {
        "median_abs_error": 0.01,
        "worst_abs_error": 0.02,
        "cells": 3,
        "fit_cells": 2,
        "met": True,
        "ref": "r",
    }
    path = write(tmp_path / "own.toml", profile_table() | {"machine": machine, "calibration": calibration})
    (told,) = run("show", path, "--json")
    assert (told["machine"], told["calibration"]) == (machine, calibration)
    text = run("show", path)
    for word in ("Machine", "A card", "1980", "Calibration", "worst_abs_error", "0.02"):
        assert word in text
    (plain,) = run("show", "rtx3090", "--json")
    assert (plain["machine"], plain["calibration"]) == ({}, None)
    assert "Machine" not in run("show", "rtx3090")


def test_list_of_a_machine_whose_link_is_a_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from specmoe.hwprofiles import catalogue

    curve = put(put(profile_table(), "host_to_device.pinned.bandwidth", None), "name", "curved")
    curve = put(curve, "host_to_device.pinned.points", points([[1000, 500], [10_000_000, 400_000]]))
    write(tmp_path / "curved.toml", curve)
    monkeypatch.setattr(catalogue, "_directory", lambda kind: tmp_path)
    (row,) = run("list", "--json")
    assert (row["name"], row["pinned_gb_s"]) == ("curved", 25.0)
    assert "curved" in run("list")


def test_diff(tmp_path: Path) -> None:
    one = write(tmp_path / "one.toml", profile_table())
    other = write(tmp_path / "other.toml", put(profile_table(), "nvme.bandwidth", quantity(2, "GB/s")))
    assert run("diff", one, other, "--json") == [
        {"name": "nvme.bandwidth", "unit": "B/s", "first": 1e9, "second": 2e9, "ratio": 2.0}
    ]
    assert run("diff", one, one, "--json") == []
    assert run("diff", one, one) == "hand and hand do not differ\n"
    assert "2 GB/s" in run("diff", one, other)


def test_diff_shows_what_only_one_has() -> None:
    rows = {row["name"]: row for row in run("diff", "rtx3090", "a100-sxm4-80gb", "--json")}
    assert rows["allocation.bandwidth"]["first"] is None
    assert rows["expert_tiles.fp32.rows"] == {
        "name": "expert_tiles.fp32.rows",
        "unit": "1",
        "first": None,
        "second": 128,
        "ratio": None,
    }
    assert "expert_tiles.fp32.rows" in run("diff", "rtx3090", "a100-sxm4-80gb")


def test_what_is_alike_and_what_has_no_fit_are_said() -> None:
    assert run("diff", "rtx3090", "rtx3090") == "rtx3090 and rtx3090 do not differ\n"
    assert "h100-sxm5-80gb: no number was fitted" in run("fit", "h100-sxm5-80gb")
    assert run("diff", "rtx3090", "rtx3090", "--json") == []


def test_fit() -> None:
    told = {row["name"]: row for row in run("fit", "rtx3090", "--json")}
    assert set(told) == {"gemm.fp32.efficiency"}
    for both in told.values():
        assert both["fitted"] == pytest.approx(both["file"], rel=1e-3)
    assert "0.60272" in run("fit", "rtx3090")
    assert run("fit", "rtx4090", "--json") == []
    assert run("fit", "rtx4090").startswith("rtx4090: no number was fitted on points in its file")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "rtx309"), "error: rtx309: no such profile, nor a .toml file: did you mean 'rtx3090'?"),
        (("diff", "rtx3090", "abc"), "error: abc: no such profile"),
        (("fit", "{dir}/absent.toml"), "absent.toml: not a TOML file (No such file or directory)"),
        (("show", "{dir}/bad.toml"), "bad.toml: nvme.latency.unit: missing"),
    ],
)
@pytest.mark.parametrize("json_flag", [(), ("--json",)])
def test_bad_input_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], message: str, json_flag: tuple[str, ...]
) -> None:
    write(tmp_path / "bad.toml", put(profile_table(), "nvme.latency.unit", None))
    assert message in fail(*(argument.format(dir=tmp_path) for argument in arguments), *json_flag)
