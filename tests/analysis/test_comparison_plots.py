"""The figures of a comparison hold what they claim, stay readable, and are written whole or not at all."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison_points import BOUNDS, made, manifest, policies, yardstick
from matplotlib.text import Text

from specmoe.analysis.bandwidth_plot import bandwidth_figure, kind_of, plot_bandwidth
from specmoe.analysis.comparison import Point
from specmoe.analysis.latency_plot import PARTS, latency_figure, plot_latency
from specmoe.analysis.memory_plot import memory_figure, plot_memory, policy_lines, split_far
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
        dataclasses.replace(
            point, manifest=dataclasses.replace(point.manifest, slots=slots), stall_ns=times * point.stall_ns
        )
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
    assert "1.90 ms, fastest: 1.58 x the oracle" in texts(axes)


def test_latency_labels_its_bounds() -> None:
    (axes,) = latency_figure(policies(), "T").axes
    assert [line.get_xdata()[0] for line in axes.lines] == [1.0, 1.2, 6.0]
    assert [text.strip() for text in texts(axes)[-3:]] == ["floor 1.00", "oracle 1.20", "ceiling 6.00"]


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
    lines = policy_lines(sweep(128, 256))
    assert [line[0].manifest.policy for line in lines[:2]] == ["prefetch-all", "on-demand"]
    near, far = split_far(lines)
    assert [line[0].manifest.policy for line in far] == ["prefetch-all"]
    assert [*far, *near] == lines


@pytest.mark.parametrize(("slots", "scale"), [((128, 1024), "linear"), ((128, 1280), "log")])
def test_memory_is_logarithmic_from_a_decade(slots: tuple[int, ...], scale: str) -> None:
    (axes,) = memory_figure(sweep(*slots), "T", 5).axes
    assert axes.get_xscale() == scale


@pytest.mark.parametrize(
    ("cliff", "upright", "text"),
    [(5, 0, "\N{LEFTWARDS ARROW} LRU"), (160, 1, "LRU hits nothing up to 160 slots (1.25 GiB)"), (10**6, 0, "")],
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
        (p.manifest.policy, 100 * p.useful_share, 100 * p.hit_rate) for p in policies()
    }
    assert sum(len(line.get_xdata()) for line in axes.lines) == len(policies())


def test_bandwidth_tells_three_kinds_apart() -> None:
    kinds = {p.manifest.policy: kind_of(p) for p in policies()}
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
