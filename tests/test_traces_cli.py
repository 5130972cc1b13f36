"""`specmoe traces ...`, as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from random_traces import META
from typer.testing import CliRunner

from specmoe import traces
from specmoe.cli import app
from specmoe.traces import store

Maker = Callable[..., Path]


def run(*arguments: object) -> Any:
    """Run a command that should succeed; what `--json` printed, if it was asked for."""
    result = CliRunner().invoke(app, ["traces", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def fail(*arguments: object) -> str:
    """Run a command that should fail; the one line it printed."""
    result = CliRunner().invoke(app, ["traces", *map(str, arguments)])
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.stderr.rstrip().endswith(line)
    return line


@pytest.fixture(autouse=True)
def no_bundle(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path_factory.mktemp("bundled")
    monkeypatch.setattr(store, "root", lambda: empty)


def test_list(make_trace: Maker, tmp_path: Path) -> None:
    path = make_trace(40)
    (tmp_path / "foreign.parquet").write_text("x")
    result = CliRunner().invoke(app, ["traces", "list", str(tmp_path), "--json"])
    assert json.loads(result.stdout) == [
        {
            "name": str(path),
            "phase": "decode",
            "kind": "random",
            "tokens": 40,
            "sequences": len(set(traces.open(path).sequence.tolist())),
            "layers": 3,
            "experts": 16,
            "bytes": path.stat().st_size,
        }
    ]
    assert "not listed: " in result.stderr and "foreign.parquet" in result.stderr
    assert run("list", "--json") == []
    assert "decode" in run("list", tmp_path)


def test_list_shows_bundled_names(make_trace: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_trace(5)
    monkeypatch.setattr(store, "root", lambda: tmp_path)
    assert [row["name"] for row in run("list", "--json")] == ["t"]
    assert run("validate", "t", "--json") == [{"trace": "t", "valid": True, "tokens": 5}]


def test_info(make_trace: Maker) -> None:
    path = make_trace(40, notes=("a note",))
    (told,) = run("info", path, "--json")
    assert told["metadata"] == json.loads(json.dumps(json.loads(traces.open(path).meta.to_json())))
    assert told["warnings"] == ["routing of tiny is random: its weights were never trained"]
    assert told["summary"]["tokens"] == sum(told["summary"]["tokens_by_source"].values()) == 40
    assert len(told["summary"]["layers"]) == 3
    assert set(told["summary"]["layers"][0]) == {"entropy_bits", "active_experts", "top_share"}


def test_info_in_words(make_trace: Maker) -> None:
    result = CliRunner().invoke(app, ["traces", "info", str(make_trace(40))])
    for word in ("num_experts", "file_bytes", "prose", "entropy", "2025-01-01"):
        assert word in result.stdout
    assert "WARNING: routing of tiny is random" in result.stderr


def test_validate(make_trace: Maker) -> None:
    paths = [make_trace(40), make_trace(30, name="other.parquet")]
    assert [row["tokens"] for row in run("validate", *paths, "--json")] == [40, 30]
    spoilt = paths[1]
    table = pq.read_table(spoilt)
    meta = json.dumps(json.loads(META.to_json()) | {"num_experts": 8})
    pq.write_table(table.replace_schema_metadata({"specmoe": meta}), spoilt)
    line = fail("validate", *paths)
    assert "other.parquet: row " in line and "experts is " in line and "ids 0..7 expected" in line


def test_head(make_trace: Maker) -> None:
    path = make_trace(40, lookahead_depth=2)
    rows = run("head", path, "-n", 2, "--json")
    trace = traces.open(path)
    assert len(rows) == 2 * 3
    assert rows[5]["used"] == trace.experts[1, 2, :2].tolist()
    assert rows[3]["lookahead"] == trace.lookahead[1, 0].tolist()
    assert rows[5]["lookahead"] == [[-1] * 4] * 2
    printed = run("head", path)
    assert "sequence 0, position 0" in printed
    assert " ".join(map(str, trace.lookahead[0, 0, 1])) in printed
    assert [row["lookahead"] for row in run("head", make_trace(9, has_lookahead=False), "-n", 1, "--json")] == [[]] * 3


def test_split(make_trace: Maker, tmp_path: Path) -> None:
    rows = run("split", make_trace(400), "--fractions", "0.6,0.2,0.2", "--seed", 3, "--out", tmp_path / "s", "--json")
    assert [Path(row["name"]).name for row in rows] == ["train.parquet", "validation.parquet", "test.parquet"]
    assert sum(row["tokens"] for row in rows) == 400
    run("validate", *(row["name"] for row in rows))


def test_split_keeps_the_depths_asked_for(make_trace: Maker, tmp_path: Path) -> None:
    path = make_trace(400, lookahead_depth=3)
    for depth in (1, 3):
        rows = run("split", path, "--lookahead-depth", depth, "--out", tmp_path / f"{depth}", "--json")
        run("validate", *(row["name"] for row in rows))
        told = [run("info", row["name"], "--json")[0]["metadata"]["lookahead_depth"] for row in rows]
        assert told == [depth] * 3
    shallow, deep = (traces.open(tmp_path / f"{depth}/test.parquet") for depth in (1, 3))
    assert np.array_equal(shallow.lookahead[:], deep.lookahead[:, :, :1])


def test_export(make_trace: Maker, tmp_path: Path) -> None:
    assert run("export", make_trace(10), "--out", tmp_path / "x.csv", "--json") == [
        {"rows": 30, "file": str(tmp_path / "x.csv")}
    ]
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 31


def test_import(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.arange(12).reshape(2, 3, 2).astype(np.int16))
    out = tmp_path / "v.parquet"
    (row,) = run("import", tmp_path / "v.npy", "--format", "vllm", "--num-experts", 12, "--out", out, "--json")
    assert row["tokens"] == 2
    run("validate", out)
    line = fail("import", tmp_path / "v.npy", "--format", "vllm", "--num-experts", 8, "--out", tmp_path / "no.parquet")
    assert "row 1 (sequence 0, position 1), layer 1: experts is [8, 9]: ids 0..7 expected" in line
    assert not (tmp_path / "no.parquet").exists()


def test_synthesize(tmp_path: Path) -> None:
    counts = tmp_path / "counts.json"
    counts.write_text(json.dumps({"expert_counts": {"0": {"0": 3, "1": 2, "2": 1}}}))
    arguments = ("--tokens", 20, "--sequences", 2, "--candidates", 2, "--out", tmp_path / "s.parquet")
    result = CliRunner().invoke(
        app, ["traces", "synthesize", *map(str, (counts, *arguments)), "--assumed-stickiness", "0.5"]
    )
    assert result.exit_code == 0
    assert "WARNING: routing is synthetic" in result.stderr
    run("validate", tmp_path / "s.parquet")
    assert run("info", tmp_path / "s.parquet", "--json")[0]["warnings"] == [
        "routing is synthetic: no model produced it"
    ]
    result = CliRunner().invoke(app, ["traces", "synthesize", *map(str, (counts, *arguments))])
    assert result.exit_code == 1, "stickiness is an assumption: it has no default"
    assert "missing option '--assumed-stickiness'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "nosuch"), "nosuch: neither a file nor a bundled trace"),
        (("info", "{dir}"), "is a directory"),
        (("list", "{dir}/absent"), "a directory expected"),
        (("validate", "{cut}"), "not a whole Parquet file"),
        (("head", "{trace}", "-n", "0"), "at least one"),
        (("split", "{trace}", "--out", "{dir}/s", "--fractions", "a,b"), "numbers separated by commas"),
        (("split", "{trace}", "--out", "{dir}/s", "--fractions", "0.5,0.5"), "three positive numbers"),
        (("split", "{trace}", "--out", "{dir}/s", "--lookahead-depth", "2"), "t.parquet has depths 1 to 1"),
        (("export", "{trace}", "--out", "{dir}/x.txt"), ".parquet or .csv expected"),
        (("export", "{trace}", "--out", "{dir}/absent/x.csv"), "no directory"),
        (("import", "{trace}", "--format", "hf", "--out", "{dir}/x.parquet"), "one of gptoss, llama, long"),
        (("import", "{trace}", "--format", "gptoss", "--out", "{dir}/x.parquet"), "column seq missing"),
        (("import", "{dir}/absent", "--format", "long", "--out", "{dir}/x.parquet"), "no such file"),
    ],
)
def test_bad_input_is_one_line(make_trace: Maker, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    trace = make_trace(40)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(trace.read_bytes()[:-9])
    names = {"dir": tmp_path, "trace": trace, "cut": cut}
    before = sorted(tmp_path.rglob("*"))
    assert message in fail(*(argument.format(**names) for argument in arguments))
    assert sorted(tmp_path.rglob("*")) == before


def test_head_is_for_a_screen(make_trace: Maker) -> None:
    assert "-n 99999999: at most 1000 expected" in fail("head", make_trace(9), "-n", 99999999)
