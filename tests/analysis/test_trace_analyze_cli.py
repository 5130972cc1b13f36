"""`specmoe analyze`, as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from specmoe.analysis.trace.job import load_analysis
from specmoe.cli import app

Maker = Callable[..., Path]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["analyze", *map(str, arguments)])


def test_report(make_trace: Maker, tmp_path: Path) -> None:
    result = run(make_trace(60), "--out", tmp_path / "out" / "deep", "--batch", "1,2")
    assert result.exit_code == 0, result.output
    assert "WARNING: routing of tiny is random" in result.stderr
    assert "16/16" in result.stdout
    made = load_analysis(tmp_path / "out" / "deep")
    assert [study["batch"] for study in made.facts["reuse"]] == [1, 2]
    for sentence in made.facts["findings"]:
        assert f"- {sentence}" in result.stdout
    names = {path.name for path in (tmp_path / "out" / "deep").iterdir()}
    assert {"analysis.json", "layers.parquet", "transitions.parquet", "miss-ratio.parquet", "miss-ratio.png"} <= names
    assert all(name in result.stdout for name in names)


def test_json(make_trace: Maker, tmp_path: Path) -> None:
    path = make_trace(60, num_layers=2)
    result = run(path, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0
    (told,) = json.loads(result.stdout)
    assert told == json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert told["trace"]["name"] == str(path)


def test_empty_trace(make_trace: Maker, tmp_path: Path) -> None:
    result = run(make_trace(0), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "- The trace holds no use of any expert." in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{trace}", "--batch", "0"], "batch 0: at least 1 expected"),
        (["{trace}", "--batch", "9" * 30], "at most 1,000,000 expected"),
        (["{trace}", "--batch", "1,two"], "--batch two: a whole number expected"),
        (["switch-mini-128/decode/tset"], "did you mean 'switch-mini-128/decode/test'"),
        (["{parent}"], "is a directory: a trace file or a bundled name expected"),
    ],
)
def test_bad_input_leaves_nothing(arguments: list[str], message: str, make_trace: Maker, tmp_path: Path) -> None:
    path = make_trace(10)
    result = run(*(part.format(trace=path, parent=path.parent) for part in arguments), "--out", tmp_path / "out")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way(make_trace: Maker) -> None:
    path = make_trace(10)
    result = run(path, "--out", path)
    assert result.exit_code == 1
    assert "a directory expected" in result.stderr


def test_a_damaged_trace_leaves_nothing(make_trace: Maker, tmp_path: Path) -> None:
    path = make_trace(2000)
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    result = run(path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "is damaged" in result.stderr
    assert not (tmp_path / "out").exists()
