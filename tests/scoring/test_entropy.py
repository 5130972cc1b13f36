"""Entropy of known sources, and Fano's bound in closed form."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmoe.sim.speculate.scoring.ceilings import conditional_entropy, entropy, fano_accuracy


def test_plug_in_entropy_of_known_distributions() -> None:
    assert entropy(np.zeros(9), corrected=False) == 0
    assert entropy(np.arange(8), corrected=False) == pytest.approx(3)
    assert entropy(np.array([0, 0, 1, 2]), corrected=False) == pytest.approx(1.5)


def test_the_correction_is_half_a_nat_a_value_more() -> None:
    values = np.array([0, 0, 1, 2])
    assert entropy(values) - entropy(values, corrected=False) == pytest.approx(2 / (2 * 4) / np.log(2))


def test_a_context_that_tells_all_and_one_that_tells_nothing() -> None:
    values = np.tile(np.arange(4), 50)
    assert conditional_entropy(values, values, corrected=False) == pytest.approx(0)
    assert conditional_entropy(values, np.zeros(200), corrected=False) == pytest.approx(2)
    assert conditional_entropy(values, values // 2, corrected=False) == pytest.approx(1)


def test_the_correction_brings_the_estimate_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(0)
    draws = [rng.integers(16, size=60) for _ in range(200)]
    plug_in, corrected = (np.mean([entropy(one, how) for one in draws]) for how in (False, True))
    assert plug_in < 4 - 0.15
    assert abs(corrected - 4) < 0.25 * abs(plug_in - 4)


def test_the_correction_brings_a_conditional_estimate_nearer_but_not_there() -> None:
    rng = np.random.default_rng(1)
    values, contexts = rng.integers(16, size=2000), rng.integers(100, size=2000)  # independent: 4 bits
    plug_in, corrected = (conditional_entropy(values, contexts, how) for how in (False, True))
    assert plug_in < corrected
    assert 0.1 < 4 - corrected < (4 - plug_in) / 2


@pytest.mark.parametrize("experts", [2, 8, 128])
def test_fano_without_surprise_and_with_nothing_but_surprise(experts: int) -> None:
    assert fano_accuracy(0, experts) == 1
    assert fano_accuracy(-0.1, experts) == 1
    assert fano_accuracy(log2(experts), experts) == pytest.approx(1 / experts, abs=1e-6)
    assert fano_accuracy(log2(experts) + 1, experts) == pytest.approx(1 / experts)


@given(right=st.floats(0.01, 1), experts=st.integers(2, 256))
def test_fano_is_met_where_all_wrong_experts_are_alike(right: float, experts: int) -> None:
    right = max(right, 1 / experts)
    shares = np.array([right] + [(1 - right) / (experts - 1)] * (experts - 1))
    bits = -sum(share * log2(share) for share in shares if share > 0)
    assert fano_accuracy(bits, experts) == pytest.approx(right, abs=1e-4)


@given(st.lists(st.floats(1e-3, 1), min_size=2, max_size=20))
def test_nobody_beats_fano(weights: list[float]) -> None:
    shares = np.array(weights) / sum(weights)
    bits = float(-(shares * np.log2(shares)).sum())
    assert fano_accuracy(bits, len(shares)) >= shares.max() - 1e-6
