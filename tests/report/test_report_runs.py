"""Results of single runs as a table, and the commands that repeat them."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import pytest
from comparison_points import manifest, result
from report_cases import parsed, rows_of
from sweep_rows import stored
from typer.testing import CliRunner

from specmoe.analysis.answer import answer_of
from specmoe.analysis.report.html import study_table
from specmoe.analysis.report.inputs import commands, table_of
from specmoe.analysis.trace.reuse import cliff_of
from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.results import Manifest, RunResult
from specmoe.sim.claims import about_slots
from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.summary import summary

TRACE = "switch-mini-128/decode/test"
USUAL = {"predictor": "none", "eviction": "lru", "sharing": "shared", "set": []}


def run(of: Manifest, steps: int = 2) -> RunResult:
    """Steps of two layers, 1 ms each; two tokens, which want three experts."""
    events = 2 * steps
    ends = [10**6 * (event + 1) for event in range(events)]
    columns = {"step": [event // 2 for event in range(events)], "end_ns": ends, "tokens": [2] * events}
    return result(of, **columns, begin_ns=[end - 10**6 for end in ends], demands=[3] * events)


def of(policy: str = "on-demand-lru", **changes: Any) -> Manifest:
    return manifest(policy, **{"num_layers": 2, "hashes": {"trace": "1", "profile": "2"}} | changes)


def test_a_row_says_what_the_summary_says() -> None:
    scenario = Scenario(RunConfig(TRACE, slots=60, steps=30, format="fp16"))
    runs = {Path(f"{name}.parquet"): scenario.run(name).result for name in ("lookahead", "gpu-only")}
    table = table_of(runs)
    for row, found in zip(table.rows.to_dict("records"), runs.values(), strict=True):
        told = summary(found)
        for name in (
            "policy",
            "slots",
            "hit_rate",
            "tokens_per_second",
            "bytes_loaded",
            "stall_ns",
            "evidence",
            "semantics",
        ):
            assert row[name] == told[name], name
        assert row["latency_mean_ns"] == told["latency_mean_ns"]
        assert row["oracle_ns"] == told["oracle_ns"]
        assert row["assumed"] == list(told["assumed"])
        assert row["cliff_slots"] == 5  # five layers of one expert
        assert row["error"] == ""
    assert list(table.rows["yardstick"]) == [False, True]


def test_an_lrus_cliff_is_the_same_in_a_report_and_in_a_sweep() -> None:
    (row,) = evaluate([RunConfig(TRACE, "on-demand-lru", "rtx3090", slots=60, steps=30, batch=5)])
    scenario = Scenario(RunConfig(TRACE, slots=60, steps=30, batch=5))
    run = scenario.run("on-demand-lru")
    (reported,) = table_of({Path("a.parquet"): run.result}).rows.to_dict("records")
    exact = row["demands"] * (row["num_layers"] - 1) / (row["steps"] * row["num_layers"])
    assert exact % 1 >= 0.5  # rounding would give one slot more, with which an LRU may hit
    assert reported["cliff_slots"] == row["cliff_slots"] == int(exact) == cliff_of(scenario.routed.workload)
    (warning,) = about_slots(scenario.decide(scenario.policy("on-demand-lru"), 4).counted)
    assert f"up to {int(exact)} slots (its cliff)" in warning


def test_the_table_is_a_sweeps(tmp_path: Path) -> None:
    made = table_of({Path("a"): run(of()), Path("b"): run(of("static", parameters=USUAL | {"set": ["x.y=2"]}))})
    read = stored(tmp_path, made)
    assert set(read.rows.columns) == set(made.rows.columns)
    assert answer_of(read).sentences == answer_of(made).sentences


def test_values_that_were_set(tmp_path: Path) -> None:
    changed = USUAL | {"set": ["device.memory_bandwidth=600GB/s", "eviction=lfu"]}
    made = table_of({Path("a"): run(of(parameters=changed)), Path("b"): run(of("static"))})
    number, word = (made.rows[f"set.{name}"] for name in ("device.memory_bandwidth", "eviction"))
    assert (number[0], word[0]) == (6e11, "lfu")
    assert math.isnan(number[1])
    header, first, second = rows_of(next(parsed(study_table("key", stored(tmp_path, made))).iter("table")))
    assert [cells[1:3] for cells in (header, first, second)] == [
        ["device.memory_bandwidth, GB/s", "eviction"],
        ["600", "lfu"],
        ["\N{EN DASH}", "\N{EN DASH}"],
    ]


def test_unknown_bounds_are_unknown() -> None:
    made = table_of({Path("a"): run(of(bounds={"floor_ns": 5}))})
    assert made.rows["floor_ns"][0] == 5
    assert math.isnan(made.rows["oracle_ns"][0])


def test_hashes_of_what_was_read() -> None:
    made = table_of({Path("a"): run(of()), Path("b"): run(of(profile="other", hashes={"profile": "3"}))})
    assert made.manifest["hashes"] == {
        "trace": {"switch-mini-128/decode/test": "1"},
        "profile": {"rtx3090": "2", "other": "3"},
    }


def test_a_run_without_steps() -> None:
    with pytest.raises(InputError, match=r"^a\.parquet: no step was simulated"):
        table_of({Path("a.parquet"): run(of(), steps=0)})


# Commands


def one_line(command: str) -> str:
    return command.replace(" \\\n    ", " ")


def test_policies_that_share_the_rest_share_a_command() -> None:
    (told,) = commands([run(of("lookahead")), run(of("static"))])
    assert one_line(told) == (
        "specmoe simulate switch-mini-128/decode/test --policy lookahead --policy static --profile rtx3090 "
        "--shape switch-base-128 --format fp16 --batch 1 --steps 2 --warm-up 0 --slots 128"
    )


def test_a_policy_that_holds_everything_goes_with_any_slots() -> None:
    resident = manifest("gpu-only", num_layers=2, slots=768, parameters=USUAL | {"sharing": "all-resident"})
    assert len(commands([run(resident), run(of())])) == 1
    assert one_line(commands([run(resident)])[0]).endswith("--slots 768")


def test_different_slots_are_different_commands() -> None:
    assert [one_line(told)[-10:] for told in commands([run(of(slots=64)), run(of(slots=96))])] == [
        "--slots 64",
        "--slots 96",
    ]


def test_unusual_choices_are_told() -> None:
    chosen = USUAL | {
        "link": "priority",
        "host_set": "eager",
        "tier": "nvme",
        "home_format": "int8",
        "compressed_slots": 4,
    }
    chosen |= {"source": "code,prose", "train_source": "all"}
    (told,) = commands([run(of(parameters=chosen | {"set": ["prefetch.limit=2"]}))])
    for part in (
        *("--link priority", "--host-set eager", "--tier nvme", "--home-format int8", "--compressed-slots 4"),
        *("--source code,prose --train-source all", "--set prefetch.limit=2"),
    ):
        assert part in one_line(told)


def test_names_are_quoted() -> None:
    (told,) = commands([run(of(trace="my trace; rm -rf ~"))])
    assert shlex.split(one_line(told))[2] == "my trace; rm -rf ~"


def test_the_command_gives_the_same_results(tmp_path: Path) -> None:
    options = [
        "--slots",
        "60",
        "--steps",
        "20",
        "--link",
        "priority",
        "--set",
        "host_to_device.pinned.bandwidth=20GB/s",
    ]
    policies = ["--policy", "gpu-only", "--policy", "lookahead"]
    simulate = CliRunner().invoke(app, ["simulate", TRACE, *policies, *options, "--out", str(tmp_path / "one")])
    assert simulate.exit_code == 0, simulate.output
    results = [RunResult.load(path) for path in sorted((tmp_path / "one").glob("*.parquet"))]
    (told,) = commands(results)
    again = CliRunner().invoke(app, [*shlex.split(one_line(told))[1:], "--out", str(tmp_path / "two")])
    assert again.exit_code == 0, again.output
    for path in (tmp_path / "one").glob("*.parquet"):
        one, two = RunResult.load(path), RunResult.load(tmp_path / "two" / path.name)
        assert one.manifest == two.manifest
        assert all((one.table[name] == two.table[name]).all() for name in one.table)
