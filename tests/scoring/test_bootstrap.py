"""Intervals: closed forms, and how often they hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from specmoe.sim.speculate.scoring.accuracy import interval


def test_of_a_constant_it_is_a_point() -> None:
    found = interval(np.array([3, 6, 9]), np.array([4, 8, 12]), np.random.default_rng(0))
    assert found == pytest.approx([0.75, 0.75])


def test_of_one_sequence_it_is_a_point() -> None:
    assert interval(np.array([1]), np.array([4]), np.random.default_rng(0)) == [0.25, 0.25]


def test_without_targets_there_is_none() -> None:
    assert interval(np.zeros(3, int), np.zeros(3, int), np.random.default_rng(0)) is None


def test_sequences_without_targets_do_no_harm() -> None:
    found = interval(np.array([0, 0, 1]), np.array([0, 0, 2]), np.random.default_rng(0))
    assert found == [0.5, 0.5]


def test_same_generator_same_interval() -> None:
    hits, targets = np.array([1, 5, 2, 8]), np.array([10, 10, 10, 10])
    one, two = (interval(hits, targets, np.random.default_rng(7)) for _ in range(2))
    assert one == two
    assert one != interval(hits, targets, np.random.default_rng(8), resamples=50)


def test_95_percent_of_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        hits = rng.binomial(20, 0.3, size=60)
        low, high = interval(hits, np.full(60, 20), rng, resamples=300) or (1, 0)
        held += low <= 0.3 <= high
    assert 180 <= held <= 199  # 190 expected; 3.2 standard deviations


def test_tokens_of_a_sequence_that_are_alike_make_it_wider() -> None:
    rng = np.random.default_rng(2)
    targets = np.full(100, 50)
    apart = interval(rng.binomial(50, 0.5, size=100), targets, rng) or [0, 0]
    alike = interval(50 * rng.binomial(1, 0.5, size=100), targets, rng) or [0, 0]
    assert alike[1] - alike[0] > 4 * (apart[1] - apart[0])  # sqrt(50) is about 7
