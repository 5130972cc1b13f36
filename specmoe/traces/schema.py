"""The trace schema: columns, metadata, and operations on blocks of rows.

A file holds one phase of one model. Each row is one token with its routing in all MoE layers:

    sequence   int32                          number of the text; the `encode` and `decode` files of a run share it
    position   int32                          0, 1, 2, ... within the sequence
    source     dictionary<int16, string>      text domain
    token      int32                          id that the model read at this position
    experts    fixed_size_list<int16>[L*M]    M best router candidates of each layer, the used ones first
    probs      fixed_size_list<float16>[L*M]  their router probabilities; NaN if not recorded
    lookahead  fixed_size_list<int16>[L*D*M]  candidates of the routers of layers l+1, ..., l+D for the input of layer
                                              l, where D is `lookahead_depth`; -1 beyond the last layer

The first `top_k` of a layer's M experts are the demand. If a full expert dropped the token they are -1: no expert
ran, and the candidates follow from index `top_k` on. Rows are ordered by sequence, then position.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specmoe.errors import TraceError
from specmoe.files import reason

MAX_EXPERTS = 1 << 15
SCHEMA_VERSION = 1
METADATA_KEY = b"specmoe"
ROW_GROUP = 65_536  # tokens per row group: 20 MB in memory for 6 layers of 8 candidates
Phase = Literal["encode", "decode"]
Kind = Literal["pretrained", "trained-here", "random", "synthetic"]
Origin = Literal["teacher-forced", "generated", "imported", "synthetic"]


class Block(NamedTuple):
    """Consecutive rows of a trace as arrays: n tokens, L layers, M candidates, D look-ahead depths.

    `source` holds codes into `TraceMeta.sources`. Depth d of the look-ahead is at index d - 1.
    """

    sequence: NDArray[np.int32]  # [n]
    position: NDArray[np.int32]  # [n]
    source: NDArray[np.int16]  # [n]
    token: NDArray[np.int32]  # [n]
    experts: NDArray[np.int16]  # [n, L, M]
    probs: NDArray[np.float16]  # [n, L, M]
    lookahead: NDArray[np.int16]  # [n, L, D, M]


@dataclass(frozen=True)
class TraceMeta:
    """Origin and shape of a trace; stored as JSON in the file's metadata.

    `num_layers` counts the MoE layers of this phase; `lookahead_depth` is 1 if there is no look-ahead. Dimensions that
    an importer could not know are None. Raises TraceError if a field contradicts the schema.
    """

    phase: Phase
    kind: Kind
    origin: Origin
    model: str
    num_experts: int
    num_layers: int
    top_k: int
    candidates: int
    sources: tuple[str, ...]
    corpus: str
    split: str = "all"
    seed: int = 0
    dropless: bool = True
    has_probs: bool = True
    has_lookahead: bool = True
    lookahead_depth: int = 1
    d_model: int | None = None
    d_ff: int | None = None
    tokenizer: str | None = None
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name, kinds in (("phase", Phase), ("kind", Kind), ("origin", Origin)):
            if getattr(self, name) not in get_args(kinds):
                raise TraceError(f"{name} is {getattr(self, name)!r}: one of {', '.join(get_args(kinds))} expected")
        if not 1 <= self.top_k <= self.candidates <= self.num_experts:
            raise TraceError(
                f"1 <= top_k <= candidates <= num_experts expected, not "
                f"{self.top_k}, {self.candidates}, {self.num_experts}"
            )
        if self.num_experts > MAX_EXPERTS:
            raise TraceError(f"num_experts is {self.num_experts}: at most {MAX_EXPERTS} expected, as ids have 16 bits")
        if self.lookahead_depth < 1 or (self.lookahead_depth > 1 and not self.has_lookahead):
            bound = "at least 1" if self.has_lookahead else "1, for has_lookahead is false,"
            raise TraceError(f"lookahead_depth is {self.lookahead_depth}: {bound} expected")
        if self.schema_version != SCHEMA_VERSION:
            raise TraceError(f"schema version {self.schema_version}: this specmoe reads {SCHEMA_VERSION}")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each list column in one row: [L, M], or [L, D, M] for the look-ahead."""
        candidates = (self.num_layers, self.candidates)
        ahead = (self.num_layers, self.lookahead_depth, self.candidates)
        return {"experts": candidates, "probs": candidates, "lookahead": ahead}

    def domains(self, source: NDArray[np.int16]) -> tuple[str, ...]:
        """Names of the text domains among codes, by alphabet."""
        return tuple(sorted(self.sources[code] for code in np.unique(source)))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings that every result made from this trace must repeat."""
        return {
            "random": (f"routing of {self.model} is random: its weights were never trained",),
            "synthetic": ("routing is synthetic: no model produced it",),
        }.get(self.kind, ())

    def to_json(self) -> str:
        """The metadata as one JSON object with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "TraceMeta":
        """Metadata from the JSON that `to_json` writes; raises TraceError for missing, unknown or mistyped fields."""
        try:
            raw: dict[str, Any] = json.loads(text)
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
            meta = cls(**fields)
        except TraceError:
            raise
        except Exception as error:  # a file of unknown origin may hold any JSON
            raise TraceError(f"trace metadata: {reason(error)}") from None
        for name, kind in get_type_hints(cls).items():
            if kind in (int, bool, str) and type(getattr(meta, name)) is not kind:
                raise TraceError(f"trace metadata: {name} is {getattr(meta, name)!r}: {kind.__name__} expected")
        return meta


def no_lookahead(experts: NDArray[np.int16]) -> NDArray[np.int16]:
    """Empty look-ahead, [n, L, 1, M], for a trace with experts [n, L, M] and no look-ahead."""
    return np.full_like(experts[:, :, np.newaxis], -1)


def arrow_schema(meta: TraceMeta) -> pa.Schema:
    """Arrow schema of a trace file, with its metadata."""

    def lists(name: str, kind: pa.DataType) -> pa.DataType:
        return pa.list_(pa.field("element", kind, nullable=False), math.prod(meta.shapes[name]))

    columns = [
        ("sequence", pa.int32()),
        ("position", pa.int32()),
        ("source", pa.dictionary(pa.int16(), pa.string())),
        ("token", pa.int32()),
        ("experts", lists("experts", pa.int16())),
        ("probs", lists("probs", pa.float16())),
        ("lookahead", lists("lookahead", pa.int16())),
    ]
    fields = [pa.field(name, kind, nullable=False) for name, kind in columns]
    return pa.schema(fields, metadata={METADATA_KEY: meta.to_json().encode()})


def to_arrow(block: Block, meta: TraceMeta) -> pa.RecordBatch:
    """Record batch of `arrow_schema(meta)`; contiguous arrays are not copied."""
    schema = arrow_schema(meta)

    def lists(name: str, values: NDArray[Any]) -> pa.Array:
        kind = schema.field(name).type
        return pa.FixedSizeListArray.from_arrays(_numbers(values, kind.value_type), type=kind)

    source = pa.DictionaryArray.from_arrays(_numbers(block.source, pa.int16()), _texts(meta.sources))
    arrays = [
        _numbers(block.sequence, pa.int32()),
        _numbers(block.position, pa.int32()),
        source,
        _numbers(block.token, pa.int32()),
        lists("experts", block.experts),
        lists("probs", block.probs),
        lists("lookahead", block.lookahead),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _numbers(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """The values in one row, not copied if they are contiguous; `pa.array` would import pandas."""
    flat = np.ascontiguousarray(values, kind.to_pandas_dtype()).reshape(-1)
    return pa.Array.from_buffers(kind, len(flat), [None, pa.py_buffer(flat)])


def _texts(values: Sequence[str]) -> pa.Array:
    texts = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))])


def select(block: Block, rows: slice | NDArray[Any]) -> Block:
    """Rows of a block selected by a slice, mask or index array."""
    return Block._make(column[rows] for column in block)


def join(blocks: Sequence[Block]) -> Block:
    """One block with the rows of one or more blocks."""
    return Block._make(map(np.concatenate, zip(*blocks, strict=True)))


def round_probs(block: Block, bits: int) -> Block:
    """Round probabilities to `bits` significant bits (float16 has 11) for smaller files; error <= 2**-bits.

    Keeps the order. Rounds to nearest, ties to even, on the bit patterns, whose integer order is that of the values.
    """
    if bits >= 11:
        return block
    spare = 11 - bits
    raw = block.probs.view(np.uint16).astype(np.uint32)
    rounded = (raw + ((1 << (spare - 1)) - 1 + (raw >> spare & 1)) >> spare << spare).astype(np.uint16)
    probs = np.where(np.isnan(block.probs), block.probs, rounded.view(np.float16))
    return block._replace(probs=probs)


def limit_lookahead(block: Block, depth: int) -> Block:
    """Block with only depths 1 to `depth` of the look-ahead."""
    return block._replace(lookahead=block.lookahead[:, :, :depth])


def regroup(blocks: Iterable[Block], rows: int = ROW_GROUP) -> Iterator[Block]:
    """The same rows in blocks of `rows` tokens; the last block may be shorter."""
    pending: list[Block] = []
    for block in blocks:
        pending.append(block)
        if sum(len(part.sequence) for part in pending) >= rows:
            joined = join(pending)
            full = len(joined.sequence) // rows * rows
            yield from (select(joined, slice(start, start + rows)) for start in range(0, full, rows))
            pending = [select(joined, slice(full, None))]
    if any(len(part.sequence) for part in pending):
        yield join(pending)
