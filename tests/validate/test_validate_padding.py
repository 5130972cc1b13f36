"""Sizes for which kernels are captured: few, and never less than what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmoe.hwprofiles.launches import CONTEXT_STEP, padded, whole_context


@pytest.mark.parametrize(
    ("tokens", "size"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (866, 1024), (1024, 1024), (1025, 2048)]
)
def test_sizes_by_hand(tokens: int, size: int) -> None:
    assert padded(np.array([tokens], np.int32)).tolist() == [size]


@given(tokens=st.lists(st.integers(1, 1 << 40), max_size=20))
def test_the_least_power_of_two_that_holds_them(tokens: list[int]) -> None:
    sizes = padded(np.array(tokens, np.int64)).tolist()
    assert sizes == [1 << (count - 1).bit_length() for count in tokens]


@pytest.mark.parametrize("exponent", range(40))
def test_powers_of_two_stay_and_one_more_is_doubled(exponent: int) -> None:
    power = 1 << exponent
    assert padded(np.array([power, power + 1])).tolist() == [power, 2 * power]


def test_no_tokens_at_all() -> None:
    assert padded(np.zeros(0, np.int32)).tolist() == []


@pytest.mark.parametrize(("positions", "whole"), [(1, 32), (31, 32), (32, 32), (33, 64), (256, 256)])
def test_contexts_by_hand(positions: int, whole: int) -> None:
    assert CONTEXT_STEP == 32
    assert whole_context(positions) == whole


@given(positions=st.integers(1, 1 << 40))
def test_a_context_is_the_least_multiple_that_holds_it(positions: int) -> None:
    whole = whole_context(positions)
    assert whole % CONTEXT_STEP == 0
    assert 0 <= whole - positions < CONTEXT_STEP
