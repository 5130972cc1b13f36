"""All figures of an analysis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from specmoe.analysis.style import plain_text, save
from specmoe.analysis.trace.deduplication_plot import deduplication_figure
from specmoe.analysis.trace.domains_plot import domains_figure
from specmoe.analysis.trace.frequency_plot import frequency_figure, usage_figure
from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.miss_ratio_plot import miss_ratio_figure
from specmoe.analysis.trace.paths_plot import paths_figure
from specmoe.analysis.trace.predictability_plot import predictability_figure
from specmoe.analysis.trace.timeline_plot import timeline_figure
from specmoe.analysis.trace.transitions_plot import transitions_figure
from specmoe.analysis.trace.working_set_plot import working_set_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Drawing(NamedTuple):
    """A figure that is drawn where its table has rows."""

    name: str  # of the PNG
    title: str
    table: str
    draw: Callable[[Analysis], Figure]


DRAWINGS = (
    Drawing("miss-ratio", "Miss ratio against slots", "miss-ratio", miss_ratio_figure),
    Drawing("frequency", "How often experts are used", "usage", frequency_figure),
    Drawing("usage", "Use of experts by layer", "usage", usage_figure),
    Drawing("timeline", "Use of experts over time", "timeline", timeline_figure),
    Drawing("predictability", "How predictable experts are", "predictability", predictability_figure),
    Drawing("transitions", "Transitions between layers", "transitions", transitions_figure),
    Drawing("paths", "Sample paths", "paths", paths_figure),
    Drawing("working-set", "Working sets", "working-set", working_set_figure),
    Drawing("deduplication", "Deduplication over a batch", "deduplication", deduplication_figure),
    Drawing("domains", "Experts and text domains", "domain-pairs", domains_figure),
)


def figures(analysis: Analysis) -> list[tuple[str, str, Figure]]:
    """Name, title and figure of all that there is something to draw for; none of a trace without uses."""
    if not analysis.facts["uses"]:
        return []
    shown = (drawing for drawing in DRAWINGS if len(analysis.tables[drawing.table]))
    with plain_text():
        return [(drawing.name, drawing.title, drawing.draw(analysis)) for drawing in shown]


def save_figures(analysis: Analysis, directory: Path) -> list[Path]:
    """Write each figure as <name>.png into a directory that is there, and remove what another trace left; the paths."""
    for drawing in DRAWINGS:
        (directory / f"{drawing.name}.png").unlink(missing_ok=True)
    files = []
    for name, _title, chart in figures(analysis):
        files.append(directory / f"{name}.png")
        save(chart, files[-1])
    return files
