"""All studies of one trace, what they come to, and their files: analysis.json, a Parquet file a table, figures."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pyarrow.parquet as pq

from specmoe.analysis.style import plain_text, save
from specmoe.analysis.trace.domains import domain_pairs, domains, domains_figure, timeline, timeline_figure
from specmoe.analysis.trace.findings import SCHEMA, facts_of
from specmoe.analysis.trace.layers import frequency_figure, layers, usage, usage_figure
from specmoe.analysis.trace.predictability import predictability, predictability_figure
from specmoe.analysis.trace.reuse import BELADY_POINTS, joined, miss_ratio_figure, study_reuse
from specmoe.analysis.trace.routing import Routing, read_routing, stream, study_router
from specmoe.analysis.trace.tables import TABLES, Analysis, schema_of, shaped, to_arrow
from specmoe.analysis.trace.transitions import paths_figure, sample_paths, transitions, transitions_figure
from specmoe.analysis.trace.working_set import (
    MOST,
    coactivation,
    deduplication,
    deduplication_figure,
    sequence_sets,
    window_sets,
    working_set_figure,
)
from specmoe.errors import InputError
from specmoe.files import parsing, read_json, replacing, require_regular
from specmoe.traces.store import Trace
from specmoe.traces.summary import expert_counts

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
        tokens = checked["sequences"]["tokens"]
        if facts["uses"] and tokens.null_count == len(tokens):
            raise ValueError("table sequences: the length of a sequence expected")
        return Analysis(facts, {name: table.to_pandas() for name, table in checked.items()})


STUDIES: dict[str, Callable[[Routing], pd.DataFrame]] = {
    "transitions": transitions,
    "coactivation": coactivation,
    "sequences": sequence_sets,
    "working-set": window_sets,
    "domains": domains,
    "domain-pairs": domain_pairs,
    "predictability": predictability,
    "timeline": timeline,
    "paths": sample_paths,
}


def work(batches: Sequence[int]) -> int:
    """The largest number of times that `advance` is called."""
    return 1 + len(STUDIES) + MOST.bit_length() + len(set(batches)) * (BELADY_POINTS + 1)


def analyze(
    trace: Trace,
    advance: Callable[[int], object] = lambda done: None,
    *,
    name: str | None = None,
    batches: Sequence[int] = (1,),
) -> Analysis:
    """Everything that a trace says by itself, under a name (without one, its path).

    Reuse distances and miss ratios are of demand streams at these batch sizes. `advance` is called for the parts of the
    work, `work(batches)` in all. Raises InputError for a batch below 1, TraceError for a damaged file.
    """
    if not batches or min(batches) < 1:
        raise InputError(f"batch {min(batches, default=0)}: 1 or more expected")
    routing, router = read_routing(trace), study_router(trace)
    uses = expert_counts(routing.used, trace.meta.num_experts)
    advance(1)
    tables = {"layers": layers(routing, router, uses), "usage": usage(uses)}
    for table, study in STUDIES.items():
        tables[table] = study(routing)
        advance(1)
    tables["deduplication"] = deduplication(routing, advance)
    streams = (stream(routing, batch) for batch in dict.fromkeys(batches)) if len(trace) else ()
    reuse = joined([study_reuse(each, advance) for each in streams])
    tables |= {"reuse": reuse.distances, "miss-ratio": reuse.curve}
    tables = {table: shaped(table, frame) for table, frame in tables.items()}
    return Analysis(facts_of(trace.meta, _origin(trace.path, name), tables, reuse.facts), tables)


def _origin(path: Path, name: str | None) -> dict[str, str]:
    with path.open("rb") as file:
        return {"name": name or str(path), "hash": hashlib.file_digest(file, "sha256").hexdigest()}
