"""Importer of moe-policylang 1.x traces (`TraceRecording`): one row per (prompt, token, layer).

JSONL: a first line with model_name, num_layers, num_experts and top_k, then rows with the short keys below. Parquet:
long names and no header, so `options` must give the number of experts. Layer numbers become ordinals. `prefill` rows
belong to phase `encode`.
"""

import json
from pathlib import Path
from typing import Any

from specmoe.errors import InputError
from specmoe.files import parsing
from specmoe.traces.importers.common import Imported, Options, pack
from specmoe.traces.importers.long import read_table, renamed

NAMES = {
    "sequence": ("prompt_id", "p"),
    "position": ("token_idx", "t"),
    "token": ("token_id", "ti"),
    "layer": ("layer_idx", "l"),
    "experts": ("selected_experts", "e"),
    "weights": ("router_scores", "s"),
    "source": ("domain_tag", "dm"),
    "phase": ("phase", "ph"),
}


def read(path: Path, options: Options) -> Imported:
    """Read a moe-policylang recording; raises InputError for a file of another form."""
    has_header = path.suffix != ".parquet"
    header = _header(path) if has_header else {}
    table = renamed(read_table(path, skip_lines=int(has_header)), NAMES)
    packed = pack(path, table, options.experts_of(path, header.get("num_experts")), options.phase)
    return packed._replace(model=header.get("model_name"))


def _header(path: Path) -> dict[str, Any]:
    with parsing(path, "a file whose first line is a JSON object"), path.open(encoding="utf-8") as lines:
        header: dict[str, Any] = dict(json.loads(lines.readline()))
    if type(header.get("num_experts")) is int and isinstance(header.get("model_name"), str):
        return header
    raise InputError(f"{path}: first line: a JSON object with model_name and num_experts expected")
