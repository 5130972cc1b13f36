"""Reliability curves by hand."""

from __future__ import annotations

import numpy as np
import pytest
from test_accuracy import FIVE, guess_of, routing

from specmoe.sim.speculate.predictor import Guess
from specmoe.sim.speculate.scoring.accuracy import calibration, curve


def test_two_bins_on_paper() -> None:
    found = curve(np.array([0.12, 0.18, 0.85, 0.95, 0.85]), np.array([False, True, True, True, False]))
    assert [point["count"] for point in found.reliability] == [2, 2, 1]
    assert [point["accuracy"] for point in found.reliability] == [0.5, 0.5, 1]
    assert [point["confidence"] for point in found.reliability] == pytest.approx([0.15, 0.85, 0.95])
    assert found.ece == pytest.approx((2 * 0.35 + 2 * 0.35 + 1 * 0.05) / 5)


def test_the_edges_of_bins() -> None:
    found = curve(np.array([0.0, 0.5, 1.0]), np.array([False, True, True]))
    assert [point["count"] for point in found.reliability] == [1, 1, 1]
    assert found.ece == pytest.approx(0.5 / 3)


def test_who_is_right_as_often_as_sure_has_no_error() -> None:
    assert curve(np.full(10, 0.3), np.arange(10) < 3).ece == pytest.approx(0)


def test_a_confidence_comes_true_with_any_expert_that_is_used() -> None:
    routed = routing([[[0, 1], [2, 3]]], [0])
    nobody = [[-1]]
    assert calibration(guess_of([[[[3]], nobody]]), routed).reliability == [
        {"confidence": 0.5, "accuracy": 1.0, "count": 1}
    ]


def test_where_there_is_no_candidate_there_is_no_confidence() -> None:
    found = calibration(guess_of([[[[2]], [[0]]]] + [[[[-1]], [[0]]]] * 4), FIVE)
    assert sum(point["count"] for point in found.reliability) == 1


@pytest.mark.parametrize("width", [0, 2])
def test_without_confidences_there_is_nothing_to_say(width: int) -> None:
    experts = np.zeros((5, 2, 1, width), np.int16)
    assert calibration(Guess(experts, np.zeros(experts.shape, np.float32)), FIVE) is None


def test_a_model_of_one_layer_has_no_next_layer() -> None:
    assert calibration(guess_of(np.zeros((2, 1, 1, 1))), routing([[[0]], [[1]]], [0, 0])) is None
