"""Importers of routing that other tools recorded; a format is one file and one line in `FORMATS`.

Start with `common.py` (the interface, and packing of long tables into rows), then `long.py` (CSV, JSONL and Parquet
tables); `columns.py` holds the checks of single columns. The candidates of a layer are the experts that the file
names; the first `top_k` of them are used (default: all).
"""

from collections.abc import Callable
from pathlib import Path

from specmoe.errors import InputError, hint
from specmoe.files import LARGEST_TABLE, parsing, require_regular
from specmoe.provenance import library_versions, today
from specmoe.traces.importers import gptoss, long, policylang, vllm
from specmoe.traces.importers.common import Imported, Options
from specmoe.traces.schema import TraceMeta, regroup
from specmoe.traces.store import write_trace
from specmoe.traces.validation import check

__all__ = ["FORMATS", "Imported", "Options", "import_trace"]

FORMATS: dict[str, Callable[[Path, Options], Imported]] = {
    "gptoss": gptoss.read,
    "vllm": vllm.read,
    "long": long.read,
    "policylang": policylang.read,
}


def import_trace(path: Path, format_name: str, out: Path, options: Options) -> TraceMeta:
    """Read a recording, check every row, and write the trace `out`.

    Raises InputError or TraceError with file, row and field; rows are numbered from 0, without headers.
    """
    if format_name not in FORMATS:
        raise InputError(f"--format {format_name}: {hint(format_name, FORMATS)}")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    require_regular(path, "a recording", LARGEST_TABLE)
    with parsing(path, f"a recording of format {format_name}"):
        imported = FORMATS[format_name](path, options)
        meta = _meta(imported, options, f"imported from {path.name}, format {format_name}")
        block = imported.block()
    check(block, meta, str(path))
    write_trace(out, meta, regroup([block]))
    return meta


def _meta(imported: Imported, options: Options, note: str) -> TraceMeta:
    layers, candidates = imported.experts.shape[1:]
    return TraceMeta(
        phase=options.phase,
        kind=options.kind,
        origin="imported",
        model=options.model or imported.model or "unknown",
        num_experts=imported.num_experts,
        num_layers=layers,
        top_k=options.top_k_of(candidates),
        candidates=candidates,
        sources=imported.sources,
        corpus=imported.corpus,
        has_probs=imported.probs is not None,
        has_lookahead=False,
        date=today(),
        versions=library_versions("numpy", "pyarrow"),
        notes=(note, *imported.notes),
    )
