"""From scores to candidates, and which layer a guess is about."""

from __future__ import annotations

import numpy as np
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from specmoe.sim.speculate.predictor import best_of, targets


def test_best_first_and_ties_to_the_lower() -> None:
    found = best_of(np.array([[0.25, 0.5, 0.0, 0.5, 0.25]]), 3)
    assert found.experts.tolist() == [[1, 3, 0]]
    assert found.confidence.tolist() == [[0.5, 0.5, 0.25]]


def test_zero_is_no_candidate() -> None:
    found = best_of(np.array([0.0, 0.125, 0.0, 0.0]), 3)
    assert found.experts.tolist() == [1, -1, -1]
    assert found.confidence.tolist() == [0.125, 0, 0]


def test_no_wider_than_there_are_experts_and_no_surer_than_sure() -> None:
    found = best_of(np.array([0.5, 1.5, -1.0]), 8)
    assert found.experts.tolist() == [1, 0, -1]
    assert found.confidence.tolist() == [1, 0.5, 0]


@examples(100)
@given(scores=st.lists(st.sampled_from([0.0, 1e-6, 0.1, 0.3, 0.30001, 1.0]), min_size=1, max_size=40), data=st.data())
def test_against_plain_sorting(scores: list[float], data: st.DataObject) -> None:
    width = data.draw(st.integers(1, len(scores)))
    wanted = sorted((expert for expert, score in enumerate(scores) if score), key=lambda e: (-scores[e], e))[:width]
    found = best_of(np.array(scores), width).experts.tolist()
    assert found == wanted + [-1] * (width - len(wanted))


def test_guesses_wrap_into_later_steps() -> None:
    layer, wraps = targets(3, 4)
    assert layer.tolist() == [[1, 2, 0, 1], [2, 0, 1, 2], [0, 1, 2, 0]]
    assert wraps.tolist() == [[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 2]]
