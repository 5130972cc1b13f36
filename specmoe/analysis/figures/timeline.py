"""One step, measured and simulated: what host, compute stream and copy engine do, one below the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.analysis.point import MS
from specmoe.analysis.style import COLOURS, describe, figure, save
from specmoe.errors import InputError
from specmoe.timeline import Span

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LANES = ("host", "compute", "copy")
KINDS: dict[str, dict[str, Any]] = {
    "host works": {"facecolor": "0.35"},
    "host waits": {"facecolor": "0.88"},
    "dense part, head": {"facecolor": COLOURS[0]},
    "expert": {"facecolor": COLOURS[5]},
    "demand load": {"facecolor": COLOURS[1]},
    "prefetch": {"facecolor": COLOURS[4], "hatch": "////"},
}


def plot_timelines(runs: Mapping[str, Sequence[Span]], step: int, png: Path, title: str, about: str) -> None:
    """Write `timelines_figure` as a PNG."""
    save(timelines_figure(runs, step, title, about), png)


def timelines_figure(runs: Mapping[str, Sequence[Span]], step: int, title: str, about: str) -> "Figure":
    """A panel for each of two runs or more, by their names, on one axis of time that begins with the step in each.

    `about` is the caption. Raises InputError if a run has no such step.
    """
    chart, panels = figure(len(runs), 1, width=8.2, height=1.6)
    longest = 0.0
    for axes, (name, spans) in zip(panels, runs.items(), strict=True):
        begin, end = window(spans, step)
        for kind, look in KINDS.items():
            for lane, bars in _bars(spans, kind, begin, end).items():
                axes.broken_barh(bars, (LANES.index(lane) - 0.4, 0.8), edgecolor="white", linewidth=0.2, **look)
        axes.axvline((end - begin) / MS, color="black", linewidth=0.8)
        axes.set_yticks(range(len(LANES)), LANES)
        axes.set_ylim(len(LANES) - 0.5, -0.5)
        axes.set_title(f"{name}: {(end - begin) / MS:.3f} ms", fontsize=9, loc="left")
        longest = max(longest, (end - begin) / MS)
    for axes in panels:
        axes.set_xlim(0, 1.02 * longest)
        axes.tick_params(axis="y", length=0)
    panels[-1].set_xlabel(f"time since the beginning of step {step}, ms")
    _legend(chart)
    describe(chart, title, about)
    return chart


def window(spans: Sequence[Span], step: int) -> tuple[int, int]:
    """Beginning and end of a step, ns, by what the host did; raises InputError if there is no such step."""
    own = [span for span in spans if span.lane == "host" and span.name.startswith(f"step {step} layer ")]
    if not own:
        raise InputError(f"step {step} is not in the timeline")
    return min(span.start_ns for span in own), max(span.end_ns for span in own)


def kind_of(span: Span) -> str:
    """Which of `KINDS` a span is."""
    if span.lane == "copy":
        return "demand load" if "(demand" in span.name else "prefetch"
    if span.lane == "compute":
        return "dense part, head" if span.name.startswith(("dense", "head")) else "expert"
    return "host waits" if "wait for" in span.name or "end the step" in span.name else "host works"


def _bars(spans: Sequence[Span], kind: str, begin: int, end: int) -> dict[str, list[tuple[float, float]]]:
    """(start, length), ms, by lane, of what is seen of spans of a kind between two times."""
    bars: dict[str, list[tuple[float, float]]] = {}
    for span in spans:
        start, stop = max(begin, span.start_ns), min(end, span.end_ns)
        if span.lane in LANES and stop > start and kind_of(span) == kind:
            bars.setdefault(span.lane, []).append(((start - begin) / MS, (stop - start) / MS))
    return bars


def _legend(chart: "Figure") -> None:
    from matplotlib.patches import Patch

    handles = [Patch(edgecolor="white", label=kind, **look) for kind, look in KINDS.items()]
    chart.legend(handles=handles, frameon=False, loc="outside right upper", fontsize=8)
