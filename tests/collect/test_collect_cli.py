"""`specmoe collect` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import Collected, same
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.traces import Trace


def collect(home: Path, out: Path, *options: str, model: str = "switch_transformers") -> tuple[int, str, str]:
    arguments = ["collect", "--model", str(home / model), "--out", str(out), "--window", "32", "--batch", "3", *options]
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_text_to_trace(home: Path, tmp_path: Path, run: Collected) -> None:
    out = tmp_path / "t.parquet"
    status, printed, _ = collect(home, out, "--text", str(home / "text"), "--sequences", "7")
    assert status == 0
    assert same(Trace(out), run(phase="decode", out="same.parquet")["decode"])
    assert "decode" in printed
    assert str(len(Trace(out))) in printed


def test_both_phases_as_json(home: Path, tmp_path: Path) -> None:
    status, printed, _ = collect(
        home,
        tmp_path / "out",
        "--text",
        str(home / "text" / "code.txt"),
        "--phase",
        "both",
        "--sequences",
        "2",
        "--json",
    )
    assert status == 0
    rows = {row["phase"]: row for row in json.loads(printed)}
    assert {phase: row["file"] for phase, row in rows.items()} == {
        phase: str(tmp_path / "out" / f"{phase}.parquet") for phase in ("encode", "decode")
    }
    assert rows["encode"]["tokens"] == len(Trace(tmp_path / "out" / "encode.parquet"))


def test_several_texts_and_options(home: Path, tmp_path: Path) -> None:
    texts = [part for name in ("code", "prose") for part in ("--text", str(home / "text" / f"{name}.txt"))]
    out = tmp_path / "t.parquet"
    options = "--phase encode --capacity 2 --candidates 4 --seed 9 --dtype bfloat16 --random-init --sequences 4"
    status, _, _ = collect(home, out, *texts, *options.split(), "--lookahead-depth", "2")
    meta = Trace(out).meta
    assert status == 0
    assert (meta.phase, meta.dropless, meta.candidates, meta.seed, meta.kind) == ("encode", False, 4, 9, "random")
    assert meta.lookahead_depth == Trace(out).lookahead.shape[2] == 2
    assert meta.corpus.startswith("code.txt, prose.txt: 4 sequences")


def test_generate(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    options = ["--text", str(home / "text"), "--sequences", "2", "--generate", "3", "--device", "cpu"]
    assert collect(home, out, *options, model="gpt_oss")[0] == 0
    assert Trace(out).meta.origin == "generated"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either --text or --dataset expected"),
        (["--text", "nowhere.txt"], "nowhere.txt: no such file or directory"),
        (["--text", "README.md", "--dataset", "squad"], "and not both"),
        (["--dataset", "imagenet"], "--dataset imagenet: one of"),
        (["--text", "x", "--generate", "2", "--capacity", "2"], "--generate with --capacity"),
        (["--text", "x", "--batch", "0"], "--batch 0: at least 1 expected"),
    ],
)
def test_errors_are_one_line_and_status_1(options: list[str], message: str, home: Path, tmp_path: Path) -> None:
    status, printed, complaint = collect(home, tmp_path / "t.parquet", *options)
    assert (status, printed) == (1, "")
    assert complaint.startswith("error: ")
    assert message in complaint
    assert complaint.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_model_is_one_line_too(home: Path, tmp_path: Path) -> None:
    status, _, complaint = collect(home, tmp_path / "t.parquet", "--text", str(home / "text"), model="text")
    assert status == 1
    assert complaint.strip() == f"error: {home / 'text'}: not a checkpoint: config.json is missing"


def test_help_names_every_option() -> None:
    result = CliRunner().invoke(app, ["collect", "--help"], env={"COLUMNS": "200"})
    options = "model out text dataset split phase sequences window candidates batch seed device dtype generate capacity"
    assert all(f"--{option}" in result.stdout for option in [*options.split(), "random-init", "restart", "json"])
