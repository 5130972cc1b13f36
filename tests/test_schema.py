"""The metadata and columns of a trace."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_traces import META, random_block

from specmoe.errors import TraceError
from specmoe.traces.schema import METADATA_KEY, TraceMeta, arrow_schema, to_arrow

texts = st.text(max_size=8)
metas = st.builds(
    dataclasses.replace,
    st.just(META),
    phase=st.sampled_from(["encode", "decode"]),
    kind=st.sampled_from(["pretrained", "trained-here", "random", "synthetic"]),
    origin=st.sampled_from(["teacher-forced", "generated", "imported", "synthetic"]),
    model=texts,
    num_layers=st.integers(1, 99),
    sources=st.lists(texts, max_size=3).map(tuple),
    seed=st.integers(),
    dropless=st.booleans(),
    d_model=st.none() | st.integers(1, 9999),
    tokenizer=st.none() | texts,
    versions=st.dictionaries(texts, texts, max_size=2),
    notes=st.lists(texts, max_size=2).map(tuple),
)


@given(metas)
def test_metadata_survive_json(meta: TraceMeta) -> None:
    assert TraceMeta.from_json(meta.to_json()) == meta


def test_equal_metadata_give_equal_json() -> None:
    one = dataclasses.replace(META, versions={"a": "1", "b": "2"})
    other = dataclasses.replace(META, versions={"b": "2", "a": "1"})
    assert one.to_json() == other.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phase": "train"}, "phase is 'train'"),
        ({"kind": "guessed"}, "kind is 'guessed'"),
        ({"origin": "nowhere"}, "origin is 'nowhere'"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 5}, "top_k"),
        ({"candidates": 17}, "num_experts"),
        ({"schema_version": 2}, "schema version 2"),
        ({"num_layers": "3"}, "num_layers is '3'"),
        ({"lookahead_depth": 0}, "lookahead_depth is 0: at least 1 expected"),
        ({"lookahead_depth": 3, "has_lookahead": False}, "lookahead_depth is 3: 1, for has_lookahead is false"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"dropless": "yes"}, "dropless is 'yes'"),
        ({"model": None}, "model is None"),
        ({"colour": "red"}, "colour"),
        ({"num_experts": 1 << 31}, "at most 32768 expected"),
        ({"num_experts": "many"}, "trace metadata"),
    ],
)
def test_wrong_metadata_are_named(change: dict[str, Any], message: str) -> None:
    text = json.dumps(json.loads(META.to_json()) | change)
    with pytest.raises(TraceError, match=message) as caught:
        TraceMeta.from_json(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"phase": "decode"}'])
def test_metadata_that_are_no_metadata(text: str) -> None:
    with pytest.raises(TraceError, match="trace metadata"):
        TraceMeta.from_json(text)


@pytest.mark.parametrize(
    ("kind", "word"), [("random", "random"), ("synthetic", "synthetic"), ("pretrained", None), ("trained-here", None)]
)
def test_what_results_must_repeat(kind: Any, word: str | None) -> None:
    warnings = dataclasses.replace(META, kind=kind).warnings
    assert not warnings if word is None else word in warnings[0]


def test_columns_by_hand() -> None:
    schema = arrow_schema(META)
    assert schema.names == ["sequence", "position", "source", "token", "experts", "probs", "lookahead"]
    assert schema.field("experts").type.list_size == 3 * 4
    assert schema.field("experts").type.value_type == pa.int16()
    assert schema.field("probs").type.value_type == pa.float16()
    assert schema.field("lookahead").type == schema.field("experts").type
    deep = arrow_schema(dataclasses.replace(META, lookahead_depth=3))
    assert deep.field("lookahead").type.list_size == 3 * 3 * 4
    assert deep.field("experts").type.list_size == 3 * 4
    assert not any(field.nullable for field in schema)
    assert TraceMeta.from_json(schema.metadata[METADATA_KEY]) == META


@pytest.mark.parametrize("depth", [1, 3])
def test_a_block_goes_to_arrow_without_copying_lists(depth: int) -> None:
    meta = dataclasses.replace(META, lookahead_depth=depth)
    block = random_block(7, meta)
    batch = to_arrow(block, meta)
    assert batch.schema.equals(arrow_schema(meta), check_metadata=True)
    for name in ("experts", "lookahead"):
        flat = batch.column(name).flatten().to_numpy(zero_copy_only=True)
        assert np.shares_memory(flat, getattr(block, name))
    assert batch.column("source").to_pylist() == [META.sources[code] for code in block.source]
