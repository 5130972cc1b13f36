"""From which precision on prefetching pays: the crossing by hand, and on machines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmoe.sim.break_even import FACTORS, Trial, break_even, crossing, curve, link_name
from specmoe.sim.config import Home, RunConfig
from specmoe.sim.run import Scenario
from specmoe.summary import summary

TRACE = "switch-mini-128/decode/test"


@pytest.mark.parametrize(
    ("precisions", "gains", "expected"),
    [
        ([0.0, 0.5, 1.0], [-2, -1, 3], 0.625),
        ([0.0, 1.0], [-1, 1], 0.5),
        ([0.1, 0.4, 0.9], [-3, 0, 7], 0.4),  # a draw is no gain
        ([0.0, 0.2, 0.6, 1.0], [1, -1, -1, 1], 0.8),  # for good
    ],
)
def test_by_hand(precisions: list[float], gains: list[float], expected: float) -> None:
    assert crossing(precisions, gains).precision == pytest.approx(expected)
    assert crossing(precisions, gains).reason == ""


@pytest.mark.parametrize(
    ("gains", "reason"),
    [([], "nothing is left"), ([1, 2], "pays at any precision"), ([-2, -1], "does not pay"), ([1, 0], "does not pay")],
)
def test_none_and_why(gains: list[float], reason: str) -> None:
    found = crossing([0.0, 1.0][: len(gains)], gains)
    assert found.precision is None
    assert reason in found.reason


@given(at=st.floats(0.01, 0.99), scale=st.floats(1, 1e9))
def test_a_straight_line_is_crossed_exactly(at: float, scale: float) -> None:
    precisions = [part / 7 for part in range(8)]
    found = crossing(precisions, [scale * (precision - at) for precision in precisions])
    assert found.precision == pytest.approx(at)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario(RunConfig(TRACE, slots=150, format="fp16", steps=300))


def test_guesses_just_better_than_break_even_are_faster_than_loading_on_demand(scenario: Scenario) -> None:
    found = scenario.break_even().precision
    assert found is not None
    plain = mean("on-demand-lru")
    for assumed in (0.0, 0.3, 0.5, 0.7, 1.0):
        row = run("noisy-oracle", assumed)
        if abs(row["precision"] - found) > 0.03:  # what the line between the points leaves open
            assert (row["precision"] > found) == (row["latency_mean_ns"] < plain), assumed


def run(name: str, assumed: float) -> dict[str, Any]:
    spec = RunConfig(TRACE, slots=150, format="fp16", steps=300, settings=(("predictor.assumed_precision", assumed),))
    return summary(Scenario(spec).run(name).result)


def mean(name: str) -> int:
    row = summary(Scenario(RunConfig(TRACE, slots=150, format="fp16", steps=300)).run(name).result)
    return int(row["latency_mean_ns"])


def test_precision_of_prefetches_grows_with_what_is_assumed(scenario: Scenario) -> None:
    precisions = [trial.precision for trial in scenario.sweep().trials]
    assert len(precisions) == 6
    assert precisions == sorted(precisions)
    assert precisions[0] < 0.2
    assert precisions[-1] > 0.95


def test_the_curve_passes_through_the_machines_own_break_even(scenario: Scenario) -> None:
    points = curve(scenario, scenario.sweep())
    own = scenario.profile["host_to_device.pinned.bandwidth"]
    assert [point.bandwidth / own for point in points] == pytest.approx(FACTORS)
    assert FACTORS[0] == 1 / 4
    assert FACTORS[-1] == 4
    assert points[len(points) // 2].at == scenario.break_even()
    assert len({point.at.precision for point in points}) > 3


def test_predicting_that_takes_time_must_be_the_more_precise() -> None:
    spec = RunConfig(TRACE, slots=150, format="fp16", steps=100)
    free, slow, hopeless = (Scenario(spec.having({"assumed_predict_ns": ns})).break_even() for ns in (0, 10_000, 10**7))
    assert free.precision is not None
    assert slow.precision is not None
    assert free.precision < slow.precision
    assert (hopeless.precision, "does not pay" in hopeless.reason) == (None, True)


def test_decisions_are_made_once_for_all_machines(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    swept = scenario.sweep()
    monkeypatch.setattr(Scenario, "decide", lambda *_: pytest.fail("decided again"))
    assert scenario.sweep() is swept
    curve(scenario, swept, (1.0,))


def test_everything_resident_leaves_nothing_to_prefetch() -> None:
    found = Scenario(RunConfig(TRACE, slots=768, steps=300)).break_even()
    assert found.precision is None or 0 <= found.precision <= 1
    empty = Scenario(RunConfig(TRACE, slots=150, steps=5))
    assert break_even(empty, empty.sweep()._replace(trials=[])).reason == "nothing is left to prefetch"


@pytest.mark.parametrize(
    ("tier", "name"), [("host-pinned", "pinned"), ("host-pageable", "pageable"), ("nvme", "pinned")]
)
def test_the_link_is_that_of_the_tier(tier: Any, name: str) -> None:
    assert link_name(Scenario(RunConfig(TRACE, slots=9, steps=1, home=Home(tier)))) == f"host_to_device.{name}"


def test_a_trial_is_what_was_decided(scenario: Scenario) -> None:
    for trial in scenario.sweep().trials:
        assert isinstance(trial, Trial)
        table = trial.decisions.since(scenario.warm_up())
        assert trial.precision == table.prefetch_useful / table.prefetch_loads
