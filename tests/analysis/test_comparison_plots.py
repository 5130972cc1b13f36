"""The figures of a comparison hold what they claim, stay readable, and are written whole or not at all."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison_points import BOUNDS, made, manifest, policies, yardstick
from matplotlib.figure import Figure
from matplotlib.text import Text

from specmoe.analysis.figures.latency import (
    PARTS,
    bandwidth_figure,
    draw_copies,
    draw_latency,
    draw_tail,
    kind_of,
    latency_figure,
    plot_bandwidth,
    plot_latency,
)
from specmoe.analysis.figures.memory import (
    distance_figure,
    draw_distance,
    draw_hit_rate,
    draw_memory,
    hit_rate_figure,
    memory_figure,
    plot_memory,
    policy_lines,
)
from specmoe.analysis.figures.predictors import draw_accuracy, draw_depth, draw_reliability
from specmoe.analysis.figures.tornado import Swing, draw_tornado
from specmoe.analysis.point import Point, Tail
from specmoe.analysis.style import OTHER, TOLD_APART, split_far
from specmoe.errors import InputError

GIB = 2**30
WRITERS: dict[str, Callable[[list[Point], Path], None]] = {
    "latency": lambda points, png: plot_latency(points, png, "T"),
    "memory": lambda points, png: plot_memory(points, png, "T", 5),
    "bandwidth": lambda points, png: plot_bandwidth(points, png, "T"),
}


def resized(points: list[Point], slots: int, times: float = 1.0) -> list[Point]:
    """The same policies with other slots and stalls."""
    shared = [point for point in points if not point.all_resident]
    return [
        dataclasses.replace(point, about=dataclasses.replace(point.about, slots=slots), stall_ns=times * point.stall_ns)
        for point in shared
    ]


def sweep(*slots: int) -> list[Point]:
    return [point for size in slots for point in resized(policies(), size, slots[0] / size)]


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_png_and_nothing_else_is_written(write: Callable[..., None], tmp_path: Path) -> None:
    write(policies(), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_refused_results_leave_the_former_figure(write: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"former")
    for points in ([], [made(manifest()), made(manifest("static", profile="h100"))]):
        with pytest.raises(InputError):
            write(points, tmp_path / "a.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"former"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_the_same_points_give_the_same_bytes_in_any_order(write: Callable[..., None], tmp_path: Path) -> None:
    write(policies(), tmp_path / "a.png")
    write(policies()[::-1], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_one_result_without_bounds_is_drawn(write: Callable[..., None], tmp_path: Path) -> None:
    write([made(manifest(bounds={}))], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_every_figure_says_what_was_run() -> None:
    for chart in (
        latency_figure(policies(), "T"),
        memory_figure(policies(), "T", 5),
        bandwidth_figure(policies(), "T"),
    ):
        assert chart.get_suptitle() == "T"
        for part in ("(trained-here)", "rtx3090 (evidence: assumed)", "switch-base-128 in fp16", "event-atomic"):
            assert part in chart.get_supxlabel()


def test_latency_has_three_bars_for_each_policy_fastest_first() -> None:
    (axes,) = latency_figure(policies(), "T").axes
    assert [container.get_label() for container in axes.containers] == list(PARTS)
    assert [len(container) for container in axes.containers] == [len(policies())] * 3
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[:4] == ["gpu-only", "oracle", "pregated-lru", "belady"]
    assert names[-2:] == ["on-demand", "prefetch-all"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first row is the highest"


def test_latency_bars_are_laid_end_to_end() -> None:
    (axes,) = latency_figure(policies(), "T").axes
    compute, stall, host = (container[4] for container in axes.containers)  # lookahead
    assert [bar.get_width() for bar in (compute, stall, host)] == pytest.approx([0.6, 1.5, 0.4])
    assert [bar.get_x() for bar in (compute, stall, host)] == pytest.approx([0, 0.6, 2.1])


def test_latency_cuts_the_far_bar_and_writes_its_value() -> None:
    (axes,) = latency_figure(policies(), "T").axes
    ends = [bar.get_x() + bar.get_width() for bar in axes.containers[2]]
    assert ends[-1] < 8 < 201
    assert axes.get_xlim()[1] < 8
    assert "201 ms (100 % stall)" in texts(axes)
    assert texts(axes).count("//") == 1


def test_latency_emphasises_the_winner() -> None:
    (axes,) = latency_figure(policies(), "T").axes
    bold = [label.get_text() for label in axes.get_yticklabels() if label.get_weight() == "bold"]
    assert bold == ["pregated-lru"]
    assert "1.90 ms, 1.58 x the oracle" in texts(axes)


def test_latency_labels_its_bounds() -> None:
    (axes,) = latency_figure(policies(), "T").axes
    assert [line.get_xdata()[0] for line in axes.lines] == [1.0, 1.2, 6.0]
    assert [text.strip() for text in texts(axes)[-3:]] == ["floor 1.00", "oracle 1.20", "ceiling 6.00"]


def test_latency_takes_its_bounds_from_those_who_share_slots() -> None:
    other = yardstick("gpu-only", sharing="all-resident")
    resident = made(dataclasses.replace(other, bounds={"floor_ns": 1, "oracle_ns": 9_000_000, "ceiling_ns": 2}), 0)
    (axes,) = latency_figure([resident, made(manifest())], "T").axes
    assert [line.get_xdata()[0] for line in axes.lines] == [1.0, 1.2]
    assert [text.strip(" \N{RIGHTWARDS ARROW}") for text in texts(axes)[-3:]] == [
        "floor 1.00",
        "oracle 1.20",
        "ceiling 6.00",
    ]


def test_latency_points_at_a_far_ceiling() -> None:
    far = [made(manifest(name, bounds=BOUNDS | {"ceiling_ns": 10**9})) for name in ("a", "b")]
    (axes,) = latency_figure(far, "T").axes
    assert len(axes.lines) == 2
    assert "ceiling 1000 \N{RIGHTWARDS ARROW}" in texts(axes)[-1]


def test_memory_has_a_line_for_each_real_policy_and_two_bounds() -> None:
    (axes,) = memory_figure(sweep(128, 256, 1024), "T", 5).axes
    lines = {line.get_label(): np.asarray(line.get_xydata()) for line in axes.lines}
    assert set(lines) == {
        *("pregated-lru", "lookahead", "on-demand-lru", "on-demand-lfu", "static", "frequency", "on-demand"),
        *("floor", "oracle"),
    }
    assert lines["on-demand-lru"].tolist() == [[1, 3.0], [2, 2.0], [8, 1.25]]
    assert lines["oracle"].tolist() == [[1, 1.2], [2, 1.2], [8, 1.2]]


def test_memory_names_what_is_too_slow_to_draw() -> None:
    chart = memory_figure(sweep(128, 256), "T", 5)
    assert "Too slow to draw: prefetch-all, 101 to 201 ms." in chart.get_supxlabel()


def test_memory_lines_begin_with_the_slowest() -> None:
    lines = policy_lines(sweep(128, 256), lambda point: point.latency_ns)
    assert [line.name for line in lines[:2]] == ["prefetch-all", "on-demand"]
    near, far = split_far(lines)
    assert [line.name for line in far] == ["prefetch-all"]
    assert [*far, *near] == lines


def test_by_hand_hit_rate_and_distance_are_drawn_over_the_same_memory() -> None:
    points = sweep(128, 256)
    for draw, high in ((hit_rate_figure, 44.0), (distance_figure, 3.0 / 1.2)):
        (axes,) = draw(points, "T", 5).axes
        lines = {line.get_label(): np.asarray(line.get_xydata()) for line in axes.lines}
        assert lines["on-demand-lru"][0].tolist() == pytest.approx([1, high])
        assert lines["on-demand-lru"][:, 0].tolist() == [1, 2]
    assert lines["oracle"][0][1] == 1
    assert "Too far to draw: prefetch-all, at least 84.2 times." in distance_figure(points, "T", 5).get_supxlabel()


def test_of_many_lines_the_slow_ones_are_grey_and_share_an_entry() -> None:
    crowd = [made(manifest(f"p{n:02}", slots=slots), 1 + n / 50) for n in range(28) for slots in (128, 256)]
    crowd += [made(manifest(slots=slots), 2.5) for slots in (128, 256)]
    chart = memory_figure(crowd, "T", 5)
    names = [text.get_text() for text in chart.axes[0].get_legend().get_texts()]
    assert set(names) == {*(f"p{n:02}" for n in range(TOLD_APART - 1)), "on-demand-lru", "22 others", "floor", "oracle"}
    grey = [line for line in chart.axes[0].lines if line.get_color() == OTHER["color"]]
    assert len(grey) == 22


@pytest.mark.parametrize(("slots", "scale"), [((128, 1024), "linear"), ((128, 1280), "log")])
def test_memory_is_logarithmic_from_a_decade(slots: tuple[int, ...], scale: str) -> None:
    (axes,) = memory_figure(sweep(*slots), "T", 5).axes
    assert axes.get_xscale() == scale


@pytest.mark.parametrize(
    ("cliff", "upright", "text"),
    [(5, 0, "\N{LEFTWARDS ARROW} an LRU"), (160, 1, "an LRU's cliff: 160 slots (1.25 GiB)"), (10**6, 0, "")],
)
def test_memory_marks_the_cliff(cliff: int, upright: int, text: str) -> None:
    (axes,) = memory_figure(sweep(128, 256), "T", cliff).axes
    assert sum(len(set(line.get_xdata())) == 1 for line in axes.lines) == upright
    assert "".join(texts(axes)).startswith(text)


def test_memory_of_yardsticks_alone_is_refused() -> None:
    with pytest.raises(InputError, match="yardsticks"):
        memory_figure([made(yardstick("belady", eviction="belady"))], "T", 5)


def test_bandwidth_has_a_label_at_each_point() -> None:
    (axes,) = bandwidth_figure(policies(), "T").axes
    assert {(text.get_text(), *text.xy) for text in axes.texts} == {
        (p.about.policy, 100 * p.useful_share, 100 * p.hit_rate) for p in policies()
    }
    assert sum(len(line.get_xdata()) for line in axes.lines) == len(policies())


def test_bandwidth_tells_three_kinds_apart() -> None:
    kinds = {p.about.policy: kind_of(p) for p in policies()}
    assert kinds["prefetch-all"] == "prefetches"
    assert kinds["on-demand-lru"] == "loads on demand only"
    assert kinds["oracle"] == kinds["gpu-only"] == "yardstick"


def test_bandwidth_labels_do_not_overlap() -> None:
    crowd = [made(manifest(f"policy-{n}"), hit_rate=0.5 + n / 500, useful=1 - n % 3 / 100) for n in range(14)]
    for points in (policies(), crowd):
        chart = bandwidth_figure(points, "T")
        chart.draw_without_rendering()
        boxes = [Text.get_window_extent(text) for text in chart.axes[0].texts]
        shrunk = [box.padded(-0.5) for box in boxes]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(shrunk, 2))


def test_all_text_of_every_figure_is_inside_it() -> None:
    names = [made(manifest(f"a-rather-long-policy-name-{n}"), 1 + n / 10, n / 14, 1 - n / 20, True) for n in range(14)]
    for points in (policies(), names):
        for chart in (latency_figure(points, "T"), memory_figure(points, "T", 5), bandwidth_figure(points, "T")):
            chart.draw_without_rendering()
            words = [text for text in chart.findobj(Text) if any(map(str.isalpha, text.get_text()))]  # no ticks
            for box in map(Text.get_window_extent, words):
                assert min(box.x0, box.y0) >= -1
                assert box.x1 <= chart.bbox.x1 + 1
                assert box.y1 <= chart.bbox.y1 + 1


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: draw_latency(policies(), ax),
        lambda ax: draw_copies(policies(), ax),
        lambda ax: draw_tail([replace(point, tail=Tail(1e6, 2e6, 3e6, 4e6)) for point in policies()], ax),
        lambda ax: draw_memory(sweep(128, 256), 5, ax),
        lambda ax: draw_hit_rate(sweep(128, 256), 5, ax),
        lambda ax: draw_distance(sweep(128, 256), 5, ax),
        lambda ax: draw_tornado([Swing("bandwidth", 0.1, -0.1), Swing("latency", 0.0, 0.2)], ("less", "more"), ax),
        lambda ax: draw_accuracy([], ax),
        lambda ax: draw_depth([], ax),
        lambda ax: draw_reliability([], ax),
    ],
)
def test_panels_are_drawn_on_the_axes_that_are_given(draw: Callable[[Any], Any]) -> None:
    ax = Figure().subplots()
    assert draw(ax) is ax and ax.get_xlabel() and not ax.figure.get_suptitle()
    assert draw(None) is not ax
