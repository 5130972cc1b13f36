"""Importers of routing that other tools recorded; a format is one file and one line in `FORMATS`.

Start with `common.py` (the interface, and packing of long tables into rows), then `long.py` (CSV, JSONL and Parquet
tables); `columns.py` holds the checks of single columns, `passes.py` the formats that are ordered by forward pass. The
candidates of a layer are the experts that the file names; the first `top_k` of them are used (default: all).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from specmoe.errors import InputError, hint
from specmoe.files import LARGEST_TABLE, library_versions, parsing, require_regular, today
from specmoe.traces.importers import gptoss, long, passes, policylang, vllm
from specmoe.traces.importers.common import Imported, Options
from specmoe.traces.schema import Block, TraceMeta, join, regroup
from specmoe.traces.store import write_trace
from specmoe.traces.validation import check

__all__ = ["FORMATS", "Imported", "Options", "import_trace"]

FORMATS: dict[str, Callable[[Path, Options], Imported]] = {
    "gptoss": gptoss.read,
    "vllm": vllm.read,
    "megatron": passes.read_megatron,
    "llama": passes.read_llama,
    "long": long.read,
    "policylang": policylang.read,
}


def import_trace(paths: Path | Sequence[Path], format_name: str, out: Path, options: Options) -> TraceMeta:
    """Read one recording or several of one model, check every row, and write the trace `out`.

    Sequences of a further file have numbers behind those of the file before it. Raises InputError or TraceError with
    file, row and field; rows are numbered from 0, without headers.
    """
    if format_name not in FORMATS:
        raise InputError(f"--format {format_name}: {hint(format_name, FORMATS)}")
    blocks, metas, next_sequence = list[Block](), list[TraceMeta](), 0
    for path in [paths] if isinstance(paths, Path) else paths:
        block, meta = _read(path, format_name, options)
        if metas and (meta.num_experts, *meta.shapes.values()) != (metas[0].num_experts, *metas[0].shapes.values()):
            theirs = f"{metas[0].num_layers} layers of {metas[0].candidates} in {metas[0].num_experts} experts"
            raise InputError(f"{path}: {meta.num_layers} layers of {meta.candidates}: {theirs} expected, as before")
        block = block._replace(sequence=block.sequence + np.int32(next_sequence))
        next_sequence = int(block.sequence[-1]) + 1
        blocks.append(block)
        metas.append(meta)
    block, meta = _joined(blocks, metas)
    check(block, meta, str(out))
    write_trace(out, meta, regroup([block]))
    return meta


def _read(path: Path, format_name: str, options: Options) -> tuple[Block, TraceMeta]:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    require_regular(path, "a recording", LARGEST_TABLE)
    with parsing(path, f"a recording of format {format_name}"):
        imported = FORMATS[format_name](path, options)
        meta = _meta(imported, options, f"imported from {path.name}, format {format_name}")
        block = imported.block()
    check(block, meta, str(path))
    return block, meta


def _joined(blocks: list[Block], metas: list[TraceMeta]) -> tuple[Block, TraceMeta]:
    """Rows of all files under the first one's metadata; sources are joined by name."""
    if len(blocks) == 1:
        return blocks[0], metas[0]
    sources = tuple(dict.fromkeys(name for meta in metas for name in meta.sources))
    codes = [np.array([sources.index(name) for name in meta.sources], np.int16) for meta in metas]
    coded = [block._replace(source=code[block.source]) for block, code in zip(blocks, codes, strict=True)]
    notes = tuple(dict.fromkeys(note for meta in metas for note in meta.notes))
    corpus = ", ".join(dict.fromkeys(meta.corpus for meta in metas))
    return join(coded), replace(
        metas[0],
        sources=sources,
        corpus=corpus,
        notes=notes,
        has_probs=all(meta.has_probs for meta in metas),
        dropless=all(meta.dropless for meta in metas),
    )


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
        dropless=imported.dropless,
        has_probs=imported.probs is not None,
        has_lookahead=False,
        date=today(),
        versions=library_versions("numpy", "pyarrow"),
        notes=(note, *imported.notes),
    )
