"""What commands say where everything fits, where policies are level, and of the error to expect."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.expected_error import expected_error
from specmoe.hwprofiles.kernels import RESIDENT, Style
from specmoe.sim.claims import is_yardstick
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.run import Scenario
from specmoe.sweep_table import load_sweep

TRACE = "switch-mini-128/decode/test"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def simulated(*arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("simulate", TRACE, "--steps", "80", "--json", *arguments))
    return rows


def test_where_all_fits_it_is_said_first_and_gpu_only_is_ranked() -> None:
    lines = run(
        "simulate", TRACE, "--steps", "80", "--policy", "gpu-only,on-demand-lru", "--format", "fp16"
    ).splitlines()
    assert lines[0].startswith("fits: nothing to offload: all experts of switch-base-128 in fp16 take ")
    assert lines[-1].startswith("gpu-only is fastest: ")
    assert lines[-1].endswith(" % ahead of on-demand-lru")


def test_where_not_all_fits_gpu_only_is_a_yardstick() -> None:
    text = run("simulate", TRACE, "--steps", "80", "--policy", "gpu-only,static", "--vram", "4GiB")
    assert "fits" not in text and "is fastest:" not in text
    assert [(each["fits"], each["yardstick"]) for each in simulated("--policy", "gpu-only", "--slots", "767")] == [
        (False, True)
    ]


def test_slots_that_the_machine_has_no_room_for_do_not_fit() -> None:
    scenario = Scenario(RunConfig(TRACE, format="fp32", slots=768, steps=1, settings=(("device.vram", "8GiB"),)))
    assert not scenario.fits(768)
    gpu_only = POLICIES["gpu-only"]
    assert (is_yardstick(gpu_only, fits=True), is_yardstick(gpu_only)) == (False, True)
    assert is_yardstick(POLICIES["oracle"], fits=True)


def test_level_policies_are_no_winners() -> None:
    text = run("simulate", TRACE, "--steps", "80", "--policy", "on-demand-lru,on-demand-lfu", "--slots", "227")
    assert "are level: " in text and "is fastest:" not in text
    assert "expected error: ±12 % or worse: not validated, as rtx3090 has published or assumed numbers; " in text


@pytest.mark.parametrize(("policy", "style"), [("static", Style()), ("gpu-only", RESIDENT)])
def test_the_error_is_that_of_the_style(policy: str, style: Style) -> None:
    (row,) = simulated("--policy", policy, "--profile", "h100-sxm5-80gb", "--slots", "64")
    known = expected_error(load_profile("h100-sxm5-80gb"), load_shape("switch-base-128"), "fp32", style=style)
    assert (row["expected_error"], row["validated"], row["error_basis"]) == tuple(known)


def test_a_sweep_has_the_same_and_names_who_is_level(tmp_path: Path) -> None:
    cells = [
        "--policy",
        "gpu-only,on-demand-lru,on-demand-lfu",
        "--slots",
        "227,768",
        "--steps",
        "80",
        "--workers",
        "1",
    ]
    (found,) = json.loads(run("sweep", "--trace", TRACE, *cells, "--out", str(tmp_path), "--json"))
    assert [(best["slots"], best["policy"], best["fits"]) for best in found["best"]] == [
        (227, found["best"][0]["policy"], False),
        (768, "gpu-only", True),
    ]
    assert len(found["best"][0]["level"]) == 1
    rows = load_sweep(tmp_path).rows
    real = rows[rows["policy"] == "gpu-only"]
    assert list(real["yardstick"]) == [True, False]
    (row,) = simulated("--policy", "on-demand-lru", "--slots", "227")
    (same,) = rows[(rows["policy"] == "on-demand-lru") & (rows["slots"] == 227)].to_dict("records")
    columns = ("expected_error", "validated", "error_basis", "latency_sem_ns", "fits")
    assert {name: row[name] for name in columns} == {name: same[name] for name in columns}
