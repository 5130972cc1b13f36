"""Runs part by part: their figures are those of the whole run, whatever the parts, and no trace is read whole."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import specmoe
from specmoe.cli import app
from specmoe.sim.config import RunConfig
from specmoe.sim.long_run import long_scenario, run_long
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.job import rows_in_pieces
from specmoe.sim.sweep.workers import Workers
from specmoe.sim.tally import Histogram
from specmoe.summary import BOUNDS, summary
from specmoe.traces.schema import select
from specmoe.traces.store import Trace, path_of, write_trace
from specmoe.traces.store import open as open_trace

TRACE = "switch-mini-128/decode/test"
WITHIN = ("latency_p50_ns", "latency_p95_ns", "latency_p99_ns")
OTHERS = (*BOUNDS, *WITHIN, "timed_by")
ROW_GROUP = 45


@pytest.fixture(scope="module")
def in_groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace with small row groups, none of which begins where a sequence does."""
    trace, path = open_trace(TRACE), tmp_path_factory.mktemp("trace") / "test.parquet"
    block = trace.read()
    write_trace(path, trace.meta, (select(block, slice(at, at + ROW_GROUP)) for at in range(0, 900, ROW_GROUP)))
    return path


def same(config: RunConfig, names: tuple[str, ...], parts: tuple[int, ...]) -> None:
    whole = Scenario(config)
    rows = {name: summary(whole.run(name).result) for name in names}
    for at_once in parts:
        scenario = long_scenario(config, at_once)
        for name, row in rows.items():
            found = run_long(scenario, name)
            assert {key: found[key] for key in row if key not in OTHERS} == {
                key: row[key] for key in row if key not in OTHERS
            }, (name, at_once)
            assert [found[key] for key in WITHIN] == pytest.approx([row[key] for key in WITHIN], rel=1 / 2048)


def test_decoding_part_by_part_gives_the_figures_of_the_whole_run(in_groups: Path) -> None:
    names = ("on-demand-lfu-decayed", "static", "lookahead", "belady", "oracle")
    machine: Any = "h200-sxm-141gb"  # whose copies slow its kernels
    train = str(path_of("switch-mini-128/decode/validation"))
    same(RunConfig(str(in_groups), profile=machine, slots=50, steps=20, train=train), names, (1, 13))


def test_so_does_a_batch_at_spread_positions(in_groups: Path) -> None:
    names = ("on-demand-least-stale", "prefetch-all", "oracle", "gpu-only")
    same(RunConfig(str(in_groups), slots=150, batch=4, steps=30), names, (7,))


def test_so_do_whole_sequences() -> None:
    same(RunConfig("switch-mini-128/encode/test", slots=200, batch=2, steps=20), ("on-demand-lru", "belady"), (3,))


def test_so_do_experts_on_the_cpu_and_predictors_that_learn_as_they_go(in_groups: Path) -> None:
    train, machine = str(path_of("switch-mini-128/decode/validation")), "rtx4090"
    question = {"trace": str(in_groups), "profile": machine, "slots": 150, "steps": 24, "train": train}
    same(RunConfig(**question), ("lru-cpu", "freetoken", "n-cpu-moe", "token-identity"), (1,))
    same(RunConfig(**question, batch=4), ("hybrimoe", "transition-2", "moe-infinity", "frequency-sequence"), (5,))


def test_pieces_are_runs_of_their_own_that_are_added_up(in_groups: Path, tmp_path: Path) -> None:
    trace, config = open_trace(in_groups), RunConfig(str(in_groups), "lookahead", slots=80, pieces=3)
    block = trace.read()
    ends = np.flatnonzero(np.diff(block.sequence, append=-1)) + 1  # of sequences
    cuts = [0, *(int(ends[(ends - 1) * 3 // len(trace) < number].max()) for number in (1, 2)), len(trace)]
    totals = dict.fromkeys(("hits", "demand_loads", "prefetch_useful", "stall_ns", "warm_up_steps", "tokens"), 0)
    for number, (begin, end) in enumerate(pairwise(cuts)):
        path = tmp_path / f"{number}.parquet"
        write_trace(path, trace.meta, [select(block, slice(begin, end))])
        row = run_long(long_scenario(RunConfig(str(path), slots=80)), "lookahead")
        totals = {name: total + row[name] for name, total in totals.items()}
    ((_, found),) = rows_in_pieces(Workers(ThreadPoolExecutor(1), 1), [config])
    assert {name: found[name] for name in totals} == totals


def test_no_column_is_read_whole(in_groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(trace: Trace, name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(Trace, "_read_column", refused)
    (row,) = specmoe.simulate(in_groups, slots=100, summary_only=True).rows
    assert row["steps"] + row["warm_up_steps"] == 900


def test_a_row_for_each_step_is_written_as_it_goes(tmp_path: Path) -> None:
    question: dict[str, Any] = {"policy": "lookahead", "slots": 90, "steps": 200}
    specmoe.simulate(TRACE, summary_only=True, out=tmp_path, **question)
    found, expected = pd.read_parquet(tmp_path / "lookahead.steps.parquet"), specmoe.simulate(TRACE, **question).steps
    assert found.equals(expected[found.columns])


def test_percentiles_are_those_of_all_steps_within_one_in_2048() -> None:
    steps, histogram = (np.random.default_rng(0).lognormal(16, 2, 10_000)).astype(np.int64), Histogram()
    for part in np.split(steps, 10):
        histogram.add(part)
    found = histogram.latencies()
    assert [found.p50, found.p95, found.p99] == pytest.approx(np.percentile(steps, (50, 95, 99)), rel=1 / 2048)
    assert (found.steps, found.total, found.longest) == (10_000, steps.sum(), steps.max())
    assert found.deviation == pytest.approx(steps.std(ddof=1))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ("--policy", "pregated"),
            "policy pregated: not simulated with --summary-only: one of gpu-only, on-demand,",
        ),
        (("--policy", "hobbit"), "policy hobbit: not simulated with --summary-only: one of gpu-only,"),
        (("--link", "priority"), "--link priority: not simulated with --summary-only: the default expected"),
        (("--source", "fiction"), "--source: not simulated with --summary-only: a run without it expected"),
        (("--draws", "20"), "--draws: the whole run is needed: a run without --summary-only expected"),
        (("--batch", "1000"), "batch 1000: "),
    ],
)
def test_what_needs_the_whole_run_is_refused_in_one_line(options: tuple[str, ...], reason: str) -> None:
    policy = () if "--policy" in options else ("--policy", "on-demand-lru")
    found = CliRunner().invoke(app, ["simulate", TRACE, "--slots", "50", "--summary-only", *policy, *options])
    assert (found.exit_code, found.stderr.count("\n")) == (1, 1)
    assert found.stderr.startswith(f"error: {reason}")
