"""Time against size."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
from hw_tables import points
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError, Place
from specmoe.hwprofiles.curves import (
    Interpolated,
    Line,
    Points,
    Range,
    extrapolation,
    read_points,
    require_distinct,
    require_rising,
)

PLACE = Place("p.toml", "copy.points")
MEASURED = Points((100, 200, 400), (1000, 1500, 3500), "B", "measured", "by hand")

amounts = st.integers(0, 10**12)
lines = st.builds(Line, st.integers(0, 10**7), st.floats(1, 1e13))


@st.composite
def measured(draw: Any) -> Interpolated:
    steps = draw(st.lists(st.tuples(st.integers(1, 10**8), st.integers(0, 10**8)), min_size=1, max_size=6))
    sizes, times = (tuple(accumulate(column)) for column in zip(*steps, strict=True))
    return Interpolated(draw(st.integers(0, times[0])), Points(sizes, times, "B", "measured", "drawn"))


curves = st.one_of(lines, measured())


def test_a_line_by_hand() -> None:
    line = Line(1000, 2e9)
    assert [line(size) for size in (0, 1, 2000, 10**6)] == [1000, 1000, 2000, 501_000]
    assert line.half_bandwidth_amount == 2000


@given(lines.filter(lambda line: line.latency_ns * line.rate > 1e12))
def test_half_of_the_bandwidth_is_reached_at_half_bandwidth_size(line: Line) -> None:
    size = line.half_bandwidth_amount
    assert size / line(size) == pytest.approx(line.rate / 1e9 / 2, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("size", "time"),
    [(0, 500), (50, 750), (100, 1000), (150, 1250), (200, 1500), (300, 2500), (400, 3500), (500, 4500), (1400, 13500)],
)
def test_points_by_hand(size: int, time: int) -> None:
    assert Interpolated(500, MEASURED)(size) == time


def test_points_that_fall_are_met_and_go_on_level() -> None:
    """Libraries choose another kernel for more tokens: it may be the faster one."""
    falling = Interpolated(0, Points((1, 2, 4), (100, 200, 180), "token", "measured", "by hand"))
    assert [falling(tokens) for tokens in (1, 2, 3, 4, 5, 100)] == [100, 200, 190, 180, 180, 180]
    assert Interpolated(50, Points((2,), (40,), "token", "measured", "by hand"))(4) == 40


@given(curves, amounts, amounts)
def test_more_bytes_are_never_faster(curve: Line | Interpolated, one: int, other: int) -> None:
    less, more = sorted((one, other))
    assert curve(less) <= curve(more)
    assert isinstance(curve(more), int)


@given(lines, amounts)
def test_half_the_bandwidth_is_never_faster(line: Line, size: int) -> None:
    assert Line(line.latency_ns, line.rate / 2)(size) >= line(size)


@given(measured())
def test_points_are_met_exactly(curve: Interpolated) -> None:
    assert [curve(size) for size in curve.points.amounts] == list(curve.points.times_ns)


@pytest.mark.parametrize("size", [100, 101, 400])
def test_inside(size: int) -> None:
    assert extrapolation(Interpolated(0, MEASURED), size, "copy", "B") is None
    assert extrapolation(Line(0, 1.0), size, "copy", "B") is None, "no points, so none to leave"


@pytest.mark.parametrize("size", [0, 99, 401, 10**9])
def test_outside(size: int) -> None:
    for curve in (Interpolated(0, MEASURED), Line(0, 1.0, Range(100, 400))):
        warning = extrapolation(curve, size, "copy", "B")
        assert warning and warning.startswith("copy: ") and warning.endswith("outside the measured 100 B .. 400 B")


def test_reading_points() -> None:
    read = read_points(PLACE, points([[1, 0.5], [2.5, 1], [2.5, 0.75]], ("MiB", "ms")), "B")
    assert read.amounts == (2**20, 2621440, 2621440)
    assert read.times_ns == (500_000, 1_000_000, 750_000)
    assert read.evidence == "measured"
    assert read.range == Range(2**20, 2621440)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (3, "copy.points: 3: a table expected"),
        (points([]), "copy.points.values: []: a list of [amount, time] expected"),
        (points([[1, 2]]) | {"values": 3}, "values: 3: a list"),
        (points([[1, 2], [3]]), "values[1]: [3]: [amount, time] expected"),
        (points([[1, 2], 3]), "values[1]: 3: [amount, time] expected"),
        (points([[1, "2"]]), "values[0]: '2': a number expected"),
        (points([[0, 2]]), "values[0]: 0: a finite number, more than 0, expected"),
        (points([[2, 2], [1, 3]]), "values[1]: [1, 3]: rising amounts expected"),
        (points([[1, 2]], ("ms", "ns")), "unit: 'ms' is not bytes"),
        (points([[1, 2]], ("B", "GB/s")), "unit: 'GB/s' is not a time"),
        (points([[1, 2]]) | {"unit": "B"}, "unit: 'B': two units, of the amounts and of the times, expected"),
        (points([[1, 2]]) | {"unit": ["B"]}, "two units"),
        (points([[1, 2]], source="guessed"), "source: 'guessed'"),
        (points([[1, 2]]) | {"ref": ""}, "ref: ''"),
        (points([[1, 2]]) | {"valuse": 1}, "valuse: unknown field: did you mean 'values'?"),
        ({"unit": ["B", "ns"], "source": "measured", "values": [[1, 2]]}, "ref: missing"),
    ],
)
def test_what_are_no_points(table: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_points(PLACE, table, "B")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [[[1, 2], [1, 3]], [[1, 2], [2, 1]]])
def test_points_that_no_line_can_join(values: list[Any]) -> None:
    with pytest.raises(InputError, match=r"values\[1\]: rising amounts, and times that never fall, expected"):
        require_rising(PLACE, read_points(PLACE, points(values), "B"))


def test_points_that_lines_can_join_though_they_fall() -> None:
    falling = read_points(PLACE, points([[1, 2], [2, 1]]), "B")
    assert require_distinct(PLACE, falling) is falling
    with pytest.raises(InputError, match=r"values\[1\]: rising amounts expected"):
        require_distinct(PLACE, read_points(PLACE, points([[1, 2], [1, 3]]), "B"))
