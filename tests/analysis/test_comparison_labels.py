"""Labels cover neither each other nor a point."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from specmoe.analysis.style import Box, figure, name_points, place

PAGE = Box(0, 0, 1000, 1000)


def test_by_hand_right_then_left_then_higher_then_lower() -> None:
    boxes = place([(100, 100)] * 4, [(40, 10)] * 4, 5, PAGE)
    assert boxes == [
        Box(105, 95, 145, 105),
        Box(55, 95, 95, 105),
        Box(105, 105, 145, 115),
        Box(55, 105, 95, 115),
    ]


def test_by_hand_points_without_a_label_are_kept_free() -> None:
    assert place([(100, 100)], [(40, 10)], 5, PAGE, [(120, 100)]) == [Box(55, 95, 95, 105)]


def test_names_on_a_chart_keep_off_the_points_without_one() -> None:
    chart, axes = figure(1, 1)
    axes.set(xlim=(0, 10), ylim=(0, 10))
    name_points(chart, axes, ["name"], [(5, 5)], [(6, 5)])
    (text,) = axes.texts
    assert text.get_position()[0] < 0, "at the left"


def test_by_hand_at_the_right_edge_a_label_goes_left() -> None:
    assert place([(990, 500)], [(40, 10)], 5, PAGE) == [Box(945, 495, 985, 505)]


def test_by_hand_at_the_upper_edge_a_label_goes_down() -> None:
    assert place([(100, 1000)], [(40, 10)], 5, PAGE) == [Box(105, 990, 145, 1000)]


def test_a_label_too_wide_for_the_page_is_placed_all_the_same() -> None:
    assert len(place([(5, 5)], [(5000, 10)], 5, PAGE)) == 1


def test_edges_may_touch() -> None:
    one = Box(0, 0, 10, 10)
    assert not one.overlaps(Box(10, 0, 20, 10))
    assert not one.overlaps(Box(0, 10, 10, 20))
    assert one.overlaps(Box(9, 9, 20, 20))
    assert one.within(one)
    assert not one.within(Box(0, 0, 10, 9))


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=14))
def test_property_nothing_is_covered(anchors: list[tuple[int, int]]) -> None:
    boxes = place(anchors, [(150, 12)] * len(anchors), 5, PAGE)
    assert boxes == place(anchors, [(150, 12)] * len(anchors), 5, PAGE)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    points = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in anchors]
    assert not any(box.overlaps(point) for box in boxes for point in points)
    assert all(box.within(PAGE) for box in boxes)
