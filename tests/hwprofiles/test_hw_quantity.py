"""Numbers with unit, source and reference."""

from __future__ import annotations

from typing import Any

import pytest
from hw_tables import quantity
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError, Place
from specmoe.hwprofiles.quantity import EVIDENCE, read_quantity, weakest
from specmoe.units import UNITS, Dimension, shown

PLACE = Place("p.toml", "some.number")


@pytest.mark.parametrize(
    ("value", "unit", "dimension", "base"),
    [
        (1.5, "us", "ns", 1500),
        (2, "ms", "ns", 2_000_000),
        (1, "s", "ns", 10**9),
        (0, "us", "ns", 0),
        (0.0745, "ms", "ns", 74_500),
        (24, "GiB", "B", 24 * 2**30),
        (27, "MiB", "B", 28_311_552),
        (3, "GB", "B", 3 * 10**9),
        (26.35, "GB/s", "B/s", 26.35e9),
        (2, "TB/s", "B/s", 2e12),
        (1, "GiB/s", "B/s", 2**30),
        (19.5, "TFLOP/s", "flop/s", 19.5e12),
        (7.5, "GFLOP", "flop", 7.5e9),
        (0.5, "1", "1", 0.5),
        (512, "token", "token", 512),
    ],
)
def test_units_end_at_the_edge(value: float, unit: str, dimension: Dimension, base: float) -> None:
    read = read_quantity(PLACE, quantity(value, unit), dimension)
    assert read.value == pytest.approx(base, rel=1e-15)
    assert read.unit == dimension
    assert isinstance(read.value, int) == isinstance(base, int) or dimension in ("B/s", "1")


def test_times_are_whole_nanoseconds() -> None:
    assert read_quantity(PLACE, quantity(1.23456, "us"), "ns").value == 1235
    assert isinstance(read_quantity(PLACE, quantity(1.23456, "us"), "ns").value, int)


@pytest.mark.parametrize(
    ("source", "evidence"),
    [("measured", "measured"), ("derived", "fitted"), ("published", "published"), ("assumed", "assumed")],
)
def test_what_a_source_allows_to_claim(source: str, evidence: str) -> None:
    assert read_quantity(PLACE, quantity(1, "us", source), "ns").evidence == evidence


def test_order_of_evidence() -> None:
    assert EVIDENCE == ("measured", "fitted", "published", "extrapolated", "assumed")
    assert weakest(()) == "measured"
    assert weakest(("fitted", "extrapolated", "published")) == "extrapolated"


@given(st.lists(st.sampled_from(EVIDENCE), min_size=1), st.sampled_from(EVIDENCE))
def test_more_inputs_never_make_it_stronger(some: Any, more: Any) -> None:
    assert EVIDENCE.index(weakest([*some, more])) >= EVIDENCE.index(weakest(some))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (5, "p.toml: some.number: 5: a table expected"),
        ([1], "p.toml: some.number: [1]: a table expected"),
        ({"value": 1, "unit": "us", "source": "measured"}, "p.toml: some.number.ref: missing"),
        ({"value": 1, "unit": "us", "ref": "x"}, "p.toml: some.number.source: missing"),
        ({"value": 1, "source": "measured", "ref": "x"}, "p.toml: some.number.unit: missing"),
        ({"unit": "us", "source": "measured", "ref": "x"}, "p.toml: some.number.value: missing"),
        (quantity(1, "us") | {"uint": 1}, "p.toml: some.number.uint: unknown field: did you mean 'unit'?"),
        (quantity(1, "us") | {"x": 1}, "x: unknown field: one of high, low, ref, source, unit, value expected"),
        (quantity(1, "usec"), "some.number.unit: 'usec': unknown unit: did you mean 'us'?"),
        (quantity(1, "fortnight"), "unknown unit: one of ms, ns, s, us expected"),
        (quantity(1, "GB/s"), "unit: 'GB/s' is not a time: one of ns, us, ms, s expected"),
        (quantity(1, "us") | {"unit": 3}, "unit: 3: unknown unit"),
        (quantity(1, "us", "guessed"), "source: 'guessed': one of assumed, derived, measured, published expected"),
        (quantity(1, "us", "measurd"), "source: 'measurd': did you mean 'measured'?"),
        (quantity(1, "us") | {"source": 1}, "source: 1: one of"),
        (quantity(1, "us", ref=" "), "ref: ' ': a text that says who, where, when or how expected"),
        (quantity(1, "us") | {"ref": 1}, "ref: 1: a text"),
        (quantity("1", "us"), "value: '1': a number expected"),
        (quantity(True, "us"), "value: True: a number expected"),
        (quantity(-1, "us"), "value: -1: a finite number, 0 or more, expected"),
        (quantity(float("nan"), "us"), "value: nan: a finite number"),
        (quantity(float("inf"), "us"), "value: inf: a finite number"),
        (quantity(0.1, "ns"), "value: 0.1: at least 1 ns expected"),
    ],
)
def test_what_is_no_quantity(table: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_quantity(PLACE, table, "ns")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dimension", ["B", "B/s", "flop/s", "flop", "1", "token"])
def test_only_a_time_may_be_zero(dimension: Dimension) -> None:
    unit = next(name for name, known in UNITS.items() if known.dimension == dimension)
    with pytest.raises(InputError, match="more than 0"):
        read_quantity(PLACE, quantity(0, unit), dimension)


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0, "ns", ("0", "ns")),
        (999, "ns", ("999", "ns")),
        (74_500, "ns", ("74.5", "us")),
        (2_000_000_000, "ns", ("2", "s")),
        (28_311_552, "B", ("27", "MiB")),
        (26.35e9, "B/s", ("26.35", "GB/s")),
        (19.5e12, "flop/s", ("19.5", "TFLOP/s")),
        (0.5, "1", ("0.5", "")),
    ],
)
def test_for_people(value: float, dimension: Dimension, text: tuple[str, str]) -> None:
    assert shown(value, dimension) == text
