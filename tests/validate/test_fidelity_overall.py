"""All cells together: figures by hand, the order of policies, and targets that can be missed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_cells import cell, judged

from specmoe.errors import InputError
from specmoe.validate.fidelity import TARGETS, failed, kendall, overall
from specmoe.validation_table import CellFidelity, Overall

FLAT = "correlation of steps not shown: they differ by no more than noise in every cell"
GOOD = Overall(10, 0.01, 0.03, 0.04, "w", 0.0, 0.0, 0.0, 0.97, 40, 0.99, 9)


def ordered(*means: tuple[float, float], spread: float = 0.0, slots: int = 154) -> list[CellFidelity]:
    """Cells of one group and slots by (measured, simulated) mean."""
    found = []
    for place, (measured, simulated) in enumerate(means):
        equal = judged(cell(f"policy-{place}", slots), measured, spread=spread)
        found.append(dataclasses.replace(equal, simulated=equal.simulated._replace(mean_ns=simulated)))
    return found


def test_by_hand() -> None:
    errors = [0.01, -0.03, 0.02, -0.005]
    cells = [judged(cell(slots=slots), 1000, error) for slots, error in enumerate(errors)]
    found = overall(cells)
    assert found.cells == 4
    assert found.median_abs_error == pytest.approx(0.015)
    assert found.p95_abs_error == pytest.approx(0.02 + 0.85 * 0.01)  # between the third and the fourth of 4
    assert found.worst_abs_error == pytest.approx(0.03)
    assert found.worst_cell == "switch-base-128/decode/fp16/b1/lookahead/1"
    assert (found.mean_compute_error, found.mean_stall_error) == (0, 0)
    assert found.mean_host_error == pytest.approx(np.mean(errors))
    assert (found.kendall_tau, found.kendall_pairs) == (None, 0)


def test_correlation_is_the_median_of_cells_that_have_one() -> None:
    cells = [judged(cell(), correlation=value) for value in (0.9, None, 1.0, None, 0.98)]
    assert (overall(cells).median_step_correlation, overall(cells).correlated_cells) == (0.98, 3)
    flat = overall([judged(cell(), correlation=None)])
    assert (flat.median_step_correlation, flat.correlated_cells) == (None, 0)


def test_no_cells() -> None:
    with pytest.raises(InputError, match="no cells"):
        overall([])


def test_kendall_by_hand() -> None:
    # Measured 1 < 2 < 3 < 4; simulated swaps the last two: 5 of 6 pairs are right.
    assert kendall(ordered((1, 10), (2, 20), (3, 40), (4, 30))) == (pytest.approx(4 / 6), 6)
    assert kendall(ordered((1, 4), (2, 3), (3, 2))) == (-1, 3)
    assert kendall(ordered((1, 1))) == (None, 0)


def test_what_the_simulation_holds_to_be_equal_is_half_right() -> None:
    assert kendall(ordered((1, 5), (2, 5), (3, 6))) == (pytest.approx(2 / 3), 3)


def test_ties_within_the_spread_are_left_out() -> None:
    # 100 and 104 differ by 4; 4 % of 104 is more, 3.8 % is less.
    wrong = ((100.0, 2.0), (104.0, 1.0))
    assert kendall(ordered(*wrong, spread=0.04)) == (None, 0)
    assert kendall(ordered(*wrong, spread=0.038)) == (-1, 1)
    one, other = ordered(*wrong)
    assert kendall([one, dataclasses.replace(other, spread=0.04)]) == (None, 0)
    assert kendall([dataclasses.replace(one, spread=0.041), other]) == (None, 0)
    assert kendall(ordered((100, 1), (100, 2))) == (None, 0)
    fast, slow = ordered((100, 1), (125, 2))
    assert kendall([dataclasses.replace(fast, spread=0.25), slow]) == (1, 1), "no less than the spread"


def test_policies_are_compared_on_the_same_slots_of_the_same_group() -> None:
    one, other = ordered((1, 2), (2, 1))
    assert kendall([one, other]) == (-1, 1)
    elsewhere = dataclasses.replace(other, cell=dataclasses.replace(other.cell, slots=155))
    assert kendall([one, elsewhere]) == (None, 0)
    assert kendall([one, dataclasses.replace(other, cell=dataclasses.replace(other.cell, batch=2))]) == (None, 0)


def test_pairs_of_all_groups_count_alike() -> None:
    right = ordered((1, 1), (2, 2), (3, 3), slots=1)
    wrong = ordered((1, 2), (2, 1), slots=2)
    assert kendall([*right, *wrong]) == (pytest.approx((3 - 1) / 4), 4)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=2, max_size=8))
def test_kendall_counts_pairs(means: list[tuple[int, int]]) -> None:
    tau, pairs = kendall(ordered(*((float(one), float(other)) for one, other in means)))
    score = count = 0
    for place, (measured, simulated) in enumerate(means):
        for measured_too, simulated_too in means[:place]:
            count += measured != measured_too
            score += np.sign(measured - measured_too) * np.sign(simulated - simulated_too)
    assert pairs == count
    assert tau == (pytest.approx(score / count) if count else None)


def test_targets_are_those_of_the_design() -> None:
    assert TARGETS == {
        "median_abs_error": 0.01,
        "worst_abs_error": 0.04,
        "median_step_correlation": 0.99,
        "kendall_tau": 0.97,
    }


def test_what_just_reaches_the_targets_has_not_failed() -> None:
    assert failed(GOOD) == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"median_abs_error": 0.0101}, "median error of the mean step 1.01 %: at most 1.00 % expected"),
        ({"worst_abs_error": 0.043}, "worst error of the mean step 4.30 % in w: at most 4.00 % expected"),
        ({"median_step_correlation": 0.9876}, "correlation of steps 0.9876, median of 9 cells: at least 0.99 expected"),
        ({"median_step_correlation": None}, FLAT),
        ({"kendall_tau": 0.95}, "order of the policies: Kendall tau 0.950 of 40 pairs: at least 0.97 expected"),
        ({"kendall_tau": None}, "order of the policies not shown: no two of them differ by more than their spread"),
    ],
)
def test_each_target_can_be_missed(changes: dict[str, Any], told: str) -> None:
    assert failed(dataclasses.replace(GOOD, **changes)) == (told,)


def test_all_targets_can_be_missed_at_once() -> None:
    bad = dataclasses.replace(GOOD, median_abs_error=1, worst_abs_error=1, median_step_correlation=0.0, kendall_tau=-1)
    assert len(failed(bad)) == len(TARGETS)


def test_without_held_out_cells_nothing_is_shown() -> None:
    assert failed(None) == ("no cell was held out: nothing is shown",)
