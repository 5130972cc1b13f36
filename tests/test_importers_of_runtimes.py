"""Recordings of runtimes: golden files as vLLM, Megatron and llama-moe-trace write them, and broken ones."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.errors import SpecmoeError
from specmoe.traces import Trace
from specmoe.traces.importers import Options, import_trace
from specmoe.traces.validation import validate

RECORDINGS = Path(__file__).parent / "recordings"
EIGHT = {"num_experts": 8}


def imported(tmp_path: Path, files: Any, format_name: str, phase: Any = "decode", **options: Any) -> Trace:
    out = tmp_path / f"{phase}.parquet"
    import_trace(files, format_name, out, Options(phase, **(EIGHT | options)))
    trace = Trace(out)
    assert validate(trace) == len(trace)
    return trace


def refused(path: Path, format_name: str, **options: Any) -> str:
    with pytest.raises(SpecmoeError) as caught:
        import_trace(path, format_name, path.with_name("out.parquet"), Options(**(EIGHT | options)))
    assert "\n" not in str(caught.value)
    assert not path.with_name("out.parquet").exists()
    return str(caught.value)


def rows(trace: Trace) -> list[tuple[int, int]]:
    return list(zip(trace.sequence.tolist(), trace.position.tolist(), strict=True))


# Megatron: requests of 3 and 2 prompt tokens with 2 and 1 decode steps; the last step lacks a layer


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECORDINGS / "router_trace_rank0.jsonl").read_text().splitlines()]


def test_megatron_prefill_and_decode_of_a_request_have_one_number(tmp_path: Path) -> None:
    path = RECORDINGS / "router_trace_rank0.jsonl"
    prefill, decode = (imported(tmp_path, path, "megatron", phase) for phase in ("encode", "decode"))
    assert rows(prefill) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert rows(decode) == [(0, 3), (0, 4), (1, 2)]
    chosen = {(r["step"], r["layer"]): r["top_indices"] for r in records() if r["block"] == "decoder"}
    assert prefill.experts[:3, 0].tolist() == chosen[0, 3] and prefill.experts[:3, 1].tolist() == chosen[0, 5]
    assert decode.experts[:, 1].tolist() == [chosen[step, 5][0] for step in (1, 2, 4)]
    assert "3 of 5 forward passes are decode" in decode.meta.notes


def test_megatron_steps_of_one_size_are_prefills_or_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    step = {"block": "decoder", "layer": 0, "top_indices": [[1, 2], [3, 4]]}
    path.write_text("".join(json.dumps(step | {"step": number}) + "\n" for number in range(2)))
    assert rows(imported(tmp_path, path, "megatron", "encode")) == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert rows(imported(tmp_path, path, "megatron", "decode")) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def broken(number: int, **changes: Any) -> str:
    return "".join(
        json.dumps(record | changes if at == number else record) + "\n" for at, record in enumerate(records())
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            broken(0, top_indices=[[1, 8]] * 3),
            "(sequence 0, position 0), layer 0: experts is [1, 8]: ids 0..7 expected",
        ),
        (broken(0, top_indices=[[1, 2], [3]]), "a record whose top_indices are lists of equally many ids in line 1 ("),
        (broken(0, top_indices=[[2**70, 1]] * 3), "top_indices are lists of equally many ids in line 1 ("),
        (broken(0, top_indices="12"), "line 1: a record with step, layer and top_indices expected"),
        (broken(0, num_tokens=4), "line 1: num_tokens 4, topk 2: top_indices are [3, 2]"),
        (broken(1, layer=3), "line 2: layer 3: a second record of a layer in one pass"),
        (broken(4, num_tokens=2, top_indices=[[1, 2]] * 2), "line 5: layer 5: 2 tokens of 2 experts: 1 of 2 expected"),
        (broken(4, step=0), "line 4: a pass of 1 layers: 2 expected, as in the first"),
        ("[" * 5000 + "]" * 5000 + "\n", "not a JSON object in line 1 (nested too deeply)"),
        ("layer,expert\n", "not a JSON object in line 1 ("),
        ("", "no whole pass: at least one with all layers expected"),
    ],
)
def test_broken_megatron_is_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    assert message in refused(path, "megatron", phase="encode")


# llama-moe-trace: 3 prompt tokens, of which the last layer runs the last, and 2 generated ones


def test_llama_lines_leave_out_tokens_that_the_last_layer_did_not_run(tmp_path: Path) -> None:
    path = RECORDINGS / "moe-trace.txt"
    prefill, decode = (imported(tmp_path, path, "llama", phase) for phase in ("encode", "decode"))
    assert rows(prefill) == [(0, 0), (0, 1), (0, 2)] and rows(decode) == [(0, 3), (0, 4)]
    lines = [line.split() for line in path.read_text().splitlines()]
    ids = [[int(word.partition(":")[0]) for word in line[2:]] for line in lines]
    assert prefill.experts.tolist() == [[ids[token], ids[3 + token], [-1, -1]] for token in (0, 1)] + [
        [ids[2], ids[5], ids[6]]
    ]
    assert decode.experts.tolist() == [ids[7:10], ids[10:13]]
    assert (prefill.meta.dropless, decode.meta.dropless) == (False, True)


def test_llama_columns_need_the_number_of_experts_of_a_token(tmp_path: Path) -> None:
    path = RECORDINGS / "moe-trace.csv"
    decode = imported(tmp_path, path, "llama", top_k=2)
    values = np.loadtxt(path, int, delimiter=",", skiprows=1)[:, 1]
    assert decode.experts.tolist() == values[8:].reshape(2, 2, 2).tolist()
    assert rows(imported(tmp_path, path, "llama", "encode", top_k=2)) == [(0, 0), (0, 1)]
    assert "--top-k expected" in refused_copy(tmp_path, path.read_text())
    assert "4 experts of layer 0: a multiple of --top-k 3 expected" in refused_copy(tmp_path, path.read_text(), top_k=3)


def test_llama_columns_with_phases_and_ranks_say_where_all_belongs(tmp_path: Path) -> None:
    path = RECORDINGS / "moe-trace-ranked.csv"
    prefill, decode = (imported(tmp_path, path, "llama", phase) for phase in ("encode", "decode"))
    assert rows(prefill) == [(0, 0), (0, 1), (0, 2)] and rows(decode) == [(0, 3), (0, 4)]
    uses = [line.split(",") for line in path.read_text().splitlines()[1:]]
    for trace in (prefill, decode):
        for row, position in enumerate(trace.position):
            for layer in range(3):
                named = [int(use[4]) for use in uses if use[1:3] == [str(position), str(layer + 1)]]
                assert trace.experts[row, layer].tolist() == (named or [-1, -1])
    assert (prefill.meta.dropless, decode.meta.dropless) == (False, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("decode,0,1,0,3\ndecode,0,1,2,4\n", "row 0: rank: each of 0..2 once expected in every layer of a token"),
        ("decode,0,1,0,3\ndecode,0,1,0,4\n", "row 0: rank: each of 0..0 once expected in every layer of a token"),
        ("decode,0,1,0,3\ndecode,1,1,1,4\n", "row 0: rank: each of 0..1 once expected in every layer of a token"),
        ("decode,0,1,0,3\ndecode,0,2,0,4\ndecode,1,2,0,4\n", "layer 1: 1 tokens: 2 expected"),
        ("decode,0,1,0,x\n", "row 0: expert: an integer expected"),
        ("decode,0,1,0,9\n", "layer 0: experts is [9]: ids 0..7 expected"),
        ("prefill,0,1,0,3\n", "phase: no row of decode: choose the other with --phase"),
        ("decode,0,1,0\n", "not a whole .csv file ("),
    ],
)
def test_broken_ranks_are_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("phase,token,layer,rank,expert\n" + text)
    assert message in refused(path, "llama")


def refused_copy(tmp_path: Path, text: str, **options: Any) -> str:
    path = tmp_path / "copy.txt"
    path.write_text(text)
    return refused(path, "llama", **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty: lines of layer, token and experts, or a header layer,expert, expected"),
        ("layer,expert,count\n0,1,9\n", "counts of experts, which have no order: layer,expert expected"),
        ("layer,id\n0,1\n", "columns layer, id: layer,expert expected, a row per use"),
        ("0 0 1 2\n0 1 3\n", "line 2: 1 experts: as many in every line expected"),
        ("0 0 1 2\n0 2 3 4\n", "line 2: token 2: 1 expected, the next one of layer 0"),
        ("0 0 1 x\n", "line 1: whole numbers expected"),
        ("0 0 1 9999999\n", "experts is [1, 32767]: ids 0..7 expected"),
        ("0 0 1 2\n1 0 3 4\n0 0 1 2\n2 0 1 2\n0 0 1 2\n1 0 1 2\n3 0 1 2\n", "line 5: a pass of 3 layers: 2 expected"),
    ],
)
def test_broken_llama_is_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused_copy(tmp_path, text)


# vLLM: int16 [tokens, layers, k] of each request


def routed(tokens: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.argsort(rng.random((tokens, 3, 8)), axis=-1)[..., :2].astype(np.int16)


def test_vllm_files_are_requests_whose_prompt_is_apart(tmp_path: Path) -> None:
    files = [tmp_path / f"request{number}.npy" for number in range(2)]
    for number, path in enumerate(files):
        np.save(path, routed(5 + number, number))
    prefill, decode = (imported(tmp_path, files, "vllm", phase, prompt_tokens=(4,)) for phase in ("encode", "decode"))
    assert rows(prefill) == [(s, p) for s in (0, 1) for p in range(4)]
    assert rows(decode) == [(0, 4), (1, 4), (1, 5)]
    assert decode.experts.tolist() == [*routed(5, 0)[4:].tolist(), *routed(6, 1)[4:].tolist()]
    assert rows(imported(tmp_path, files, "vllm"))[4:7] == [(0, 4), (1, 0), (1, 1)]


def test_vllm_arrays_of_prompt_and_rest_are_one_request(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    parts = {f"{part}routed_experts_{number}": routed(3 + number) for number in (0, 1) for part in ("prompt_", "")}
    np.savez(path, **parts)
    assert rows(imported(tmp_path, path, "vllm", "encode")) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert rows(imported(tmp_path, path, "vllm", "decode"))[:4] == [(0, 3), (0, 4), (0, 5), (1, 4)]


def test_a_server_s_answer_is_a_request_per_choice_without_dense_layers(tmp_path: Path) -> None:
    """vLLM's documentation: .npy in base64, all layers of the model, here a dense one and two of experts."""
    path = RECORDINGS / "vllm-answer.json"
    encoded = [choice["routed_experts"] for choice in json.loads(path.read_text())["choices"]]
    first, second = (np.load(io.BytesIO(base64.b64decode(text))) for text in encoded)
    assert (first.dtype, first.shape, first[:, 0].any()) == (np.uint8, (5, 3, 2), False)
    decode = imported(tmp_path, path, "vllm", prompt_tokens=(3,))
    assert rows(decode) == [(0, 3), (0, 4), (1, 3)]
    assert decode.experts.tolist() == [*first[3:, 1:].tolist(), *second[3:, 1:].tolist()]
    assert "layers in the file: 1 2" in decode.meta.notes


@pytest.mark.parametrize(
    "text", ['{"choices": [{"routed_experts": null}]}', '{"choices": [{"routed_experts": "AA=="}]}', "[]", "{"]
)
def test_broken_answers_are_refused_in_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "answer.json"
    path.write_text(text)
    assert "answer.json: not a" in refused(path, "vllm")
    path.write_text('{"choices": []}')
    assert refused(path, "vllm").endswith("choices is empty: one choice per sequence expected")


def test_vllm_prompts_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=routed(5), b=routed(3))
    assert "b has 3 tokens: --prompt-tokens up to that expected, not 4" in refused(path, "vllm", prompt_tokens=(5, 4))
    assert "2 requests: as many --prompt-tokens expected" in refused(path, "vllm", prompt_tokens=(1, 2, 3))
    np.save(tmp_path / "b.npy", routed(5))
    said = refused(tmp_path / "b.npy", "vllm", prompt_tokens=(5,))
    assert said.endswith("no token of phase decode: choose the other with --phase")


def test_a_header_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", routed(5))
    path = tmp_path / "a.npy"
    path.write_bytes(path.read_bytes().replace(b"(5, 3, 2), }    ", b"(5000000000, 3, 2), }"[:16].ljust(16)))
    assert "a whole .npy or .npz file of plain integers (" in refused(path, "vllm")


def test_ragged_requests_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", routed(5))
    np.save(tmp_path / "b.npy", routed(5)[:, :2])
    with pytest.raises(SpecmoeError, match=r"b.npy: 2 layers of 2: 3 layers of 2 in 8 experts expected, as before"):
        imported(tmp_path, [tmp_path / "a.npy", tmp_path / "b.npy"], "vllm")


def test_a_shipped_model_gives_the_number_of_experts(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", routed(5))
    out = tmp_path / "t.parquet"
    words = ["traces", "import", str(tmp_path / "a.npy"), "--format", "vllm", "--out", str(out), "--prompt-tokens", "2"]
    result = CliRunner().invoke(app, [*words, "--model", "Qwen/Qwen3-30B-A3B"])
    assert result.exit_code == 0, result.output
    assert (Trace(out).meta.num_experts, len(Trace(out))) == (128, 3)
    result = CliRunner().invoke(app, [*words, "--model", "google/switch-base-8"])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(app, words).stderr.endswith("--num-experts expected\n")
