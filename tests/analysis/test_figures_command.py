"""`specmoe plot`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sweep_rows import failed, guess, oracle, row, table
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.sweep_table import MANIFEST, SCHEMA, TABLE, save_sweep


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    directory = tmp_path / "one"
    directory.mkdir()
    save_sweep(table(row(), guess("lookahead", 3.0), oracle()), directory)
    return directory


def test_every_figure_is_written_and_said(swept: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plot", str(swept), "--out", str(tmp_path / "figures")])
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"latency.png", "copies.png", "tail.png"}
    assert "lookahead is fastest, 3.00 ms a step" in done.output
    for png in (tmp_path / "figures").iterdir():
        assert png.read_bytes().startswith(b"\x89PNG")
        assert png.name in done.output


def test_json_is_one_value(swept: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plot", str(swept), "--out", str(tmp_path / "figures"), "--json"])
    (told,) = json.loads(done.stdout)
    assert told["sweep"] == str(swept)
    assert told["answer"][0].startswith("lookahead is fastest")
    assert [one["name"] for one in told["figures"]] == ["latency", "copies", "tail"]
    assert all(Path(one["file"]).is_file() and one["reading"] for one in told["figures"])


def test_several_sweeps_have_a_directory_each(swept: Path, tmp_path: Path) -> None:
    other = tmp_path / "two"
    other.mkdir()
    save_sweep(table(row(), row("static", 5.0)), other)
    done = CliRunner().invoke(app, ["plot", str(swept), str(other), "--out", str(tmp_path / "figures")])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["one", "two"]


def test_bad_input_is_one_line_and_writes_nothing(swept: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    save_sweep(table(failed("x", "no room")), bad)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / MANIFEST).write_text('{"schema": 0}')
    (tmp_path / "old" / TABLE).write_bytes((bad / TABLE).read_bytes())
    for places, told in (
        ([bad], "no cell of the sweep has figures: no room"),
        ([tmp_path / "nowhere"], "not a sweep of specmoe"),
        ([tmp_path / "old"], f"schema 0: {SCHEMA} expected"),
        ([swept, tmp_path / "x" / ".." / "one"], "two sweeps have directories of the same name"),
    ):
        done = CliRunner().invoke(app, ["plot", *map(str, places), "--out", str(tmp_path / "figures")])
        assert done.exit_code == 1
        assert told in done.output
        assert done.output.count("\n") == 1
        assert not (tmp_path / "figures").exists()
