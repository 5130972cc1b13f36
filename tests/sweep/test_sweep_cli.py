"""`specmoe sweep` from the outside."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import LINK, TRACE, cell, expected
from typer.testing import CliRunner, Result

from specmoe.cli import app
from specmoe.commands import console
from specmoe.sweep_table import load_sweep
from specmoe.uncertainty import band

SMALL = f"--trace {TRACE} --slots 60 --steps 10 --format fp16 --workers 1"


def sweep(out: Path, arguments: str) -> Result:
    return CliRunner().invoke(app, ["sweep", *shlex.split(arguments), "--out", str(out)])


def complaint(out: Path, arguments: str) -> str:
    """The one line of an error; nothing is written."""
    result = sweep(out, arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not out.exists()
    return result.stderr


def test_numbers_changed_one_at_a_time_are_one_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    result = sweep(tmp_path / "out", f"{SMALL} --policy on-demand-lru,lookahead --one-at-a-time 0.2")
    lines = result.stdout.splitlines()
    assert max(map(len, lines[: lines.index("")])) <= 80
    rows = [line.split() for line in lines[: lines.index("")] if {"lookahead", "on-demand-lru"} & set(line.split())]
    assert len(rows) == 20
    assert rows[0][0] == "nothing"
    assert rows[1][:3] == [rows[2][0], "x", "0.8"]


def test_processes_and_a_table_of_the_best_policy_of_each_setting(tmp_path: Path) -> None:
    policies = "--policy on-demand-lru,static --policy oracle"
    result = sweep(tmp_path / "out", f"{SMALL} {policies} --slots 6 --set {LINK}=3GB/s,30GB/s")
    assert result.exit_code == 0, result.output
    table = load_sweep(tmp_path / "out")
    assert len(table.rows) == 3 * 2 * 2
    lines = [line.split() for line in result.stdout.splitlines()]
    shown = [line for line in lines if line and line[0] in ("6", "60")]
    real = table.good[~table.good["yardstick"].astype(bool)]
    for slots, rate, policy, step, *_ in shown:
        same = real[(real["slots"] == int(slots)) & (real[f"set.{LINK}"] == float(rate))].sort_values("latency_mean_ns")
        assert (policy, step) == (same["policy"].iloc[0], f"{same['latency_mean_ns'].iloc[0] / 1e6:.3f}")
    assert len(shown) == 4
    assert "12 cells, 12 computed now, 0 failed" in result.stdout
    assert "evidence: assumed; semantics: event-atomic" in result.stdout
    assert f"written: {tmp_path / 'out'}/sweep.parquet" in result.stdout


def test_json_says_the_same(tmp_path: Path) -> None:
    result = sweep(tmp_path, f"{SMALL} --policy on-demand-lru --set prefetch.limit=1,2 --json")
    (found,) = json.loads(result.stdout)
    known = expected(cell(settings={"prefetch.limit": 1}, steps=10))
    best: dict[str, Any] = found.pop("best")[0]
    assert {name: best[name] for name in ("expected_error", "validated", "error_basis", "fits")} == {
        name: known[name] for name in ("expected_error", "validated", "error_basis", "fits")
    }
    assert best["policy"] == "on-demand-lru"
    assert best["latency_mean_ns"] == known["latency_mean_ns"]
    assert found == {
        "out": str(tmp_path),
        "kept": 0,
        "computed": 2,
        "cells": 2,
        "failed": 0,
        "errors": [],
        "expected_errors": [band(known)],
        "evidence": "published",
        "semantics": "event-atomic",
        "warnings": known["warnings"],
    }


def test_a_file_and_options_over_it(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        f'trace = "{TRACE}"\npolicy = "static"\nslots = [6, 60]\nsteps = 10\n[set]\neviction = ["lru", "lfu"]'
    )
    result = sweep(tmp_path / "out", f"{file} --policy on-demand-lru --slots 20 --workers 1")
    assert result.exit_code == 0, result.output
    table = load_sweep(tmp_path / "out")
    assert table.rows[["policy", "slots", "set.eviction"]].to_numpy().tolist() == [
        ["on-demand-lru", 20, "lru"],
        ["on-demand-lru", 20, "lfu"],
    ]
    assert table.manifest["question"]["slots"] == [20]


def test_one_number_at_a_time(tmp_path: Path) -> None:
    result = sweep(tmp_path, f"{SMALL} --policy on-demand-lru --one-at-a-time 0.2")
    assert result.exit_code == 0, result.output
    table = load_sweep(tmp_path)
    link = f"scale.{LINK}"
    by_factor = dict(zip(table.rows[link].fillna(1), table.rows["latency_mean_ns"], strict=False))
    assert by_factor[0.8] > by_factor[1] > by_factor[1.2]
    assert table.rows[table.varied].notna().sum(axis=1).tolist() == [0, *[1] * (len(table.rows) - 1)]


def test_some_fail(tmp_path: Path) -> None:
    result = sweep(tmp_path, f"{SMALL} --policy static --link fifo,priority --tier nvme,host-pinned")
    assert result.exit_code == 0, result.output
    assert "failed: link order priority: not simulated for experts on NVMe: fifo expected" in result.stdout
    assert "4 cells, 4 computed now, 1 failed" in result.stdout


def test_whole_numbers_stay_whole_beside_a_row_without(tmp_path: Path) -> None:
    (found,) = json.loads(
        sweep(tmp_path, f"{SMALL.replace('--slots 60', '--vram 1kB,2GiB,3GiB')} --policy static --json").stdout
    )
    assert found["failed"] == 1
    for best in found["best"]:
        assert [type(best[name]) for name in ("slots", "latency_mean_ns", "oracle_ns", "floor_ns")] == [int] * 4
        assert type(best["hit_rate"]) is float


def test_all_fail(tmp_path: Path) -> None:
    result = sweep(tmp_path, f"{SMALL} --policy static --link priority --tier nvme")
    assert result.exit_code == 1
    assert (
        result.stderr
        == "error: all 1 cells failed: link order priority: not simulated for experts on NVMe: fifo expected\n"
    )
    assert len(load_sweep(tmp_path).rows) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--policy static", "an empty grid: no trace"),
        (f"--trace {TRACE}", "an empty grid: no policy"),
        (f"{SMALL} --policy statc", "policy 'statc': did you mean 'static'"),
        (f"{SMALL} --policy static --set {LINK[:-1]}=1", f"did you mean '{LINK}'"),
        (f"{SMALL} --policy static --set {LINK}", "name=value,value,... expected"),
        (f"{SMALL} --policy static --scale {LINK}=2..2:3", "two different ends"),
        (f"{SMALL} --policy static --slots many", "--slots: 'many': a whole number expected"),
        (f"{SMALL} --policy static --format fp61", "--format: fp61: did you mean 'fp16'"),
        (f"{SMALL} --policy static --vram lots", "bytes such as 8GiB expected"),
        (f"{SMALL} --policy static --slots 6 --vram 4GiB", "error: either --slots or --vram expected, and not both"),
        (f"{SMALL} --policy static --one-at-a-time 3", "a share between 0 and 1"),
        (f"{SMALL} --policy static --workers 0", "--workers 0: at least 1 expected"),
        (f"{SMALL} --policy static --dask tcp://127.0.0.1:9", "none with --dask"),
        ("absent.toml", "absent.toml"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, arguments: str, told: str) -> None:
    assert told in complaint(tmp_path / "out", arguments)
