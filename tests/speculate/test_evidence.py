"""Several opinions of the same experts become one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_routed import tiny_routed

from specmoe.sim.speculate.online import whole
from specmoe.sim.speculate.predictors.counted import NEVER, Transition, adding_up, combined, log_odds

SEEDS = st.integers(0, 2**32 - 1)


def shares(seed: int, count: int, k: int, experts: int = 16) -> list[NDArray[np.float32]]:
    """Probabilities of experts that sum to k, as many times."""
    scores = np.random.default_rng(seed).dirichlet(np.full(experts, 3), size=count).astype(np.float32)
    return [np.asarray(row, np.float32) for row in adding_up(scores, k)]


def test_log_odds_are_finite_and_odd() -> None:
    assert log_odds(np.array([0.5, 0.8])) == pytest.approx([0, np.log(4)])
    assert log_odds(np.array([0.0, 1.0])) == pytest.approx(np.log(NEVER / (1 - NEVER)) * np.array([1, -1]))


@given(SEEDS)
def test_one_opinion_is_the_answer(seed: int) -> None:
    opinion, popular = shares(seed, 2, 1)
    assert combined([opinion], popular) is opinion


@given(SEEDS, st.integers(2, 4))
def test_opinions_that_add_nothing_leave_what_is_popular(seed: int, k: int) -> None:
    (popular,) = shares(seed, 1, k)
    np.testing.assert_allclose(combined([popular] * k, popular), popular, atol=4e-3)


@given(SEEDS, st.integers(2, 4))
def test_it_is_a_probability_for_k_experts_whatever_the_order(seed: int, k: int) -> None:
    popular, *opinions = shares(seed, k + 1, k)
    found = combined(opinions, popular)
    assert ((found >= 0) & (found <= 1)).all()
    assert found.sum() == pytest.approx(k, rel=0.05)
    np.testing.assert_allclose(combined(opinions[::-1], popular), found, rtol=1e-4)


@given(SEEDS)
def test_what_nobody_has_seen_is_no_candidate(seed: int) -> None:
    popular, one, two = shares(seed, 3, 2)
    for opinion in (popular, one, two):
        opinion[:3] = 0
    assert (combined([one, two], popular)[:3] == 0).all()
    assert (combined([one * 0, two * 0], popular * 0) == 0).all()


def test_by_hand_scores_above_1_give_the_rest_to_the_others() -> None:
    assert adding_up(np.array([3.0, 1, 1]), 2) == pytest.approx([1, 0.5, 0.5], abs=0.05)
    assert adding_up(np.array([0.5, 0]), 2) == pytest.approx([1, 0])


def test_with_one_expert_a_token_transitions_are_as_ever() -> None:
    routed = tiny_routed(60, top_k=1)
    memory = Transition().memory(3, 16)
    step = whole(routed)
    memory.learn(step)
    wider = memory.popular.share[memory.target].astype(np.float32)
    np.testing.assert_array_equal(memory.scores(step), memory.following(step, 0, wider))
