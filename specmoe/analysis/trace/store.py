"""An analysis on disk: analysis.json and a Parquet file for each table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from specmoe.analysis.trace.facts import SCHEMA
from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.tables import TABLES, schema_of, to_arrow
from specmoe.errors import InputError
from specmoe.files import parsing, read_json, replacing, require_regular

FACTS = "analysis.json"


def save(analysis: Analysis, directory: Path) -> list[Path]:
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
        return Analysis(facts, {name: table.to_pandas() for name, table in checked.items()})
