"""The figures of a validation hold what they claim, stay readable, and are written whole or not at all."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cells import GROUP, cell, judged
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from specmoe.analysis.figures.fidelity import (
    About,
    caption,
    draw_errors,
    draw_parts,
    draw_prediction,
    errors_figure,
    grouped,
    laid_out,
    parts_figure,
    plot_errors,
    plot_parts,
    plot_prediction,
    prediction_figure,
)
from specmoe.analysis.figures.timeline import KINDS, kind_of, plot_timelines, timelines_figure, window
from specmoe.errors import InputError
from specmoe.timeline import Span
from specmoe.validate.grid import group_of
from specmoe.validation_table import CellFidelity

ABOUT = About("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb", "measured", "event-atomic")
BATCH = group_of("switch-base-128", "decode", "fp16", None, 4, 4)
ONE, FOUR = GROUP.name, BATCH.name
FIGURES: dict[str, Callable[..., Any]] = {
    "prediction": prediction_figure,
    "errors": errors_figure,
    "parts": parts_figure,
}
WRITERS: dict[str, Callable[..., None]] = {"prediction": plot_prediction, "errors": plot_errors, "parts": plot_parts}


def cells() -> list[CellFidelity]:
    return [
        judged(cell("lookahead"), 4e6, 0.01, 0.004),
        judged(cell("static", 77, "fit"), 5e6, -0.02, 0.01),
        judged(cell("oracle"), 2e6, 0.03, 0.0),
        judged(cell("lookahead", group=BATCH), 9e7, -0.005, 0.02),
    ]


def many() -> list[CellFidelity]:
    """Eight groups of long names, 72 cells."""
    groups = [group_of("qwen1.5-moe-a2.7b", "decode", "fp16", "int8", batch, 4) for batch in range(8)]
    return [
        judged(cell(f"a-rather-long-policy-{n}", 10**n, "held_out", group), 10.0**n, (n - 4) / 40, 0.05)
        for group in groups
        for n in range(9)
    ]


def spans(stretch: int = 1, begin: int = 0) -> list[Span]:
    """Two steps of one layer, 0-10 and 10-30 us, with a copy that began in the first and ends in the second."""
    told = [
        ("host", "step 0 layer 0: launch dense part and router", 0, 10),
        ("host", "step 1 layer 0: launch dense part and router", 10, 12),
        ("host", "step 1 layer 0: wait for the router", 12, 20),
        ("host", "step 1 layer 0: decide, issue, launch", 20, 24),
        ("host", "step 1 layer 0: end the step", 24, 30),
        ("compute", "dense part and router of L0", 12, 19),
        ("compute", "L0 E3", 25, 27),
        ("compute", "head", 27, 29),
        ("copy", "L0 E3 (prefetch, useful)", 5, 15),
        ("copy", "L0 E4 (demand, useful)", 21, 40),
        ("disk", "L0 E4 (demand, useful)", 20, 21),
    ]
    return [Span(lane, name, begin + 1000 * stretch * a, begin + 1000 * stretch * b, {}) for lane, name, a, b in told]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_png_and_nothing_else_is_written(write: Callable[..., None], tmp_path: Path) -> None:
    write(cells(), tmp_path / "a.png", "T", ABOUT)
    write(cells()[::-1], tmp_path / "b.png", "T", ABOUT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes(), "the order of cells does not matter"


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_no_cells_leave_the_former_figure(write: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"former")
    with pytest.raises(InputError, match="no cells"):
        write([], tmp_path / "a.png", "T", ABOUT)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"former"]


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_every_figure_says_what_was_run(draw: Callable[..., Any]) -> None:
    chart = draw(cells(), "T", ABOUT)
    assert chart.get_suptitle() == "T"
    assert chart.get_supxlabel().startswith(
        "Device: NVIDIA H100 80GB HBM3. Profile: h100-sxm5-80gb (evidence: measured); replay event-atomic.\n"
        "3 cells held out, 1 fitted on; each measured 3 times."
    )


def test_caption_tells_a_range_of_repeats() -> None:
    assert "measured 3 to 5 times" in caption([*cells(), dataclasses.replace(cells()[0], repeats=5)], ABOUT)


def test_cells_are_drawn_by_group_the_largest_error_first() -> None:
    assert [(row, text) for row, text, _ in laid_out(cells())] == [
        (0, ONE),
        (1, "oracle, 154"),
        (2, "lookahead, 154"),
        (3, "static, 77"),
        (4, FOUR),
        (5, "lookahead, 154"),
    ]
    assert list(grouped(cells())) == [ONE, FOUR]


def marks(axes: Any) -> list[Any]:
    return [line for line in axes.lines if line.get_marker() not in ("None", "") and len(line.get_xdata())]


def test_prediction_has_a_mark_for_each_cell() -> None:
    (axes,) = prediction_figure(cells(), "T", ABOUT).axes
    places = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in marks(axes)}
    assert places == {(c.measured.mean_ns / 1e6, c.simulated.mean_ns / 1e6) for c in cells()}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [ONE, FOUR]
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlim()) == ("log", "log", axes.get_ylim())


def test_prediction_has_a_band_of_4_percent_and_the_identity() -> None:
    (axes,) = prediction_figure(cells(), "T", ABOUT).axes
    band = axes.collections[0].get_paths()[0].vertices
    ratios = band[:, 1] / band[:, 0]
    assert (ratios.min(), ratios.max()) == (pytest.approx(0.96), pytest.approx(1.04))
    identity = next(line for line in axes.lines if len(line.get_xdata()) == 2)
    assert np.array_equal(identity.get_xdata(), identity.get_ydata())


@pytest.mark.parametrize("draw", [prediction_figure, errors_figure])
def test_fitted_cells_are_hollow(draw: Callable[..., Any]) -> None:
    (axes,) = draw(cells(), "T", ABOUT).axes
    found = [line for line in marks(axes) if line.get_markersize() == 5]
    hollow = [line for line in found if line.get_markerfacecolor() == "white"]
    assert (len(found), len(hollow)) == (4, 1)
    expected = cells()[1].measured.mean_ns / 1e6 if draw is prediction_figure else 100 * cells()[1].error
    assert hollow[0].get_xdata()[0] == pytest.approx(expected)


def test_groups_differ_in_colour_and_shape() -> None:
    (axes,) = prediction_figure(many(), "T", ABOUT).axes
    looks = {(to_hex(line.get_color()), line.get_marker()) for line in marks(axes)}
    assert len(looks) == 8


def test_errors_are_in_percent_with_bars_as_wide_as_the_spread() -> None:
    (axes,) = errors_figure(cells(), "T", ABOUT).axes
    bars = [container.lines[2][0].get_segments()[0] for container in axes.containers]
    assert [(bar[:, 0].mean(), np.ptp(bar[:, 0])) for bar in bars] == [
        (pytest.approx(3), 0),
        (pytest.approx(1), pytest.approx(0.4)),
        (pytest.approx(-2), pytest.approx(1)),
        (pytest.approx(-0.5), pytest.approx(2)),
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == [text for _, text, _ in laid_out(cells())]
    assert [label.get_weight() for label in axes.get_yticklabels()].count("bold") == 2


def test_errors_show_what_is_aimed_at_and_all_of_the_worst() -> None:
    (axes,) = errors_figure(cells(), "T", ABOUT).axes
    upright = {float(line.get_xdata()[0]) for line in axes.lines if list(line.get_ydata()) == [0, 1]}
    assert upright == {-4, -1, 0, 1, 4}
    assert axes.get_xlim() == (-4.8, 4.8)
    far = judged(cell("far"), 1e6, -0.3, 0.1)
    (axes,) = errors_figure([*cells(), far], "T", ABOUT).axes
    assert axes.get_xlim()[0] < -35


def test_parts_are_shares_of_the_measured_step_measured_above_simulated() -> None:
    found = judged(cell(), 1000, 0.1)  # 300 compute, 200 stall, 500 and 600 host
    (axes,) = parts_figure([found], "T", ABOUT).axes
    assert [container.get_label() for container in axes.containers] == ["compute", "stall", "host"]
    widths = [[bar.get_width() for bar in container] for container in axes.containers]
    assert np.allclose(widths, [[30, 30], [20, 20], [50, 60]])
    lefts = [[bar.get_x() for bar in container] for container in axes.containers]
    assert np.allclose(lefts, [[0, 0], [30, 30], [50, 50]])
    measured, simulated = axes.containers[0]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first row is the highest"
    assert measured.get_y() + measured.get_height() <= simulated.get_y() + 1e-9
    assert axes.get_xlim()[1] > 110


def test_parts_below_nothing_are_not_drawn_backwards() -> None:
    found = judged(cell(), 1000)
    odd = dataclasses.replace(found, measured=found.measured._replace(host_ns=-4.0))
    (axes,) = parts_figure([odd], "T", ABOUT).axes
    assert axes.containers[2][0].get_width() == 0


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize("of", [cells, many, lambda: cells()[:1]], ids=["few", "many", "one"])
def test_all_text_is_inside(draw: Callable[..., Any], of: Callable[[], list[CellFidelity]]) -> None:
    chart = draw(of(), "T", ABOUT)
    assert words(chart), "there is text"
    assert outside(chart) == []


def words(chart: Any) -> list[Text]:
    """All text but the numbers at ticks."""
    return [text for text in chart.findobj(Text) if any(map(str.isalpha, text.get_text()))]


def outside(chart: Any) -> list[str]:
    """Text that leaves the picture at the left, at the bottom, at the right or at the top."""
    chart.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in words(chart)]
    right, top = chart.bbox.x1 + 1, chart.bbox.y1 + 1
    return [name for name, box in boxes if min(box.x0, box.y0) < -1 or box.x1 > right or box.y1 > top]


def test_names_of_rows_do_not_overlap() -> None:
    chart = errors_figure(many(), "T", ABOUT)
    chart.draw_without_rendering()
    boxes = [label.get_window_extent() for label in chart.axes[0].get_yticklabels()]
    assert all(above.y0 >= below.y1 - 1 for above, below in itertools.pairwise(boxes))


def bars_of(axes: Any) -> set[tuple[int, int, int]]:
    """(start, end, lane), us."""
    corners = [path.vertices for collection in axes.collections for path in collection.get_paths()]
    return {(*(round(1e3 * end(x)) for end in (min, max)), round(y.mean())) for x, y in (c.T for c in corners)}


def test_timelines_show_one_step_from_its_beginning() -> None:
    chart = timelines_figure({"measured": spans(2, 10**9), "simulated": spans()}, 1, "T", "told")
    measured, simulated = chart.axes
    host = {(0, 2, 0), (2, 10, 0), (10, 14, 0), (14, 20, 0)}
    by_hand = host | {(2, 9, 1), (15, 17, 1), (17, 19, 1)} | {(0, 5, 2), (11, 20, 2)}
    assert bars_of(simulated) == by_hand
    assert bars_of(measured) == {(2 * start, 2 * end, lane) for start, end, lane in by_hand}
    assert measured.get_xlim() == simulated.get_xlim()
    assert [axes.get_title(loc="left") for axes in chart.axes] == ["measured: 0.040 ms", "simulated: 0.020 ms"]
    assert chart.get_supxlabel() == "told"


def test_every_kind_of_span_has_a_look() -> None:
    kinds = [kind_of(span) for span in spans() if span.lane != "disk"]
    assert kinds[:5] == ["host works", "host works", "host waits", "host works", "host waits"]
    assert kinds[5:] == ["dense part, head", "expert", "dense part, head", "prefetch", "demand load"]
    assert set(kinds) == set(KINDS)
    both = Span("host", "step 0 layer 0: launch dense part and router, wait for it", 0, 1, {})
    assert kind_of(both) == "host waits"


def test_steps_are_told_apart() -> None:
    found = [Span("host", f"step {step} layer 0: end the step", 10 * step, 10 * step + 10, {}) for step in range(12)]
    assert window(found, 1) == (10, 20)
    assert window(found, 11) == (110, 120)
    with pytest.raises(InputError, match="step 12 is not in the timeline"):
        window(found, 12)


def test_timelines_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    runs = {"measured": spans(), "simulated": spans()}
    with pytest.raises(InputError, match="step 9"):
        plot_timelines(runs, 9, tmp_path / "a.png", "T", "told")
    assert not list(tmp_path.iterdir())
    plot_timelines(runs, 1, tmp_path / "a.png", "T", "told")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert outside(timelines_figure(runs, 1, "T", "told")) == []


@pytest.mark.parametrize("draw", [draw_prediction, draw_errors, draw_parts])
def test_panels_are_drawn_on_the_axes_that_are_given(draw: Callable[..., Any]) -> None:
    ax = Figure().subplots()
    assert draw(cells(), ax) is ax
    assert ax.get_xlabel() and (ax.lines or ax.patches)
    assert not ax.figure.get_suptitle()
    assert draw(cells()).figure is not ax.figure
