"""The Python API says what the commands say, in DataFrames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import specmoe
from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.misses import MISSES
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.speculate.predictors import PREDICTORS

TRACE = "switch-mini-128/decode/test"


def printed(*arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def result() -> specmoe.api.Simulation:
    return specmoe.simulate(TRACE, policy=["static", "on-demand-lru", "lookahead"], slots=60, steps=20, format="fp16")


def test_rows_are_those_of_the_command(result: Any) -> None:
    policies = "static,on-demand-lru,lookahead"
    rows = printed("simulate", TRACE, "--policy", policies, "--slots", "60", "--steps", "20", "--format", "fp16")
    assert json.loads(json.dumps(result.rows)) == rows


def test_the_table_has_a_row_per_policy_the_fastest_first(result: Any) -> None:
    assert sorted(result.table["policy"]) == ["lookahead", "on-demand-lru", "static"]
    assert result.table["latency_mean_ns"].is_monotonic_increasing


def test_steps_add_up_to_the_table(result: Any) -> None:
    warm = result.steps[result.steps["step"] >= result.table["warm_up_steps"].max()]
    sums = warm.groupby("policy").sum()
    table = result.table.set_index("policy")
    for name in ("hits", "demand_loads", "stall_ns", "compute_ns", "tokens"):
        assert (sums[name] == table[name].reindex(sums.index)).all(), name
    means = warm.groupby("policy")["latency_ns"].mean().round()
    assert (means == table["latency_mean_ns"].reindex(means.index)).all()


def test_plots_take_and_give_axes(result: Any) -> None:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert result.plot(axes) is axes
    assert isinstance(result.plot(), Axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == result.table["policy"].tolist()


def test_a_notebook_shows_units_and_evidence(result: Any) -> None:
    page = result._repr_html_()
    assert "step, ms" in page and "Evidence: published" in page
    assert f"{result.table['latency_mean_ns'][0] / 1e6:.4g}" in page


def test_results_are_saved_as_the_command_saves_them(result: Any, tmp_path: Path) -> None:
    result.save(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{name}.parquet" for name in result.runs}


def test_sizes_are_text_or_bytes() -> None:
    one, other = (specmoe.simulate(TRACE, vram=vram, steps=3, format="fp16") for vram in ("2GiB", 2 << 30))
    assert one.rows == other.rows


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"policy": "lru"}, "policy 'lru'"),
        ({"machine": "rtx3091"}, "rtx3091: no such profile"),
        ({"model": "mixtral"}, "mixtral: no such model shape"),
        ({"vram": "8"}, "did you mean 8GiB?"),
        ({"slot": 4}, "simulate has no argument 'slot'"),
        ({"slots": 4, "vram": "4GiB"}, "not both"),
    ],
)
def test_errors_are_in_the_callers_words(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        specmoe.simulate(TRACE, steps=2, **arguments)


def test_of_all_policies_those_that_cannot_run_are_named(make_trace: Any) -> None:
    found = specmoe.simulate(make_trace(has_lookahead=False), policy="all", slots=9)
    assert "lookahead" in found.failures and "lookahead" not in found.runs
    with pytest.raises(InputError):
        specmoe.simulate(make_trace(has_lookahead=False), policy="lookahead", slots=9)


def test_a_sweep_is_that_of_the_command(tmp_path: Path) -> None:
    found = specmoe.sweep(
        TRACE,
        policy=["on-demand-lru", "static"],
        slots=[40, 80],
        steps=10,
        format="fp16",
        settings={"host_to_device.pinned.bandwidth": ["6GB/s", "24GB/s"]},
        out=tmp_path / "api",
    )
    arguments = ["--policy", "on-demand-lru,static", "--slots", "40,80", "--steps", "10", "--format", "fp16"]
    link = ["--set", "host_to_device.pinned.bandwidth=6GB/s,24GB/s"]
    printed("sweep", "--trace", TRACE, *arguments, *link, "--out", str(tmp_path / "command"))
    pd.testing.assert_frame_equal(found.table, pd.read_parquet(tmp_path / "command" / "sweep.parquet"))
    assert len(found.best) == 4
    assert "on-demand-lru" in found._repr_html_()


def test_advice_is_that_of_the_command() -> None:
    found = specmoe.advise("switch-base-128", "2GiB", machine="rtx4090", steps=20, formats=("fp16",))
    arguments = ("--model", "switch-base-128", "--vram", "2GiB", "--profile", "rtx4090", "--steps", "20")
    (told,) = printed("advise", *arguments, "--format", "fp16")
    assert list(found.lines) == told["lines"]
    assert found.table["policy"].tolist() == [row["policy"] for row in told["ranking"]]
    assert "<table" in found._repr_html_() and str(found).startswith(told["lines"][0])


def test_catalogues_have_a_row_for_each_name() -> None:
    assert specmoe.policies()["name"].tolist() == list(POLICIES)
    assert specmoe.evictions()["name"].tolist() == list(EVICTIONS)
    assert specmoe.misses()["name"].tolist() == ["load", *MISSES]
    assert specmoe.predictors()["name"].tolist() == list(PREDICTORS)
    assert "rtx3090" in specmoe.profiles()["name"].tolist()
    assert (specmoe.profiles()["vram_bytes"] > 2**30).all()
    assert "gpt-oss-20b" in specmoe.shapes()["name"].tolist()
    traces = specmoe.traces()
    assert TRACE in traces["name"].tolist() and (traces["tokens"] > 0).all()


@pytest.mark.parametrize("table", ["policies", "evictions", "misses", "predictors"])
def test_everything_says_what_it_does_and_where_it_comes_from(table: str) -> None:
    rows = getattr(specmoe, table)()
    assert (rows["about"].str.len() > 10).all() and rows["about"].str.endswith(".").all()
    assert (rows["source"] != "").all()


def test_the_command_lists_them_all() -> None:
    rows = printed("policies")
    assert [row["name"] for row in rows if row["kind"] == "policies"] == list(POLICIES)
    assert {row["kind"] for row in rows} == {"policies", "evictions", "misses", "predictors"}
