"""Importer of gpt-oss decode routing: a Parquet file with one row per generated token.

Columns: `seq`, `pos`, and `expert_ids` and `expert_probs`, lists of layers * 4 values in which the rank varies fastest.
Metadata: `origin` (text) and `sequences` (a JSON list of {"seq", "dataset", "category"}); a row's source is
"dataset/category". Source: github.com/AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting. The probabilities are the router
weights of gpt-oss: a softmax over the four chosen experts.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import parsing
from specmoe.traces.importers.columns import integers, lists, required
from specmoe.traces.importers.common import Imported, Options

TOP_K = 4
_MODELS = {24: ("openai/gpt-oss-20b", 32), 36: ("openai/gpt-oss-120b", 128)}  # by MoE layers: model, experts


def read(path: Path, options: Options) -> Imported:
    """Read a gpt-oss recording; raises InputError for a file of another form."""
    with parsing(path, "a whole Parquet file"):
        table = pq.read_table(path)
    required(path, table, "seq", "pos", "expert_ids", "expert_probs")
    ids, width = lists(path, table, "expert_ids", pa.int64())
    probs, _ = lists(path, table, "expert_probs", pa.float64())
    if width % TOP_K or probs.shape != ids.shape:
        raise InputError(f"{path}: expert_ids of {width}, expert_probs of {probs.shape[1]}: layers * {TOP_K} expected")
    model, known = _MODELS.get(width // TOP_K, (None, None))
    sequence = integers(path, table, "seq")
    metadata = table.schema.metadata or {}
    source, sources = _sources(path, metadata.get(b"sequences", b"[]"), sequence)
    with parsing(path, "a file whose metadata `origin` is a text in UTF-8"):
        origin = metadata.get(b"origin", path.name.encode()).decode()
    return Imported(
        num_experts=options.experts_of(path, known),
        sequence=sequence,
        position=integers(path, table, "pos"),
        experts=ids.reshape(len(ids), -1, TOP_K),
        probs=probs.reshape(len(ids), -1, TOP_K),
        source=source,
        sources=sources,
        corpus=origin,
        model=model,
        notes=("probabilities are normalised over the 4 experts chosen",),
    )


def _sources(path: Path, described: bytes, sequence: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    with parsing(path, "a file whose metadata `sequences` is a list of {seq, dataset, category}"):
        names = {entry["seq"]: f"{entry['dataset']}/{entry['category']}" for entry in json.loads(described)}
    numbers, row = np.unique(sequence, return_inverse=True)
    of_sequence = [names.get(number, "unknown") for number in numbers.tolist()]
    sources, code = np.unique(np.array(of_sequence, np.str_), return_inverse=True)
    return code[row], tuple(sources.tolist())
