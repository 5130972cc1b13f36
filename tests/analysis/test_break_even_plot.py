"""The picture of break-even precision: what is drawn, named and left out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmoe.analysis.figures.precision import APART, MARKS, break_even_figure, marks, plot_break_even, spread

POINTS = [(5e9, 0.9), (10e9, 0.6), (20e9, 0.3), (40e9, 0.2), (80e9, None)]


def row(policy: str, precision: float | None = None, mean: int = 100, yardstick: bool = False) -> dict[str, Any]:
    return {
        "policy": policy,
        "precision": precision,
        "latency_mean_ns": mean,
        "yardstick": yardstick,
        "trace": "a/b/c",
        "trace_kind": "random",
        "phase": "decode",
        "steps": 7,
        "batch": 1,
        "shape": "s",
        "format": "fp16",
        "slots": 9,
        "profile": "box",
        "evidence": "assumed",
    }


def words(summaries: list[dict[str, Any]], own: float | None = 0.3) -> str:
    from matplotlib.text import Text

    chart = break_even_figure(POINTS, own, summaries)
    return "\n".join(text.get_text() for text in chart.findobj(Text))


def test_the_curve_has_a_point_for_each_known_break_even_in_gb_and_percent() -> None:
    (axes,) = break_even_figure(POINTS, 0.3, [row("lookahead", 0.7)]).axes
    curve = max(axes.lines, key=lambda line: len(line.get_xdata()))
    assert list(curve.get_xdata()) == [5, 10, 20, 40]
    assert list(curve.get_ydata()) == pytest.approx([90, 60, 30, 20])
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == (5, 80)


def test_the_machine_the_policies_and_the_conditions_are_named() -> None:
    told = words([row("lookahead", 0.7), row("on-demand-lru")])
    for expected in (
        "box\n20 GB/s: 30 %",
        "lookahead 70 %",
        "a/b/c (random)",
        "7 steps",
        "9 slots",
        "evidence: assumed",
    ):
        assert expected in told
    assert "on-demand-lru" not in told


def test_a_machine_without_a_break_even_is_named_all_the_same() -> None:
    assert "box\n20 GB/s" in words([row("lookahead", 0.7)], own=None)
    assert "%:" not in words([row("lookahead", 0.7)], own=None)


def test_no_break_even_anywhere_is_drawn_without_a_curve(tmp_path: Path) -> None:
    nowhere = [(bandwidth, None) for bandwidth, _ in POINTS]
    plot_break_even(nowhere, None, [row("on-demand-lru")], tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_fastest_that_could_be_built_are_named_most_precise_first() -> None:
    rows = [row(f"p{number}", number / 20, mean=number) for number in range(12)]
    rows += [row("none"), row("oracle", 1.0, 0, yardstick=True), row("new", 0.5, 0, yardstick=True)]
    found = marks(rows)
    assert [name for name, _ in found] == [f"p{number}" for number in reversed(range(MARKS))]
    assert found[0][1] == pytest.approx(100 * 7 / 20)


def test_by_hand_names_are_moved_apart() -> None:
    assert spread([50, 40, 39]) == [50, 40, 36]
    assert spread([3, 2, 1]) == [8, 4, 0]
    assert spread([]) == []


@given(st.lists(st.floats(0, 100), max_size=MARKS))
def test_names_never_touch_and_stay_in_their_order(heights: list[float]) -> None:
    placed = spread(sorted(heights, reverse=True))
    assert all(upper - lower >= APART - 1e-9 for upper, lower in pairwise(placed))
    assert all(height >= 0 for height in placed)
