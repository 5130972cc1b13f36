"""Constants carried to another machine, and cells simulated again with other constants."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import specmoe.validate.fit as resimulate
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile
from specmoe.hwprofiles.costs import HostCosts
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import CONTENTION, INTERFERENCE
from specmoe.results import latencies
from specmoe.validate.calibration import carried
from specmoe.validate.fit import MILLION, Constants, Resimulation, config_of
from specmoe.validate.grid import group_of
from specmoe.validate.measured import steps_of
from specmoe.validation_table import HostState

TRACES: dict[Any, str] = {"decode": "switch-mini-128/decode/test"}
GROUP = group_of("switch-base-128", "decode", "fp16", "int8", 4, 5)
CELL = GROUP.cell("lookahead", 154, "fit")


def profile(**host: int) -> HardwareProfile:
    """Without the optional costs unless they are told."""
    bare = load_profile("rtx3090")
    quantities = {name: q for name, q in bare.quantities.items() if not name.startswith("host.graph.begin")}
    bare = dataclasses.replace(bare, quantities=quantities)
    values = dict.fromkeys(("launch", "launch_dense", "issue", "event", "sync", "bookkeeping"), 1000) | host
    return bare.with_calibrated({f"host.graph.{name}": value for name, value in values.items()}, "made up")


def test_microbenchmarks_are_scaled_as_the_first_machines_were() -> None:
    found = carried(profile(issue=30_000), profile(issue=20_000), profile(issue=10_000))
    assert found["host.graph.issue"] == 15_000
    assert found["host.graph.launch"] == 1000


@pytest.mark.parametrize(("before", "there"), [(0, 10_000), (20_000, 0), (0, 0)])
def test_without_a_microbenchmark_the_calibrated_value_is_carried(before: int, there: int) -> None:
    found = carried(profile(bookkeeping=7000), profile(bookkeeping=before), profile(bookkeeping=there))
    assert found["host.graph.bookkeeping"] == 7000


def test_an_optional_cost_may_be_missing_anywhere() -> None:
    assert "host.graph.begin" not in carried(profile(), profile(begin=5), profile(begin=5))
    assert carried(profile(begin=8), profile(), profile(begin=5))["host.graph.begin"] == 8
    assert carried(profile(begin=8), profile(begin=4), profile())["host.graph.begin"] == 8
    assert carried(profile(begin=8), profile(begin=4), profile(begin=5))["host.graph.begin"] == 10


def test_what_calibration_made_nothing_of_is_nothing() -> None:
    assert carried(profile(event=0), profile(event=4), profile(event=5))["host.graph.event"] == 0


def test_the_other_set_is_its_own() -> None:
    found = carried(profile(issue=30_000), profile(issue=20_000), profile(issue=10_000), "eager")
    assert found["host.eager.issue"] == load_profile("rtx3090").ns("host.eager.issue")


@pytest.mark.parametrize("name", [CONTENTION, INTERFERENCE])
def test_shares_are_carried_as_they_are(name: str) -> None:
    bare = profile()
    few, more, most = (bare.with_calibrated({name: value}, "made up") for value in (1.02, 1.1, 1.5))
    assert carried(few, bare, bare)[name] == 1.02
    assert carried(few, most, more)[name] == 1.02
    assert name not in carried(bare, bare, more)


def test_carried_values_are_what_a_profile_takes() -> None:
    other = profile(issue=10_000)
    first = profile(issue=30_000).with_calibrated({CONTENTION: 1.02}, "made up")
    found = other.with_calibrated(carried(first, profile(issue=20_000), other), "carried")
    assert found.ns("host.graph.issue") == 15_000
    assert found.contention == 1.02


def test_what_is_simulated_of_a_group() -> None:
    spec = config_of(GROUP, TRACES, "a6000")
    assert (spec.trace, spec.profile, spec.shape) == (TRACES["decode"], "a6000", "switch-base-128")
    assert (spec.format, spec.home.format, spec.home.tier) == ("fp16", "int8", "host-pinned")
    assert (spec.batch, spec.steps, spec.padded, spec.link, spec.host_set) == (4, 5, True, "fifo", "graph")


def test_a_phase_without_a_trace() -> None:
    with pytest.raises(InputError, match="b4: no trace of phase encode: one of decode expected"):
        config_of(dataclasses.replace(GROUP, phase="encode"), TRACES, "a6000")


def test_the_profiles_own_costs_give_its_own_result() -> None:
    simulated = Resimulation(TRACES, "rtx3090")
    run = simulated.run(CELL)
    again, expected = simulated.steps(CELL, simulated.constants(GROUP)), steps_of([run.result])
    assert simulated.constants(GROUP) == Constants(run.durations.host, MILLION)
    for name in ("latency", "compute", "stall"):
        assert getattr(again, name).tolist() == getattr(expected, name).tolist(), name
    assert again.decisions == expected.decisions
    assert again.latency[0].tolist() == latencies(run.result).tolist()


def test_other_costs_give_what_a_profile_with_them_gives() -> None:
    constants = Constants(HostCosts(*range(1000, 5000, 500)), 1_500_000, 70_000)
    again = Resimulation(TRACES, "rtx3090").steps(CELL, constants)
    changed = load_profile("rtx3090").with_calibrated(constants.values(), "made up")
    simulated = Resimulation(TRACES, changed)
    expected = steps_of([simulated.run(CELL).result])
    assert simulated.constants(GROUP) == constants
    assert again.latency.tolist() == expected.latency.tolist()
    assert again.stall.tolist() == expected.stall.tolist()
    assert again.compute.tolist() == expected.compute.tolist()


def test_a_contention_takes_the_place_of_the_profiles_own() -> None:
    """It does not come on top."""
    double = load_profile("rtx3090").with_calibrated({CONTENTION: 2.0}, "made up")
    plain, longer = Resimulation(TRACES, "rtx3090"), Resimulation(TRACES, double)
    host = plain.constants(GROUP).host
    for contention in (MILLION, 3 * MILLION // 2):
        one, other = (simulated.steps(CELL, Constants(host, contention)) for simulated in (plain, longer))
        assert one.latency.tolist() == other.latency.tolist()
        assert one.stall.tolist() == other.stall.tolist()


def test_decisions_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Resimulation(TRACES, "rtx3090")
    first = simulated.run(CELL)
    monkeypatch.setattr(resimulate.Scenario, "decide", None)
    assert simulated.run(CELL) is first
    quick, slow = (simulated.steps(CELL, Constants(HostCosts(*[ns] * 8))) for ns in (0, 100_000))
    assert quick.latency.sum() < slow.latency.sum()
    assert quick.compute.tolist() == slow.compute.tolist()


def test_a_cell_is_fitted_with_the_calls_that_its_replay_saw() -> None:
    simulated = Resimulation(TRACES, "rtx3090")
    constants = simulated.constants(GROUP)
    own = simulated.steps(CELL, constants)
    slow = own._replace(host=HostState(launch_dense=200_000, launch=100_000, issue=100_000))
    seen = simulated.all_steps({CELL: slow}, constants)[CELL]
    assert seen.latency.sum() > own.latency.sum()
    assert seen.latency.tolist() == simulated.steps(CELL, constants.seen(slow.host)).latency.tolist()
    assert simulated.all_steps({CELL: own}, constants)[CELL].latency.tolist() == own.latency.tolist()


def test_cells_of_a_group_share_a_scenario() -> None:
    simulated = Resimulation(TRACES, "rtx3090")
    simulated.run(CELL)
    assert simulated.scenario(GROUP) is simulated.scenario(dataclasses.replace(GROUP))
