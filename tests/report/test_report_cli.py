"""`specmoe report`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from report_cases import parsed, runs_dir, sweep_dir, timeline_dir, validation_dir
from sweep_rows import failed, guess, row, table
from typer.testing import CliRunner

from specmoe.analysis.answer import answer_of
from specmoe.cli import app

SMALL = table(row(), guess("lookahead", 3.5), failed("static"))


def report(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_answer_and_path(tmp_path: Path) -> None:
    page = tmp_path / "new" / "report.html"
    result = report(sweep_dir(tmp_path / "swept", SMALL), validation_dir(tmp_path / "checked"), "--out", page)
    assert result.exit_code == 0, result.output
    told = result.stdout.splitlines()
    assert told[0] == "lookahead is fastest: 286 tokens/s"
    for sentence in answer_of(SMALL).sentences:
        assert sentence in told
    assert "warning: Failed cells: 1 of 3 in swept; its table says why." in told
    assert told[-1] == f"written: {page}"
    assert parsed(page.read_text())[0].tag == "html"


def test_json(tmp_path: Path) -> None:
    result = report(sweep_dir(tmp_path / "swept", SMALL), "--out", tmp_path / "page.html", "--json")
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)
    assert told["file"] == str(tmp_path / "page.html")
    assert told["title"] == "lookahead is fastest: 286 tokens/s"
    assert told["answers"] == {"swept": list(answer_of(SMALL).sentences)}
    assert told["notes"][-1].startswith("Failed cells: 1 of 3")


def test_the_page_says_how_it_was_made(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report(timeline_dir(tmp_path / "my demo"), "--out", page)
    assert f"specmoe report &#x27;{tmp_path}/my demo&#x27; --out {page}" in page.read_text()


def test_what_simulate_and_demo_write(tmp_path: Path) -> None:
    options = ["--slots", "60", "--steps", "20", "--out", str(tmp_path), "--timeline", str(tmp_path / "t.json")]
    policies = ["--policy", "lookahead", "--policy", "on-demand-lru", "--profile", "a100-sxm4-80gb"]
    CliRunner().invoke(app, ["simulate", "switch-mini-128/decode/test", *policies, *options], catch_exceptions=False)
    result = report(tmp_path, "--out", tmp_path / "page.html", "--json")
    assert result.exit_code == 0, result.output
    assert "Assumed, not measured" in "".join(json.loads(result.stdout)[0]["notes"])
    assert 'href="t.json"' in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("out", ["page.html", "deep/page.html"])
def test_bad_input_is_one_line_and_leaves_nothing(out: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = report(sweep_dir(tmp_path / "swept"), tmp_path / "empty", "--out", tmp_path / out)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {tmp_path / 'empty'}: nothing to report in it")
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "swept"]


def test_versions_that_do_not_go_together(tmp_path: Path) -> None:
    result = report(
        sweep_dir(tmp_path / "old"),
        runs_dir(tmp_path / "new", "lookahead", version="7"),
        "--out",
        tmp_path / "page.html",
    )
    assert result.exit_code == 1
    assert result.stderr == (
        "error: old by specmoe 0.1.0 and new by specmoe 7: results of one version expected; run one of them again\n"
    )


def test_a_directory_as_page(tmp_path: Path) -> None:
    result = report(sweep_dir(tmp_path), "--out", tmp_path)
    assert result.exit_code == 1
    assert "is a directory: a file name" in result.stderr
