"""What a fit says of its certainty, on slopes made up for it."""

from __future__ import annotations

import numpy as np
import pytest

from specmoe.validate.fit import covariance, unresolved


def test_columns_at_right_angles_are_told_apart() -> None:
    slopes = np.diag([5.0, 0.01, 3.0])  # sizes do not matter
    condition, warnings = unresolved(slopes, ["a", "b", "c"])
    assert condition == pytest.approx(1)
    assert warnings == ()


def test_a_column_of_nothing_is_named() -> None:
    condition, warnings = unresolved(np.array([[1.0, 0.0], [2.0, 0.0]]), ["a", "b"])
    assert condition == np.inf
    assert warnings == ("b: affects no cell: unchanged",)


def test_nothing_shows() -> None:
    condition, warnings = unresolved(np.zeros((3, 2)), ["a", "b"])
    assert condition == np.inf
    assert len(warnings) == 2


def test_two_that_are_alike_are_named_and_the_third_is_not() -> None:
    one, other = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0, 0.0])
    condition, warnings = unresolved(np.stack([one, other, 2 * one + [0, 0, 1e-3, 0]], axis=1), ["a", "b", "c"])
    assert condition > 1000
    assert len(warnings) == 1
    assert warnings[0].startswith("a, c: these cells hardly separate them (condition number ")


def test_three_whose_sum_is_all_that_shows() -> None:
    rng = np.random.default_rng(0)
    two = rng.standard_normal((20, 2))
    slopes = np.column_stack([two, two.sum(axis=1) + 1e-4 * rng.standard_normal(20), rng.standard_normal(20)])
    _, warnings = unresolved(slopes, ["a", "b", "c", "d"])
    assert len(warnings) == 1
    assert warnings[0].startswith("a, b, c: ")


@pytest.mark.parametrize(("common", "own"), [(0.01, 0.0), (0.0, 0.1), (0.01, 0.1)])
def test_covariance_is_that_of_many_fits(common: float, own: float) -> None:
    """One constant, 6 cells of 100 steps, errors of whole cells and of steps: what the squares say is what happens."""
    rng, slope = np.random.default_rng(0), np.append(np.full(100, 0.1), 3.0)  # steps weigh 1 / sqrt(100), the mean 3
    slopes = np.tile(slope, 6)[:, None]
    found, said = [], []
    for _ in range(2000):
        steps = common * rng.standard_normal((6, 1)) + own * rng.standard_normal((6, 100))
        residuals = np.column_stack([steps / 10, 3 * steps.mean(axis=1)]).reshape(-1)
        found.append(slopes[:, 0] @ residuals / (slopes[:, 0] @ slopes[:, 0]))
        said.append(covariance(steps.mean(axis=1) - found[-1], 10, slopes)[0, 0])
    assert np.mean(said) == pytest.approx(np.var(found), rel=0.1)


def test_covariance_of_fewer_cells_than_constants_is_finite() -> None:
    found = covariance(np.array([0.1]), 10, np.ones((2, 3)))
    assert found.shape == (3, 3)
    assert np.isfinite(found).all()
