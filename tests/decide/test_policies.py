"""The table of named policies, and what can be changed in a row."""

from __future__ import annotations

import pytest
from decide_cases import certain, decisions

from specmoe.errors import InputError
from specmoe.sim.decide.policy import POLICIES, Prefetch, policy
from specmoe.sim.speculate.predictors import PREDICTORS


def test_every_predictor_has_a_policy() -> None:
    assert set(PREDICTORS) <= {row.predictor for row in POLICIES.values()}


@pytest.mark.parametrize("name", POLICIES)
def test_a_row_predicts_if_and_only_if_it_prefetches(name: str) -> None:
    row = POLICIES[name]
    assert row.name == name
    assert row.source
    assert (row.predictor == "none") == (row.prefetch is None)


@pytest.mark.parametrize("name", [name for name in POLICIES if name.startswith("learned-")])
def test_networks_think_after_the_launch(name: str) -> None:
    assert POLICIES[name].predictor == name
    assert POLICIES[name].prefetch == Prefetch(limit=1, depth=1, after_launch=True)


def test_a_row_is_changed_by_dotted_names() -> None:
    changed = policy("lookahead", {"prefetch.after_launch": True, "prefetch.threshold": 0.5, "predictor.depth": 2})
    assert changed.prefetch == Prefetch(1, threshold=0.5, after_launch=True)
    assert changed.predictor_parameters == {"depth": 2}
    assert POLICIES["lookahead"].prefetch == Prefetch(1)
    with pytest.raises(InputError, match="did you mean"):
        policy("lookahead", {"prefetch.after_lunch": True})


def test_parameters_of_an_eviction_are_set_by_name() -> None:
    changed = policy("lookahead", {"eviction": "lfu-decayed", "eviction.half_life": 3})
    assert (changed.eviction, changed.eviction_parameters) == ("lfu-decayed", {"half_life": 3})
    assert POLICIES["lookahead"].eviction_parameters == {}


def test_the_order_of_issue_is_part_of_the_decisions_and_changes_no_other() -> None:
    demand, guesses = [[[0], [1]], [[0], [2]]], {0: certain(1), 2: certain(3)}
    early, late = (decisions(demand, 3, guesses, prefetch=Prefetch(after_launch=late)) for late in (False, True))
    assert (early.after_launch, late.after_launch) == (False, True)
    for one, other in zip((*early.loads, *early.uses), (*late.loads, *late.uses), strict=True):
        assert one.tolist() == other.tolist()
    assert not decisions(demand, 3, guesses).after_launch
