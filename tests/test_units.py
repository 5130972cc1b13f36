"""Numbers with units, as people write them; and names that are nearly right."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError, hint
from specmoe.units import LIMITS, SHOWN, UNITS, Dimension, exact, factor, quantity, scalar, whole, within


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("8GiB", "B", 8 << 30),
        ("500 MB", "B", 500_000_000),
        ("1.5gib", "B", 3 << 29),
        (".5e3kB", "B", 500_000),
        ("64 k", "B", 64_000),
        ("8G", "B", 8 * 10**9),
        ("8Gi", "B", 8 << 30),
        (" 7 B ", "B", 7),
        ("2TiB", "B", 2 << 40),
        ("26.2GB/s", "B/s", 26.2e9),
        ("839 GB/s", "B/s", 839e9),
        ("1TB/s", "B/s", 1e12),
        ("2.7us", "ns", 2700),
        ("2.7\N{MICRO SIGN}s", "ns", 2700),
        ("0ms", "ns", 0),
        ("5 TFLOPS", "flop/s", 5e12),
        ("5TFLOP/s", "flop/s", 5e12),
        ("1PFLOPS", "flop/s", 1e15),
        ("100tok/s", "token/s", 100),
        ("20 tokens/s", "token/s", 20),
        ("0.8", "1", 0.8),
        ("16", "1", 16),
    ],
)
def test_a_quantity(text: str, dimension: Dimension, value: float) -> None:
    found = quantity("here", "x", text, dimension)
    assert found == pytest.approx(value)
    assert isinstance(found, int) == (dimension in ("B", "ns"))


@pytest.mark.parametrize(
    ("text", "dimension", "told"),
    [
        ("26.4", "B/s", "here: x is in bytes/s: e.g. 26.2GB/s"),
        ("4", "B", "here: x is in bytes: did you mean 4GiB?"),
        ("8589934592", "B", "here: x is in bytes: did you mean 8589934592B?"),
        ("0", "B", "here: x is in bytes: e.g. 8GiB"),
        ("0", "ns", "here: x is in units of time: e.g. 2.7us"),
        ("8Gb", "B", "here: Gb means bits: bytes expected, e.g. 8GiB"),
        ("8 Gbit/s", "B/s", "here: Gbit/s means bits: bytes expected, e.g. 26.2GB/s"),
        ("8 apples", "B", "here: apples is no unit of x, which is in bytes: e.g. 8GiB"),
        ("8us", "B", "here: us is no unit of x, which is in bytes: e.g. 8GiB"),
        ("8GB", "1", "here: GB is no unit of x, which is in no unit: e.g. 0.8"),
        ("1e400GiB", "B", "here: a finite number from 1B to 1.0486e+06GiB expected"),
        ("-1GiB", "B", "here: a finite number from 1B to 1.0486e+06GiB expected"),
        ("1e-300GB/s", "B/s", "here: a finite number from 1MB/s to 1000TB/s expected"),
        ("0.4ns", "ns", "here: at least 1 ns expected"),
        ("9" * 5000, "1", "here: a finite number from 0 to 1e+09 expected"),
        *((text, "B", "here: bytes such as 8GiB expected") for text in ("", "GiB", ".GiB", "1.2.3GiB", "nan", "inf")),
        ("much", "1", "here: a number expected"),
    ],
)
def test_no_quantity(text: str, dimension: Dimension, told: str) -> None:
    with pytest.raises(InputError) as caught:
        quantity("here", "x", text, dimension)
    assert str(caught.value) == told


@given(st.sampled_from(sorted(LIMITS)), st.floats(0, 1), st.integers(0, 3))
def test_what_is_written_is_read_back(dimension: Dimension, share: float, digits: int) -> None:
    low = max(LIMITS[dimension].least, 2.0)
    number = min(round(low * (LIMITS[dimension].most / low) ** share, digits), LIMITS[dimension].most)
    value = within("here", number, dimension)
    assert quantity("here", "x", exact(value, dimension), dimension) == value


@given(st.text(max_size=12), st.sampled_from(sorted(LIMITS)))
def test_any_text_is_a_number_within_limits_or_one_line(text: str, dimension: Dimension) -> None:
    try:
        found = quantity("here", "x", text, dimension)
    except InputError:
        return
    assert LIMITS[dimension].least <= found <= LIMITS[dimension].most


def test_examples_are_right() -> None:
    for dimension, limits in LIMITS.items():
        assert quantity("here", "x", limits.example, dimension) > 0
    assert all(UNITS[name].dimension == dimension for dimension, names in SHOWN.items() for name in names)


@pytest.mark.parametrize("value", [True, "8", None, math.nan, math.inf, 1.5])
def test_no_whole_numbers(value: Any) -> None:
    with pytest.raises(InputError, match=r"^n: a whole number expected"):
        whole("n", value)


def test_whole_numbers_have_limits() -> None:
    assert (whole("n", 3), whole("n", 4.0)) == (3, 4)
    for value, told in ((0, "at least 1"), (11, "at most 10"), (10**400, "at most 10"), (1e300, "at most 10")):
        with pytest.raises(InputError, match=f"^n: {told} expected"):
            whole("n", value, 1, 10)


def test_factors() -> None:
    assert (factor("f", 2), factor("f", "0.5")) == (2, 0.5)
    for value in (0, -1, 1e-300, 1e300, math.nan, math.inf, "1e999", True, "2x"):
        with pytest.raises(InputError, match=r"^f: "):
            factor("f", value)


def test_scalars() -> None:
    assert [scalar(text) for text in ("1", "1.5", "true", "x", "9" * 5000)] == [1, 1.5, True, "x", math.inf]


def test_hints() -> None:
    formats = ("fp32", "fp16", "bf16", "int8", "int4")
    assert hint("FP16", formats) == "did you mean 'fp16'?"
    assert hint("zz", formats) == "one of bf16, fp16, fp32, int4, int8 expected"
    many = [f"name.{number}" for number in range(60)]
    assert hint("pcie", [*many, "x.pcie.generation"]) == "the nearest of 61 names are x.pcie.generation"
    assert len(hint("q", many)) < 120
