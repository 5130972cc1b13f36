"""All figures of an analysis.

An analysis on disk: analysis.json and a Parquet file for each table.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq

from specmoe.analysis.style import plain_text, save
from specmoe.analysis.trace.deduplication import deduplication_figure
from specmoe.analysis.trace.domains import domains_figure
from specmoe.analysis.trace.findings import SCHEMA
from specmoe.analysis.trace.layers import frequency_figure, usage_figure
from specmoe.analysis.trace.predictability import predictability_figure
from specmoe.analysis.trace.reuse import miss_ratio_figure
from specmoe.analysis.trace.tables import TABLES, Analysis, schema_of, to_arrow
from specmoe.analysis.trace.timeline import timeline_figure
from specmoe.analysis.trace.transitions import paths_figure, transitions_figure
from specmoe.analysis.trace.working_set import working_set_figure
from specmoe.errors import InputError
from specmoe.files import parsing, read_json, replacing, require_regular

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Drawing(NamedTuple):
    """A figure that is drawn where its table has rows."""

    name: str  # of the PNG
    title: str
    table: str
    draw: "Callable[[Analysis], Figure]"


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


def figures(analysis: Analysis) -> "list[tuple[str, str, Figure]]":
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


FACTS = "analysis.json"
PLACES = ("expert", "next_expert", "sequence", "place")  # columns that say where in a figure a row belongs


def save_analysis(analysis: Analysis, directory: Path) -> list[Path]:
    """Write all files into a directory that is there, each whole or not at all, analysis.json last; their paths."""
    files = []
    for name, frame in analysis.tables.items():
        files.append(directory / f"{name}.parquet")
        with replacing(files[-1]) as fresh:
            pq.write_table(to_arrow(name, frame), fresh, compression="zstd")
    files.append(directory / FACTS)
    with replacing(files[-1]) as fresh:
        fresh.write_text(json.dumps(analysis.facts, indent=1) + "\n")
    return files


def load_analysis(directory: Path) -> Analysis:
    """Read what `save` wrote; raises InputError for anything else, and for another version's."""
    facts: dict[str, Any] = read_json(directory / FACTS, "an analysis of specmoe")
    for name in TABLES:
        require_regular(directory / f"{name}.parquet", "an analysis of specmoe")
    with parsing(directory, "an analysis of specmoe"):
        if facts["schema"] != SCHEMA:
            raise InputError(
                f"{directory / FACTS}: schema {facts['schema']}: {SCHEMA} expected; run `specmoe analyze` again"
            )
        tables = {name: pq.read_table(directory / f"{name}.parquet") for name in TABLES}
        checked = {name: table.select(schema_of(name).names).cast(schema_of(name)) for name, table in tables.items()}
        for name, table in checked.items():
            for column in {*PLACES} & {*table.column_names}:
                if table[column].null_count:
                    raise ValueError(f"table {name}: {column}: an empty place")
        return Analysis(facts, {name: table.to_pandas() for name, table in checked.items()})
