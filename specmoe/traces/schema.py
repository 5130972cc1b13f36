"""What a trace is.

A file holds one phase of one model. One row is one token, and the routing of all its MoE layers is in that row:

    sequence   int32                          which text; `encode` and `decode` files of one run share the numbering
    position   int32                          0, 1, 2, ... within the sequence
    source     dictionary<int16, string>      text domain
    token      int32                          the id that entered the model at this position
    experts    fixed_size_list<int16>[L*M]    the M best router candidates of each layer, those really used first
    probs      fixed_size_list<float16>[L*M]  their router probabilities; NaN where nobody recorded them
    lookahead  fixed_size_list<int16>[L*D*M]  layer l's input through the routers of layers l+1, ..., l+D, where D is
                                              `lookahead_depth`; -1 where there is no such layer

The first `top_k` of a layer's M experts are the demand. Where a full expert dropped the token they are -1: nothing
ran, and the candidates follow from place `top_k` on. Rows are ordered by sequence, then position.

Picking and joining rows of blocks.
"""

from __future__ import annotations

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

SCHEMA_VERSION = 1
METADATA_KEY = b"specmoe"

Phase = Literal["encode", "decode"]
Kind = Literal["pretrained", "trained-here", "random", "synthetic"]
Origin = Literal["teacher-forced", "generated", "imported", "synthetic"]


class Block(NamedTuple):
    """Consecutive rows of a trace as arrays; n tokens, L layers, M candidates, look-ahead over 1 to D layers.

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
    """Where a trace comes from and what shape it has; stored as JSON in the file's metadata.

    `num_layers` counts the MoE layers of this phase; `lookahead_depth` is 1 where there is no look-ahead. Dimensions
    that an importer could not know are None.
    Raises TraceError if a field contradicts the schema.
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
        if self.lookahead_depth < 1 or (self.lookahead_depth > 1 and not self.has_lookahead):
            wanted = "at least 1" if self.has_lookahead else "1, for has_lookahead is false,"
            raise TraceError(f"lookahead_depth is {self.lookahead_depth}: {wanted} expected")
        if self.schema_version != SCHEMA_VERSION:
            raise TraceError(f"schema version {self.schema_version}: this specmoe reads {SCHEMA_VERSION}")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What a row's lists hold: [L, M], in the look-ahead's [L, D, M]."""
        candidates = (self.num_layers, self.candidates)
        ahead = (self.num_layers, self.lookahead_depth, self.candidates)
        return {"experts": candidates, "probs": candidates, "lookahead": ahead}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What every result made from this trace must repeat."""
        return {
            "random": (f"routing of {self.model} is random: its weights were never trained",),
            "synthetic": ("routing is synthetic: no model produced it",),
        }.get(self.kind, ())

    def to_json(self) -> str:
        """One JSON object, keys sorted."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> TraceMeta:
        """Inverse of `to_json`; raises TraceError for missing, unknown or mistyped fields."""
        try:
            raw: dict[str, Any] = json.loads(text)
            known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
            meta = cls(**known)
        except TraceError:
            raise
        except Exception as error:  # anything may be in another's JSON
            raise TraceError(f"trace metadata: {reason(error)}") from None
        for name in get_type_hints(cls):
            wanted = cls.__dataclass_fields__[name].type
            if wanted in ("int", "bool", "str") and type(getattr(meta, name)).__name__ != wanted:
                raise TraceError(f"trace metadata: {name} is {getattr(meta, name)!r}: {wanted} expected")
        return meta


def no_lookahead(experts: NDArray[np.int16]) -> NDArray[np.int16]:
    """The look-ahead [n, L, 1, M] of a trace that has none, whose experts are [n, L, M]."""
    return np.full_like(experts[:, :, np.newaxis], -1)


def arrow_schema(meta: TraceMeta) -> pa.Schema:
    """The columns of a trace file, with its metadata attached."""

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
    """One record batch of `arrow_schema(meta)`; copies nothing that is contiguous."""
    schema = arrow_schema(meta)

    def lists(name: str, values: NDArray[Any]) -> pa.Array:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, type=schema.field(name).type)

    source = pa.DictionaryArray.from_arrays(pa.array(block.source, pa.int16()), pa.array(meta.sources, pa.string()))
    arrays = [
        pa.array(block.sequence, pa.int32()),
        pa.array(block.position, pa.int32()),
        source,
        pa.array(block.token, pa.int32()),
        lists("experts", block.experts),
        lists("probs", block.probs),
        lists("lookahead", block.lookahead),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


ROW_GROUP = 65_536  # tokens a row group: 20 MB in memory for 6 layers of 8 candidates


def select(block: Block, rows: slice | NDArray[Any]) -> Block:
    """The rows of a block that a slice, mask or index array picks."""
    return Block._make(column[rows] for column in block)


def join(blocks: Sequence[Block]) -> Block:
    """One block of the rows of at least one."""
    return Block._make(map(np.concatenate, zip(*blocks, strict=True)))


def round_probs(block: Block, bits: int) -> Block:
    """Probabilities to `bits` significant binary digits (float16 has 11): smaller files, order kept, error <= 2**-bits.

    Rounds to nearest, ties to even, in the integers whose order is that of the float16s.
    """
    if bits >= 11:
        return block
    spare = 11 - bits
    raw = block.probs.view(np.uint16).astype(np.uint32)
    rounded = (raw + ((1 << (spare - 1)) - 1 + (raw >> spare & 1)) >> spare << spare).astype(np.uint16)
    probs = np.where(np.isnan(block.probs), block.probs, rounded.view(np.float16))
    return block._replace(probs=probs)


def limit_lookahead(block: Block, depth: int) -> Block:
    """Only depths 1 to `depth` of the look-ahead."""
    return block._replace(lookahead=block.lookahead[:, :, :depth])


def regroup(blocks: Iterable[Block], rows: int = ROW_GROUP) -> Iterator[Block]:
    """The same rows in blocks of `rows` tokens; the last may be shorter."""
    held: list[Block] = []
    for block in blocks:
        held.append(block)
        if sum(len(part.sequence) for part in held) >= rows:
            whole = join(held)
            full = len(whole.sequence) // rows * rows
            yield from (select(whole, slice(start, start + rows)) for start in range(0, full, rows))
            held = [select(whole, slice(full, None))]
    if any(len(part.sequence) for part in held):
        yield join(held)
