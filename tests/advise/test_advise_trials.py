"""Configurations run as `Scenario` runs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import specmoe.traces
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.shape import Format
from specmoe.sim import routing
from specmoe.sim.advise.search import SHOWN, Trials
from specmoe.sim.advise.setting import LIKELY, Question, Routings, Setting, draw, routings_of
from specmoe.sim.config import Home, RunConfig
from specmoe.sim.decide.policy import Policy
from specmoe.sim.routing import Routing
from specmoe.sim.run import Scenario
from specmoe.summary import summary
from specmoe.traces.workload import warm_up_of

H100 = load_profile("h100-sxm5-80gb")
BASE = RunConfig("none", "on-demand-lru", "h100-sxm5-80gb", format="fp16", slots=40, vram=1 << 30)
COPY = "host_to_device.pinned"


@pytest.fixture
def here(make_trace: Callable[..., Path]) -> Setting:
    path = str(make_trace(700, num_layers=6, num_experts=128, top_k=1, has_lookahead=True))
    question = Question("switch-base-128", "h100-sxm5-80gb", 2 << 30, trace=path, steps=16)
    return Setting(question, load_shape(question.shape), H100, Routings(path, specmoe.traces.open(path).meta))


def filled(here: Setting, batch: int) -> int:
    """Steps until demand could have filled the slots of the question."""
    routed = Routing(here.routings.trace, batch, shape=here.question.shape).routed
    return warm_up_of(routed.workload, here.most_slots).steps


def simulated(here: Setting, one: RunConfig, **changes: Any) -> dict[str, Any]:
    spec = RunConfig(
        **{
            "trace": here.routings.trace,
            "profile": H100,
            "format": one.format,
            "slots": one.slots,
            "batch": one.batch,
            "steps": 256 + filled(here, 1),
            "settings": one.settings,
        }
        | changes
    )
    return summary(Scenario(spec).run(one.policy).result)


@pytest.mark.parametrize(
    ("changed", "spec"),
    [
        ({}, {}),
        ({"policy": "lookahead"}, {}),
        ({"settings": (("sharing", "per-layer"),)}, {}),
        ({"policy": "lookahead", "settings": (("prefetch.limit", 4),)}, {}),
        ({"format": "fp32", "slots": 12}, {}),
        ({"home": Home(format="int8")}, {"home": Home(format="int8")}),
        ({"scales": ((COPY + ".bandwidth", 2.0),)}, {"profile": H100.with_plateau(COPY, 2 * H100.plateau(COPY))}),
        ({"batch": 2}, {}),
    ],
)
def test_a_trial_is_a_simulation(changed: dict[str, Any], spec: dict[str, Any], here: Setting, tmp_path: Path) -> None:
    one = dataclasses.replace(BASE, **changed)
    (trial,) = Trials(here, tmp_path).run([one], SHOWN)
    if one.batch > 1:
        spec = {"steps": 256 // one.batch + filled(here, one.batch)}
    expected = simulated(here, one, **spec)
    assert expected["steps"] >= 240 // one.batch  # less than 256 where a trial has more slots than the question
    assert trial.step_ms * 1e6 == pytest.approx(expected["latency_mean_ns"])
    assert trial.rate == pytest.approx(expected["tokens_per_second"])
    assert trial.stall_ms * 1e6 * expected["steps"] == pytest.approx(expected["stall_ns"])
    assert trial.rate_at("oracle_ns") == pytest.approx(
        expected["tokens"] / expected["steps"] / expected["oracle_ns"] * 1e9
    )


@pytest.mark.parametrize("policy", ["on-demand-lru", "lookahead"])
def test_the_rate_on_another_trace_is_a_simulation_too(policy: str, here: Setting, tmp_path: Path) -> None:
    one = dataclasses.replace(BASE, policy=policy)
    expected = simulated(here, one)
    assert Trials(here, tmp_path).elsewhere(here.routings.trace, one) == pytest.approx(expected["tokens_per_second"])


def test_decisions_are_made_once_for_all_machines(
    here: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int]] = []
    usual = routing.decide

    def counted(workload: Any, predictions: Any, chosen: Policy, slots: int, context: Any) -> Any:
        made.append((chosen.name, slots))
        return usual(workload, predictions, chosen, slots, context)

    monkeypatch.setattr(routing, "decide", counted)
    trials = Trials(here, tmp_path)
    for factor in (1.0, 2.0, 4.0):
        trials.run([dataclasses.replace(BASE, scales=((COPY + ".bandwidth", factor),))])
    assert made.count(("on-demand-lru", 40)) == 1
    assert len(made) == 2  # and every expert resident, for the floor


def test_a_warm_up_of_ones_own_is_left_out_of_every_trial(here: Setting, tmp_path: Path) -> None:
    asked = here._replace(question=dataclasses.replace(here.question, warm_up=100))
    (trial,) = Trials(asked, tmp_path).run([dataclasses.replace(BASE, warm_up=100)])
    expected = simulated(here, BASE, warm_up=100, steps=356)
    assert (trial.row["warm_up_steps"], trial.row["steps"]) == (100, 256)
    assert trial.step_ms * 1e6 == pytest.approx(expected["latency_mean_ns"])


def test_progress_counts_on_from_run_to_run(here: Setting, tmp_path: Path) -> None:
    told: list[int] = []
    trials = Trials(here, tmp_path, told.append)
    trials.run([BASE, dataclasses.replace(BASE, slots=30)])
    trials.run([BASE, dataclasses.replace(BASE, slots=20)])
    assert told == [1, 2, 3]


def test_a_setting_that_makes_no_sense_is_no_row_of_figures(here: Setting, tmp_path: Path) -> None:
    formats: tuple[Format, ...] = ("fp16",)
    trials = Trials(here, tmp_path)
    bad = dataclasses.replace(BASE, policy="lookahead", settings=(("prefetch.depth", 9),), format=formats[0])
    assert [trial.config for trial in trials.run([bad, BASE])] == [BASE]
    assert trials.failures.keys() == {"lookahead"}
    assert trials.runs == 1


def test_drawn_routing_grows_where_a_batch_needs_more_of_it_and_nothing_else_changes(tmp_path: Path) -> None:
    shape, question = load_shape("switch-base-8"), Question("switch-base-8", "h100-sxm5-80gb", 2 << 30)
    (tmp_path / "whole").mkdir()
    few = Setting(question, shape, H100, routings_of(shape, None, 1, tmp_path))
    whole = draw(shape, LIKELY, 1, tmp_path / "whole")
    every = few._replace(routings=few.routings._replace(trace=str(whole)))
    configs = [dataclasses.replace(BASE, batch=batch, slots=10) for batch in (1, 2, 8)]
    rows = [[trial.row for trial in Trials(here, tmp_path).run(configs)] for here in (few, every)]
    figures = [[(row["steps"], row["latency_mean_ns"], row["hit_rate"]) for row in own] for own in rows]
    assert figures[0] == figures[1]
    assert Path(few.routings.trace).read_bytes() == whole.read_bytes()
