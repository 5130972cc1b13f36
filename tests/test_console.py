"""Tables and paragraphs at the width of a terminal; options that name several."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from specmoe.commands import console
from specmoe.commands.values import several

POLICIES = ("mixtral-offloading", "on-demand-lru")
ROWS = [
    {"policy": name, "step ms": "2.578", "tokens/s": "387.9", "x oracle": "1.30", "hits": "86 %", "used": "61 %"}
    | {"foreseen": "68 %", "wasted GB": "4.8", "stall": "0.605"}
    for name in POLICIES
]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Standard output is a terminal of 80 columns."""
    monkeypatch.setattr(console, "_on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    return monkeypatch


def lines(captured: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", captured).splitlines()


def test_a_comparison_fits_eighty_columns(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    console.table(ROWS)
    printed = lines(capsys.readouterr().out)
    assert max(map(len, printed)) <= 80
    assert [line.split()[0] for line in printed if "2.578" in line] == list(POLICIES)
    for word in " ".join(ROWS[0]).split():
        assert any(word in line.split() for line in printed[:2]), word
    assert printed[-1].strip() == ""


def test_text_is_broken_between_words(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    console.table([{"name": "rtx3090", "title": "NVIDIA GeForce RTX " * 6, "numbers": 38}])
    printed = lines(capsys.readouterr().out)
    assert max(map(len, printed)) <= 80
    assert set(" ".join(printed[2:]).split()) == {"rtx3090", "38", "NVIDIA", "GeForce", "RTX"}


def test_names_stay_whole_where_nothing_fits(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.setenv("COLUMNS", "30")
    console.table(ROWS)
    printed = capsys.readouterr().out
    assert all(name in printed for name in POLICIES)
    assert printed.count("2.578") == 2
    assert printed.count("0.605") == 2


def test_a_table_in_a_file_is_roomy_whatever_the_terminal(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.setattr(console, "_on_terminal", lambda: False)
    console.table(ROWS)
    assert " on-demand-lru          2.578 " in capsys.readouterr().out


def test_paragraphs(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(["experts", "on-demand-lru"] * 8)
    console.note(text)
    printed = lines(capsys.readouterr().out)
    assert len(printed) > 1
    assert max(map(len, printed)) <= 80
    assert " ".join(printed) == text
    terminal.setattr(console, "_on_terminal", lambda: False)
    console.note(text)
    assert capsys.readouterr().out == text + "\n"


@pytest.mark.parametrize(("missing", "said"), [(True, "specmoe[fast]"), (False, "")])
def test_a_slow_command_says_what_would_help(
    missing: bool, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(console, "find_spec", lambda name: None if missing else name)
    console.tell_if_slow()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert (said in printed.err) if said else printed.err == ""


def test_several_are_told_by_commas_or_again() -> None:
    assert several(["a,b", "c"]) == ["a", "b", "c"]
    assert several(None) == []
    assert len(several([",".join(["on-demand-lru"] * 400)])) == 400


def test_a_file_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    file = tmp_path / "a,b.toml"
    file.touch()
    assert several([str(file), "c,d"]) == [str(file), "c", "d"]
