"""Runs of policies that have the CPU compute experts, on a shipped machine with a CPU by hand."""

from itertools import pairwise
from typing import Any

import pytest
from cpu_machine import machine

from specmoe.errors import InputError
from specmoe.hwprofiles.profile_file import write_profile
from specmoe.sim.config import Home, RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.event_table import simulated_spans
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.sim.timing.bounds import link_and_cpu_bound_ns
from specmoe.summary import summary

ON_CPU = [name for name, row in POLICIES.items() if row.uses_cpu and not row.approximate]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = tmp_path_factory.mktemp("machine") / "hand.toml"
    write_profile(machine(), found)
    return str(found)


def config(**changes: Any) -> RunConfig:
    fields: dict[str, Any] = {"format": "fp16", "steps": 12, "batch": 4, "slots": 60, "profile": machine()}
    return RunConfig("switch-mini-128/decode/test", **fields | changes)


@pytest.mark.parametrize("name", ON_CPU)
def test_every_policy_runs_and_the_re_timer_gives_the_engines_row(name: str, path: str) -> None:
    run = Scenario(config()).run(name)
    own = summary(run.result)
    (row,) = evaluate([config(policy=name, profile=path)])
    compared = [column for column in own if column in row and column.endswith("_ns")] + ["evidence", "cpu_uses"]
    assert {column: row[column] for column in compared} == {column: own[column] for column in compared}
    assert (row["cpu_ns"] > 0) == (row["cpu_uses"] > 0)
    assert row["latency_mean_ns"] >= row["floor_ns"] or row["cpu_share"] < 1
    assert own["evidence"] == "published"
    assert run.result.manifest.parameters["threads"] == 8


def test_every_expert_on_the_cpu_is_a_bound_of_its_own() -> None:
    found = summary(Scenario(config(warm_up=0)).run("cpu-experts").result)
    assert found["cpu_only_ns"] == found["latency_mean_ns"]
    assert found["link_and_cpu_ns"] < found["link_ns"]


def test_link_and_cpu_share_what_neither_does_alone() -> None:
    assert link_and_cpu_bound_ns(60, copy=300, expert=150, steps=2) == 30 * 100


def test_a_step_on_the_cpu_takes_what_a_formula_says() -> None:
    scenario = Scenario(config(warm_up=0, batch=1, steps=3))
    run = scenario.run("cpu-experts")
    durations, host = run.durations, run.durations.host
    expert = sum(durations.expert) // len(durations.expert)
    assert durations.cpu == (3000, 4000, scenario.profile.ns("device.kernel_floor"), 400_000, 200_000)
    decided = max(host.bookkeeping_ns + 3000, durations.to_host[0])
    back = 4000 + max(
        durations.to_device[0] + host.begin_copy_ns + host.event_ns + durations.cpu.add_ns,
        host.launch_dense_ns + host.begin_ns,
    )
    layers = len(durations.before) // 3
    first = host.launch_dense_ns + host.begin_ns
    step = (
        first
        + sum(durations.before[:layers])
        + layers * (host.sync_ns + decided + expert + back)
        + durations.after[0]
        + host.sync_ns
    )
    assert int(run.timing.step_end[0]) == step


def test_fewer_threads_than_are_known_are_refused() -> None:
    with pytest.raises(InputError, match=r"^--threads 4: profile rtx3090 knows cpu.read.bandwidth for 8 threads only"):
        Scenario(config(threads=4))
    with pytest.raises(InputError, match=r"^--threads 9: the CPU of profile rtx3090 has 8: 1 to 8 expected$"):
        Scenario(config(threads=9))


@pytest.mark.parametrize("home", [Home("nvme"), Home(compressed_slots=3)])
def test_homes_out_of_which_the_cpu_does_not_compute(home: Home) -> None:
    scenario = Scenario(config(home=home))
    assert "cpu_only_ns" not in scenario.bounds(60)
    with pytest.raises(InputError, match="not simulated where the CPU computes experts"):
        scenario.run("cpu-experts")


def test_a_timeline_has_a_lane_of_the_cpu() -> None:
    run = Scenario(config(slots=700)).run("n-cpu-moe:2")
    spans = simulated_spans(run.decisions, run.durations, run.timing)
    on_cpu = sorted((span for span in spans if span.lane == "cpu"), key=lambda span: span.start_ns)
    assert len(on_cpu) == run.decisions.cpu_uses
    assert all(one.end_ns <= other.start_ns for one, other in pairwise(on_cpu))
    assert not any(span.lane == "compute" and span.name.startswith("L0") for span in spans)
