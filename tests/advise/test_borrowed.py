"""What routing of another model costs an answer, as it was judged on gpt-oss-20b."""

import json

import pytest
from advise_cases import setting
from doc_pages import builder_of

from specmoe.sim.advise.levers import judged, judged_of, rate_with
from specmoe.sim.advise.search import Trial, searched
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES


def trial(policy: str = "on-demand-lru", slots: int = 10) -> Trial:
    """A step of 10 ms, of which it waits 4 for loads and 2 for the CPU."""
    row = {"steps": 5, "stall_ns": 20_000_000, "cpu_stall_ns": 10_000_000, "latency_mean_ns": 10_000_000}
    return Trial(RunConfig("none", policy, slots=slots), row | {"tokens_per_second": 100.0})


def test_waits_change_as_misses_do() -> None:
    assert rate_with(trial(), 1) == 100
    assert rate_with(trial(), 0.5) == pytest.approx(100 * 10 / 7)
    assert rate_with(trial(), 0) == pytest.approx(100 * 10 / 4)


def test_between_judged_shares_of_slots_misses_are_between_theirs() -> None:
    for kind in ("borrowed", "drawn"):
        less, between, more = (judged("static", share, kind) for share in (0.3, 0.35, 0.4))  # type: ignore[arg-type]
        assert between.own == pytest.approx((less.own + more.own) / 2)
        assert between.other == pytest.approx((less.other + more.other) / 2)
        assert more.ratio < less.ratio < 1


def test_a_policy_that_was_not_judged_is_taken_as_an_lru() -> None:
    assert judged("lookahead", 0.5, "drawn") == judged("on-demand-lru", 0.5, "drawn")
    assert judged("lookahead", 0.5, "drawn").policy == "on-demand-lru"


def test_only_routing_that_is_not_the_models_own_is_judged() -> None:
    own, drawn = setting(), setting(drawn=True)
    assert judged_of(own, trial()) is None
    assert judged_of(drawn, trial("gpu-only", drawn.keys)) is None
    assert judged_of(drawn, trial(slots=drawn.keys // 2)) == judged("on-demand-lru", 0.5, "drawn")


def test_every_practical_policy_was_judged_unless_the_trace_lacks_what_it_reads() -> None:
    for name in searched(False, True):
        for kind in ("borrowed", "drawn"):
            found = judged(name, 0.5, kind)  # type: ignore[arg-type]
            assert 0 < found.own <= found.ratio <= 1.2
            assert found.policy == name or POLICIES[name].predictor == "lookahead"


def test_the_page_says_what_was_judged() -> None:
    builder = builder_of("decoder")
    text = builder.PAGE.read_text()
    assert builder.filled(text) == text
    for row in json.loads((builder.RUN / "judged.json").read_text()):
        most = 0.155 if row["policy"] == "lru-cpu" else 0.07  # as the page says
        assert -0.02 < row["judged_ns"] / row["own_ns"] - 1 < most, "the end of the range is where the own routing is"
