"""The figures of a validation: predicted against measured steps, the error of each cell, and the parts of a step.

All of them draw the cells of `specmoe.validation_table`, by group, the largest error of a group first.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from specmoe.analysis.figures.latency import NOTE, PARTS
from specmoe.analysis.point import MS
from specmoe.analysis.style import COLOURS, MARKERS, describe, figure, legend_below, panel, save
from specmoe.errors import InputError
from specmoe.validation_table import CellFidelity, Circumstances, Side

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class About(NamedTuple):
    """What the captions say of a validation."""

    device: str
    profile: str
    evidence: str
    semantics: str


def about_of(circumstances: Circumstances) -> About:
    """What captions name of a validation's circumstances."""
    it = circumstances
    return About(it.device_name, it.profile, it.evidence, it.semantics)


def headline(cells: Sequence[CellFidelity]) -> str:
    """How far simulated mean steps are from measured ones, for a title; by the held-out cells if there are any."""
    judged = [cell for cell in cells if held(cell)] or cells
    errors = [100 * abs(cell.error) for cell in judged]
    if not errors:
        return "No cells"
    return f"Simulated steps are within {max(errors):.1f} % of measured ones, {median(errors):.2f} % in the median"


def caption(cells: Sequence[CellFidelity], about: About) -> str:
    """On what, with what and how often; raises InputError if there is no cell."""
    if not cells:
        raise InputError("no cells: there is nothing to draw")
    held_out = sum(held(cell) for cell in cells)
    repeats = " to ".join(str(count) for count in sorted({cell.repeats for cell in cells}))
    return (
        f"Device: {about.device}. Profile: {about.profile} (evidence: {about.evidence}); replay {about.semantics}.\n"
        f"{held_out} cells held out, {len(cells) - held_out} fitted on; each measured {repeats} times."
    )


def held(cell: CellFidelity) -> bool:
    """Whether nothing was fitted on it."""
    return cell.cell.held_out


def label(cell: CellFidelity) -> str:
    """Of a row among those of its group."""
    return f"{cell.cell.policy}, {cell.cell.slots}"


def grouped(cells: Sequence[CellFidelity]) -> dict[str, list[CellFidelity]]:
    """Cells by the name of their group, groups by name, in each the largest error first; ties by label."""
    order = sorted(cells, key=lambda cell: (cell.cell.group, -cell.error, label(cell)))
    return {name: list(found) for name, found in groupby(order, key=lambda cell: cell.cell.group)}


def laid_out(cells: Sequence[CellFidelity]) -> Iterator[tuple[int, str, CellFidelity | None]]:
    """Rows of a figure from its top: a heading for each group, which has no cell, and below it its cells."""
    row = 0
    for name, found in grouped(cells).items():
        for text, cell in [(name, None), *((label(each), each) for each in found)]:
            yield row, text, cell
            row += 1


ROW = 0.14  # inches a row
BAND = 4  # percent: what the worst cell may err by
LINES = {-BAND: "--", -1: ":", 0: "-", 1: ":", BAND: "--"}  # percent
FILLED = "Filled: held-out cells. Hollow: cells that constants were fitted on."


def plot_prediction(cells: Sequence[CellFidelity], png: Path, title: str, about: About) -> None:
    """Write `prediction_figure` as a PNG."""
    save(prediction_figure(cells, title, about), png)


def plot_errors(cells: Sequence[CellFidelity], png: Path, title: str, about: About) -> None:
    """Write `errors_figure` as a PNG."""
    save(errors_figure(cells, title, about), png)


def prediction_figure(cells: Sequence[CellFidelity], title: str, about: About) -> "Figure":
    """Simulated against measured mean step, a mark for each cell, colour and shape by group."""
    described = f"{caption(cells, about)}\nLine: as measured; band: within {BAND} %. {FILLED}"
    chart, axes = figure(1, 1, width=8.2, height=5.2)
    draw_prediction(cells, axes)
    describe(chart, title, described)
    return chart


def draw_prediction(cells: Sequence[CellFidelity], ax: "Axes | None" = None) -> "Axes":
    """The marks of `prediction_figure` on Axes, without title and caption; on new Axes by default."""
    from matplotlib.ticker import LogLocator

    axes = panel(ax, 8.2, 5.2)
    times = [side.mean_ns / MS for cell in cells for side in (cell.measured, cell.simulated)]
    ends = [min(times) / 1.3, max(times) * 1.3]
    band = ([end * (1 + sign * BAND / 100) for end in ends] for sign in (-1, 1))
    axes.fill_between(ends, *band, color="0.85", linewidth=0)
    axes.plot(ends, ends, color="black", linewidth=0.8)
    for name, look in _looks(cells).items():
        _marks(axes, [(c.measured.mean_ns / MS, c.simulated.mean_ns / MS, c) for c in grouped(cells)[name]], look, name)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set(xlabel="measured mean time per step, ms", ylabel="simulated mean time per step, ms")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return cast("Axes", axes)


def errors_figure(cells: Sequence[CellFidelity], title: str, about: About) -> "Figure":
    """The error of each cell, sorted within its group, with a bar as wide as the spread of its repeats."""
    described = f"{caption(cells, about)}\nBars: spread of the repeats. Dotted: 1 %, dashed: {BAND} %. {FILLED}"
    return _described(draw_errors(cells), title, described)


def draw_errors(cells: Sequence[CellFidelity], ax: "Axes | None" = None) -> "Axes":
    """The rows of `errors_figure` on Axes, without title and caption; on new Axes by default."""
    axes = _rows(cells, ax)
    looks = _looks(cells)
    for row, _, cell in laid_out(cells):
        if cell is not None:
            name, width = cell.cell.group, 50 * cell.spread
            axes.errorbar(100 * cell.error, row, xerr=width, color=looks[name]["color"], elinewidth=1)
            _marks(axes, [(100 * cell.error, row, cell)], looks[name], None)
    for percent, style in LINES.items():
        axes.axvline(percent, color="black", linestyle=style, linewidth=0.7, zorder=0)
    far = max(1.2 * BAND, *(100 * abs(cell.error) + 50 * cell.spread + 0.4 for cell in cells))
    axes.set(xlim=(-far, far), xlabel="error of the mean time per step, % (right: simulated is slower)")
    return cast("Axes", axes)


def _described(axes: "Axes", title: str, caption: str) -> "Figure":
    chart = cast("Figure", axes.figure)
    describe(chart, title, caption)
    return chart


def _rows(cells: Sequence[CellFidelity], ax: "Axes | None") -> Any:
    """Axes whose rows are those of `laid_out`, with their names."""
    rows = list(laid_out(cells))
    axes = panel(ax, 7.4, 1.6 + ROW * len(rows))
    axes.set_ylim(len(rows) - 0.3, -0.7)
    axes.set_yticks(range(len(rows)), [text for _, text, _ in rows], fontsize=7)
    axes.tick_params(axis="y", length=0)
    for tick, (_, _, cell) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_weight("bold" if cell is None else "normal")
    return axes


def _looks(cells: Sequence[CellFidelity]) -> dict[str, dict[str, Any]]:
    """Colour and shape of each group; more groups than colours differ in shape."""
    return {
        name: {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        for place, name in enumerate(grouped(cells))
    }


def _marks(
    axes: Any, points: Sequence[tuple[float, float, CellFidelity]], look: dict[str, Any], name: str | None
) -> None:
    """Marks of a group, hollow where constants were fitted; the legend shows the filled one."""
    for x, y, cell in points:
        inside = look["color"] if held(cell) else "white"
        axes.plot(x, y, **look, linestyle="", markersize=5, markerfacecolor=inside, zorder=3)
    if name is not None:
        axes.plot([], [], **look, linestyle="", markersize=5, label=name)


HEIGHT = 0.34  # of a bar, in rows


def plot_parts(cells: Sequence[CellFidelity], png: Path, title: str, about: About) -> None:
    """Write `parts_figure` as a PNG."""
    save(parts_figure(cells, title, about), png)


def parts_figure(cells: Sequence[CellFidelity], title: str, about: About) -> "Figure":
    """Two bars for each cell, the measured one above the simulated, as shares of the measured mean step."""
    described = f"{caption(cells, about)}\nUpper bar: measured; lower bar: simulated. {NOTE}"
    return _described(draw_parts(cells), title, described)


def draw_parts(cells: Sequence[CellFidelity], ax: "Axes | None" = None) -> "Axes":
    """The bars of `parts_figure` on Axes, without title and caption; on new Axes by default."""
    axes = _rows(cells, ax)
    rows = [(row, cell) for row, _, cell in laid_out(cells) if cell is not None]
    bars = [
        (row + shift * HEIGHT / 2, side, cell.measured.mean_ns)
        for row, cell in rows
        for shift, side in ((-1, cell.measured), (1, cell.simulated))
    ]
    lefts = [0.0] * len(bars)
    for part, look in PARTS.items():
        widths = [100 * _part(side, part) / whole for _, side, whole in bars]
        _bars(axes, [at for at, _, _ in bars], widths, lefts, {**look, "label": part})
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
    axes.axvline(100, color="black", linewidth=0.7)
    axes.set(xlim=(0, max(105, 1.02 * max(lefts))), xlabel="share of the measured mean time per step, %")
    legend_below(axes)
    return cast("Axes", axes)


def _part(side: Side, part: str) -> float:
    """Not below 0, as what is left for the host may be where little is."""
    value: float = getattr(side, f"{part}_ns")
    return max(0.0, value)


def _bars(axes: Any, at: list[float], widths: list[float], lefts: list[float], look: dict[str, Any]) -> None:
    axes.barh(at, widths, left=lefts, height=HEIGHT, edgecolor="white", linewidth=0.3, **look)
