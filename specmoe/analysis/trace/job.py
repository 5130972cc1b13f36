"""All studies of one trace, and what they come to."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from specmoe.analysis.trace.deduplication import MOST, deduplication
from specmoe.analysis.trace.domains import domain_pairs, domains
from specmoe.analysis.trace.findings import facts_of
from specmoe.analysis.trace.layers import layers, usage
from specmoe.analysis.trace.predictability import predictability
from specmoe.analysis.trace.reuse import BELADY_POINTS, joined, study_reuse
from specmoe.analysis.trace.routing import Routing, read_routing, stream, study_router
from specmoe.analysis.trace.tables import Analysis, shaped
from specmoe.analysis.trace.timeline import timeline
from specmoe.analysis.trace.transitions import sample_paths, transitions
from specmoe.analysis.trace.working_set import coactivation, sequence_sets, window_sets
from specmoe.errors import InputError
from specmoe.traces.store import Trace
from specmoe.traces.summary import expert_counts

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
