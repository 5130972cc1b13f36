"""Learning as it goes: cold and warm starts, resets, and not learning at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from routing_by_hand import by_hand, candidates, confidence, predict
from tiny_routed import tiny_routed

from specmoe.sim.speculate.predictor import Guess, Routed
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.traces.workload import build

TRAIN = by_hand([[[7]]])
FIVE_STEPS = by_hand([[[1]], [[1]], [[2]], [[3]], [[2]]], sequence=[0, 0, 1, 1, 1])

HALVES, THIRDS, QUARTERS = [0.5, 0.5], [0.667, 0.333], [0.5, 0.25, 0.25]
OPTIONS: list[tuple[dict[str, Any], list[list[int]], list[list[float]]]] = [
    ({}, [[7], [1, 7], [1, 7], [1, 2, 7], [1, 2, 3, 7]], [[1], HALVES, THIRDS, QUARTERS, [0.4, 0.2, 0.2, 0.2]]),
    ({"warm": False}, [[], [1], [1], [1, 2], [1, 2, 3]], [[], [1], [1], THIRDS, QUARTERS]),
    ({"reset": "sequence"}, [[7], [1, 7], [7], [2, 7], [2, 3, 7]], [[1], HALVES, [1], HALVES, [0.333] * 3]),
    ({"reset": "sequence", "warm": False}, [[], [1], [], [2], [2, 3]], [[], [1], [], [1], HALVES]),
    ({"online": False}, [[7]] * 5, [[1]] * 5),
    ({"online": False, "warm": False}, [[]] * 5, [[]] * 5),
]


@pytest.mark.parametrize(("options", "experts", "sure"), OPTIONS, ids=str)
def test_starts_and_resets_on_five_steps(options: dict[str, Any], experts: Any, sure: Any) -> None:
    table = predict("frequency", FIVE_STEPS, TRAIN, **options)
    assert candidates(table) == experts
    assert confidence(table) == sure


def test_the_popularity_of_a_sequence_is_cold_and_reset() -> None:
    assert candidates(predict("frequency-sequence", FIVE_STEPS, TRAIN)) == [[], [1], [], [2], [2, 3]]


LEARNERS = [
    "previous_step",
    "frequency",
    "transition",
    "transition-2",
    "adaptive",
    "activation_match",
    "token_identity",
]
every_learner = pytest.mark.parametrize("name", LEARNERS)


def by_row(routed: Routed, guess: Guess) -> Guess:
    """In the order of the trace instead of the workload."""
    order = np.argsort(routed.workload.rows)
    return Guess(guess.experts[order], guess.confidence[order])


@every_learner
@pytest.mark.parametrize("phase", ["decode", "encode"])
@pytest.mark.parametrize("warm", [True, False])
def test_with_resets_it_does_not_matter_who_runs_beside(name: str, phase: Any, warm: bool) -> None:
    routed, train = (tiny_routed(40, seed=seed, mean_length=8, phase=phase) for seed in (0, 1))
    batched = routed._replace(workload=build(routed.block, routed.workload.meta, 3))
    predictor = make_predictor(name, {"depth": 3, "reset": "sequence", "warm": warm})
    predictor.fit(train)
    alone, together = (by_row(this, predictor.guess(this)) for this in (routed, batched))
    np.testing.assert_array_equal(alone.experts, together.experts)
    np.testing.assert_allclose(alone.confidence, together.confidence, atol=1e-6)


@every_learner
@pytest.mark.parametrize("phase", ["decode", "encode"])
def test_cold_starts_do_not_see_the_train_split(name: str, phase: Any) -> None:
    routed, train = (tiny_routed(40, seed=seed, mean_length=8, phase=phase) for seed in (0, 1))
    fitted, plain = (make_predictor(name, {"warm": warm}) for warm in (False, True))
    fitted.fit(train)
    for one, two in zip(fitted.guess(routed), plain.guess(routed), strict=True):
        np.testing.assert_array_equal(one, two)
    assert fitted.state_bytes == 0


@every_learner
def test_warm_starts_hold_what_they_learnt(name: str) -> None:
    predictor = make_predictor(name)
    predictor.fit(tiny_routed(40))
    assert predictor.state_bytes > 0


@pytest.mark.parametrize("name", ["frequency", "frequency-decayed", "transition", "transition-2", "token_identity"])
def test_learning_all_at_once_is_learning_step_by_step(name: str) -> None:
    seen, probe = tiny_routed(60, seed=0, mean_length=6), tiny_routed(10, seed=1)
    warm, stepwise = (make_predictor(name, {"depth": 3}) for _ in range(2))
    warm.fit(seen)
    both = seen.block._make(np.concatenate(pair) for pair in zip(seen.block, probe.block, strict=True))
    shifted = both._replace(sequence=np.concatenate([seen.block.sequence, probe.block.sequence + 1000]))
    later = stepwise.guess(Routed(build(shifted, seen.workload.meta), shifted))
    at_once = warm.guess(probe)
    np.testing.assert_array_equal(at_once.experts, later.experts[60:])
    np.testing.assert_allclose(at_once.confidence, later.confidence[60:], atol=1e-5)
