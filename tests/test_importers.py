"""Traces recorded by others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from random_traces import META, random_block

from specmoe.errors import InputError, SpecmoeError
from specmoe.traces import Trace
from specmoe.traces.importers import Options, import_trace
from specmoe.traces.validation import validate

SIXTEEN = Options(num_experts=16)


def imported(path: Path, format_name: str, options: Options = SIXTEEN) -> Trace:
    out = path.with_name("imported.parquet")
    import_trace(path, format_name, out, options)
    trace = Trace(out)
    assert validate(trace) == len(trace)
    assert trace.meta.origin == "imported"
    assert not trace.meta.has_lookahead and (trace.lookahead == -1).all() and trace.lookahead.shape[2] == 1
    return trace


def refused(path: Path, format_name: str, options: Options = SIXTEEN) -> str:
    """The one line an import ends with; nothing may have been written."""
    out = path.with_name("imported.parquet")
    with pytest.raises(SpecmoeError) as caught:
        import_trace(path, format_name, out, options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert not out.exists()
    return message


# Long tables: 2 tokens, layers numbered 1 and 3 (dense ones between them), top-2, rows in no order

ROWS = [
    {"sequence": 0, "token": 1, "layer": 3, "experts": [7, 2], "weights": [0.5, 0.25]},
    {"sequence": 0, "token": 0, "layer": 1, "experts": [3, 5], "weights": [0.75, 0.125]},
    {"sequence": 0, "token": 1, "layer": 1, "experts": [4, 0], "weights": [0.5, 0.5]},
    {"sequence": 0, "token": 0, "layer": 3, "experts": [1, 2], "weights": [1.0, 0.0]},
]
EXPERTS = [[[3, 5], [1, 2]], [[4, 0], [7, 2]]]
PROBS = [[[0.75, 0.125], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.25]]]


def write_jsonl(path: Path, rows: list[dict[str, Any]], header: dict[str, Any] | None = None) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in ([header] if header else []) + rows))
    return path


def write_csv(path: Path, rows: list[dict[str, Any]], separator: str = " ") -> Path:
    text = [
        {name: separator.join(map(str, v)) if isinstance(v, list) else v for name, v in row.items()} for row in rows
    ]
    pd.DataFrame(text).to_csv(path, index=False)
    return path


def with_row(number: int, **changes: Any) -> list[dict[str, Any]]:
    return [row | changes if at == number else row for at, row in enumerate(ROWS)]


def test_a_long_table_by_hand(tmp_path: Path) -> None:
    trace = imported(write_jsonl(tmp_path / "t.jsonl", ROWS), "long")
    assert trace.experts.tolist() == EXPERTS
    assert trace.probs.tolist() == PROBS
    assert trace.position.tolist() == [0, 1]
    assert trace.token.tolist() == [-1, -1]
    assert (trace.meta.num_layers, trace.meta.top_k, trace.meta.candidates) == (2, 2, 2)
    assert "layers in the file: 1 3" in trace.meta.notes
    assert trace.meta.sources == ("unknown",)


@pytest.mark.parametrize("separator", [" ", ";", ", ", " ; "])
def test_lists_in_csv(tmp_path: Path, separator: str) -> None:
    trace = imported(write_csv(tmp_path / "t.csv", ROWS, separator), "long")
    assert trace.experts.tolist() == EXPERTS
    assert trace.probs.tolist() == PROBS


def test_json_lists_in_csv(tmp_path: Path) -> None:
    rows = [row | {"experts": json.dumps(row["experts"])} for row in ROWS]
    assert imported(write_csv(tmp_path / "t.csv", rows), "long").experts.tolist() == EXPERTS


def test_parquet_as_pandas_writes_it(tmp_path: Path) -> None:
    pd.DataFrame(ROWS).assign(source=["a", "b", "a", "b"]).to_parquet(tmp_path / "t.parquet")
    trace = imported(tmp_path / "t.parquet", "long")
    assert trace.experts.tolist() == EXPERTS
    assert [trace.meta.sources[code] for code in trace.source] == ["b", "a"]


def test_single_experts_without_weights_and_named_sequences(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("request_id,position,token_id,layer_idx,expert\nb,0,17,0,3\nb,1,18,0,4\na,0,19,0,5\n")
    trace = imported(path, "long")
    assert trace.experts.reshape(-1).tolist() == [3, 4, 5]
    assert trace.sequence.tolist() == [0, 0, 1]
    assert trace.token.tolist() == [17, 18, 19]
    assert not trace.meta.has_probs and np.isnan(trace.probs).all()


def test_only_the_phase_asked_for(tmp_path: Path) -> None:
    rows = [row | {"phase": "prefill" if row["token"] == 0 else "decode"} for row in ROWS]
    path = write_jsonl(tmp_path / "t.jsonl", rows)
    assert imported(path, "long").position.tolist() == [1]
    encode = imported(path, "long", Options(phase="encode", num_experts=16))
    assert encode.position.tolist() == [0] and encode.meta.phase == "encode"
    rows = [row | {"phase": "prefill"} for row in ROWS]
    other = write_jsonl(tmp_path / "other.jsonl", rows)
    other.with_name("imported.parquet").unlink()
    assert "phase: no row of decode" in refused(other, "long")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"top_k": 0}, "--top-k 0: at least 1 expected"),
        ({"top_k": -1}, "--top-k -1: at least 1 expected"),
        ({"top_k": 9}, "--top-k 9: at most 2 expected"),
        ({"num_experts": 0}, "--num-experts 0: at least 1 expected"),
        ({"num_experts": -4}, "--num-experts -4: at least 1 expected"),
        ({"num_experts": 10**9}, "--num-experts 1000000000: at most 32,768 expected"),
    ],
)
def test_numbers_of_no_sense_are_refused(tmp_path: Path, changes: dict[str, int], told: str) -> None:
    np.save(tmp_path / "x.npy", np.array([[[0, 1], [2, 3]]], np.int16))
    with pytest.raises(InputError, match=f"^{told}$"):
        imported(tmp_path / "x.npy", "vllm", dataclasses.replace(SIXTEEN, **changes))


def test_fewer_used_than_named(tmp_path: Path) -> None:
    rows = [row | {"weights": sorted(row["weights"], reverse=True)} for row in ROWS]
    trace = imported(write_jsonl(tmp_path / "t.jsonl", rows), "long", Options(num_experts=16, top_k=1))
    assert (trace.meta.top_k, trace.meta.candidates) == (1, 2)


BAD_ROWS: list[tuple[list[dict[str, Any]], str]] = [
    ([*ROWS, ROWS[1]], "row 4: layer: sequence 0, position 0, layer 1 is in row 1 already"),
    (ROWS[:3], "row 1: layer: this token has no layer 3"),
    (with_row(2, experts=[4]), "row 2: experts: 1 numbers, but 2 in row 0"),
    (with_row(2, experts=[4, 16]), r"row 2: experts: [4, 16]: ids 0..15 expected"),
    (with_row(2, experts=[4, -1]), r"row 2: experts: [4, -1]: ids 0..15 expected"),
    (with_row(2, experts=[4, 10**9]), r"row 2: experts: [4, 1000000000]: ids 0..15 expected"),
    (with_row(2, experts=[4, 4]), r"row 2: experts: [4, 4]: different ids expected"),
    (with_row(2, experts=[]), "row 2: experts: 0 numbers"),
    (with_row(2, experts=[4, None]), "row 2: experts: numbers expected"),
    (with_row(2, experts=None), "row 2: experts: a value expected"),
    (with_row(2, experts=[4, 0.5]), "experts: lists of int64 expected"),
    (with_row(2, weights=[0.5]), "row 2: weights: 1 numbers"),
    (with_row(2, weights=[0.5, 1.5]), "row 2: weights: [0.5, 1.5]: numbers between 0 and 1"),
    (with_row(2, weights=None), "row 2: weights: a value expected"),
    ([row | {"weights": [0.5]} for row in ROWS], "weights: 1 a row: 2 expected"),
    (with_row(2, layer=None), "row 2: layer: a value expected"),
    (with_row(2, layer=-1), "row 2: layer: -1: an integer of 0 or more"),
    (with_row(2, sequence=2**31), "row 2: sequence: 2147483648: an integer"),
    (with_row(2, token=0.5), "position: integers expected"),
    ([row | {"position": row["token"], "token": row["layer"]} for row in ROWS], "token: differs between layers"),
    ([{"sequence": 0, "layer": 1, "experts": [1]}], "column position missing"),
    ([{"token": 0, "layer": 1, "experts": [1]}], "column sequence missing"),
    ([{"sequence": 0, "token": 0, "layer": 1}], "column experts missing"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS, ids=[message for _, message in BAD_ROWS])
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    assert message in refused(write_jsonl(tmp_path / "t.jsonl", rows), "long")


def test_rows_are_numbered_as_in_the_file_when_a_phase_is_chosen(tmp_path: Path) -> None:
    rows = [row | {"phase": "prefill" if row["token"] == 0 else "decode"} for row in [*ROWS, ROWS[2]]]
    assert "row 4: layer: sequence 0, position 1, layer 1 is in row 2" in refused(
        write_jsonl(tmp_path / "t.jsonl", rows), "long"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Empty CSV"),
        ("sequence,token,layer,experts\n", "at least one row"),
        ("sequence,token,layer,experts\n0,0,0,1 x\n", "row 0: experts: numbers separated by"),
        ("sequence,token,layer,experts\n0,0,0,1\n0,1,zero,1\n", "row 1: layer: an integer expected"),
        ("sequence,token,layer,experts\n0,0,0\n", "3"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert message in refused(tmp_path / "t.csv", "long")


def test_files_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("x")
    assert ".csv, .jsonl or .parquet expected" in refused(tmp_path / "t.txt", "long")
    assert "no such file" in refused(tmp_path / "absent.csv", "long")
    path = write_jsonl(tmp_path / "t.jsonl", ROWS)
    assert "--num-experts expected" in refused(path, "long", Options())
    with pytest.raises(InputError, match="one of gptoss, llama, long, megatron, policylang, vllm"):
        import_trace(path, "hf", tmp_path / "out.parquet", SIXTEEN)


def test_a_line_of_null_is_refused_before_it_crashes_the_parser(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", ROWS)
    for text in ("null\n" + path.read_text(), path.read_text() + " null\n"):
        path.write_text(text)
        assert "a line is null and no JSON object" in refused(path, "long")


@examples(20)
@given(n=st.integers(1, 30), layers=st.integers(1, 4), k=st.integers(1, 4), seed=st.integers(0, 99))
def test_any_shuffled_long_table_comes_back(
    tmp_path_factory: pytest.TempPathFactory, n: int, layers: int, k: int, seed: int
) -> None:
    meta = dataclasses.replace(META, num_layers=layers, top_k=k, candidates=k)
    block = random_block(n, meta, seed)
    rows = [
        {
            "seq": int(block.sequence[token]),
            "pos": int(block.position[token]),
            "token_id": int(block.token[token]),
            "layer": 2 * layer + 1,
            "experts": block.experts[token, layer].tolist(),
            "probs": block.probs[token, layer].tolist(),
            "domain": META.sources[block.source[token]],
        }
        for token, layer in np.ndindex(n, layers)
    ]
    np.random.default_rng(seed).shuffle(rows)
    trace = imported(write_jsonl(tmp_path_factory.mktemp("t") / "t.jsonl", rows), "long")
    for name in ("sequence", "position", "token", "experts", "probs"):
        np.testing.assert_array_equal(getattr(trace, name), getattr(block, name))
    assert [trace.meta.sources[code] for code in trace.source] == [META.sources[code] for code in block.source]


# moe-policylang

HEADER = {"model_name": "olmoe", "num_layers": 2, "num_experts": 16, "top_k": 2, "num_entries": 4}
SHORT = [
    {"p": row["sequence"], "t": row["token"], "l": row["layer"], "e": row["experts"], "s": row["weights"], "dm": "code"}
    for row in ROWS
]


def test_policylang_jsonl(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", SHORT, HEADER)
    trace = imported(path, "policylang", Options())
    assert trace.experts.tolist() == EXPERTS
    assert trace.probs.tolist() == PROBS
    assert (trace.meta.model, trace.meta.num_experts, trace.meta.sources) == ("olmoe", 16, ("code",))


def test_policylang_without_scores(tmp_path: Path) -> None:
    rows = [row | {"s": None, "ti": 5} for row in SHORT]
    trace = imported(write_jsonl(tmp_path / "t.jsonl", rows, HEADER), "policylang", Options())
    assert not trace.meta.has_probs
    assert trace.token.tolist() == [5, 5]


def test_policylang_parquet(tmp_path: Path) -> None:
    columns = {
        "prompt_id": pa.array([row["sequence"] for row in ROWS], pa.int32()),
        "token_idx": pa.array([row["token"] for row in ROWS], pa.int32()),
        "layer_idx": pa.array([row["layer"] for row in ROWS], pa.int32()),
        "selected_experts": pa.array([row["experts"] for row in ROWS], pa.list_(pa.int32())),
        "router_scores": pa.array([row["weights"] for row in ROWS], pa.list_(pa.float32())),
        "phase": pa.array(["decode"] * 4),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    trace = imported(tmp_path / "t.parquet", "policylang", Options(num_experts=16, model="olmoe"))
    assert trace.experts.tolist() == EXPERTS
    assert trace.meta.model == "olmoe"


@pytest.mark.parametrize("header", [None, {"model_name": "x"}, {"model_name": "x", "num_experts": "16"}])
def test_policylang_without_its_header(tmp_path: Path, header: dict[str, Any] | None) -> None:
    assert "first line" in refused(write_jsonl(tmp_path / "t.jsonl", SHORT, header), "policylang", Options())


# vLLM


def routed(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int16]]:
    tokens, layers, k = shape
    return np.random.default_rng(seed).random((tokens, layers, 16)).argsort(-1)[..., :k].astype(np.int16)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8"])
def test_a_vllm_array_is_a_sequence(tmp_path: Path, dtype: str) -> None:
    array = routed(5, 3, 2).astype(dtype)
    np.save(tmp_path / "t.npy", array)
    trace = imported(tmp_path / "t.npy", "vllm")
    np.testing.assert_array_equal(trace.experts, array)
    assert trace.position.tolist() == [0, 1, 2, 3, 4]


def test_vllm_arrays_are_sequences(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", b=routed(2, 3, 2), a=routed(1, 3, 2, seed=1))
    trace = imported(tmp_path / "t.npz", "vllm")
    assert trace.sequence.tolist() == [0, 0, 1]
    assert trace.position.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((2, 3))}, "a is float64[2, 3]: integers [tokens, layers, k] expected"),
        ({"a": np.zeros((2, 3, 1))}, "a is float64[2, 3, 1]"),
        ({"a": np.zeros((0, 3, 1), int)}, "a is int64[0, 3, 1]"),
        ({"a": routed(2, 3, 2), "b": routed(2, 4, 2)}, "b is [2, 4, 2]: [tokens, 3, 2] expected, as in a"),
        ({"a": routed(2, 3, 2), "b": routed(2, 3, 1)}, "b is [2, 3, 1]"),
        ({"a": np.zeros((2, 3, 2), int)}, "every id is 0, as in a dense layer: a layer with others expected"),
        ({"a": np.ones((2, 3, 2), int)}, "row 0 (sequence 0, position 0), layer 0: experts is [1, 1]: distinct"),
        ({"a": routed(2, 3, 2), "b": routed(2, 3, 2) + 100}, "row 2 (sequence 1, position 0), layer 0: experts"),
        ({"a": routed(2, 3, 2).astype(np.int64) + 2**40}, "row 0 (sequence 0, position 0), layer 0: experts"),
        ({"a": np.full((2, 3, 1), 255, np.uint8)}, "experts is [255]: ids 0..15 expected"),
        ({"a": np.array([[[object()]]])}, "plain integers ("),
        ({}, "holds no array"),
    ],
)
def test_bad_vllm_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    assert message in refused(tmp_path / "t.npz", "vllm")


def test_no_numpy_file(tmp_path: Path) -> None:
    (tmp_path / "t.npy").write_bytes(b"garbage")
    assert "plain integers (" in refused(tmp_path / "t.npy", "vllm")
    np.savez(tmp_path / "t.npz", a=routed(50, 3, 2))
    (tmp_path / "t.npz").write_bytes((tmp_path / "t.npz").read_bytes()[:-30])
    assert "plain integers (" in refused(tmp_path / "t.npz", "vllm")


# gpt-oss: 24 layers of 4, as in the published file


def gptoss_table(n: int = 6, **columns: Any) -> pa.Table:
    block = random_block(n, dataclasses.replace(META, num_experts=32, num_layers=24, top_k=4))
    sequences = [
        {"seq": 4, "dataset": "gpqa", "category": "Genetics"},
        {"seq": 9, "dataset": "mmlu", "category": "law"},
    ]
    wide = {"expert_ids": (block.experts, pa.uint8()), "expert_probs": (block.probs, pa.float16())}
    lists = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind), 96)
        for name, (values, kind) in wide.items()
    }
    table = {"seq": pa.array([4] * 3 + [9] * (n - 3), pa.int32()), "pos": pa.array([*range(70, 73), *range(n - 3)])}
    metadata = {"origin": "somebody, Apache-2.0", "sequences": json.dumps(sequences)}
    return pa.table(table | lists | columns).replace_schema_metadata(metadata)


def test_gptoss(tmp_path: Path) -> None:
    table = gptoss_table()
    pq.write_table(table, tmp_path / "t.parquet")
    trace = imported(tmp_path / "t.parquet", "gptoss", Options())
    assert (trace.meta.model, trace.meta.num_experts, trace.meta.kind) == ("openai/gpt-oss-20b", 32, "pretrained")
    assert trace.meta.corpus == "somebody, Apache-2.0"
    assert trace.experts[2, 5].tolist() == table["expert_ids"][2].as_py()[20:24]
    assert trace.probs[2, 5].tolist() == table["expert_probs"][2].as_py()[20:24]
    assert trace.sequence.tolist() == [4, 4, 4, 9, 9, 9]
    assert [trace.meta.sources[code] for code in trace.source[[0, 5]]] == ["gpqa/Genetics", "mmlu/law"]
    assert (trace.token == -1).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pos": pa.array([70, 71, 71, 0, 1, 2])}, "row 2 (sequence 4, position 71): position is 71: a second row"),
        ({"pos": pa.array([71, 70, 72, 0, 1, 2])}, "row 1 (sequence 4, position 70): position is 70: rows ordered"),
        ({"pos": pa.array(["x"] * 6)}, "row 0: pos: an integer expected"),
        ({"expert_ids": pa.array([[1] * 95] * 6)}, "expert_ids of 95"),
        ({"expert_ids": pa.array([[1] * 95] * 5 + [[1] * 96])}, "row 5: expert_ids: 96 numbers, but 95 in row 0"),
        ({"expert_ids": pa.array([[1, 2, 3, 32] * 24] * 6)}, "layer 0: experts is [1, 2, 3, 32]: ids 0..31"),
        ({"expert_probs": pa.array([[2.0] * 96] * 6)}, "layer 0: probs is [2.0, 2.0, 2.0, 2.0]: numbers between"),
    ],
)
def test_bad_gptoss(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    pq.write_table(gptoss_table(**columns), tmp_path / "t.parquet")
    assert message in refused(tmp_path / "t.parquet", "gptoss", Options())


def test_no_gptoss(tmp_path: Path) -> None:
    pq.write_table(gptoss_table().drop_columns(["seq"]), tmp_path / "t.parquet")
    assert "column seq missing" in refused(tmp_path / "t.parquet", "gptoss")
    pq.write_table(gptoss_table().replace_schema_metadata({"sequences": "{"}), tmp_path / "t.parquet")
    assert "metadata `sequences` is a list" in refused(tmp_path / "t.parquet", "gptoss")
    (tmp_path / "t.parquet").write_text("x")
    assert "not a whole Parquet file" in refused(tmp_path / "t.parquet", "gptoss")
