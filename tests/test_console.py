"""Tables and paragraphs at the width of a terminal; options that name several."""

from __future__ import annotations

import ast
import gc
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.commands import console
from specmoe.commands.options import several
from specmoe.errors import install, one_line, visible
from specmoe.traces import store

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


@pytest.mark.parametrize(
    "arguments",
    [
        "demo --steps 0",
        "simulate switch-mini-128/decode/test --policy oracle --steps 0",
        "simulate switch-mini-128/decode/test --policy oracle --timeline-steps 0",
        "validate x --profile rtx3090 --out o --repeats 1",
    ],
)
def test_a_number_out_of_range_is_one_line(arguments: str) -> None:
    result = CliRunner().invoke(app, arguments.split())
    *_, option, value = arguments.split()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: {option} {value}: at least {int(value) + 1} expected\n"


@pytest.mark.parametrize(
    ("arguments", "command", "wrong"),
    [
        ("simulate", "specmoe simulate", "missing argument 'trace'"),
        ("simulate x", "specmoe simulate", "missing option '--policy'"),
        ("simulate x --policy", "specmoe", "option '--policy' requires an argument"),
        ("simulate x --nothing", "specmoe simulate", "no such option: --nothing"),
        ("profile list x\x1b[1m", "specmoe profile list", "got unexpected extra argument"),
        ("profile other", "specmoe profile", "no such command 'other'"),
        ("--other", "specmoe", "no such option: --other"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: str, command: str, wrong: str) -> None:
    result = CliRunner().invoke(app, arguments.split(), prog_name="specmoe")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {command}: {wrong}")
    assert result.stderr.endswith(f"; for help: {command} -h\n")
    assert (result.stderr.count("\n"), result.stderr.count("\x1b")) == (1, 0)


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


@pytest.mark.parametrize(("missing", "said"), [(True, "pip install -e '.[fast]'"), (False, "")])
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


# Text that was read is shown as it is, and commands nothing

HOSTILE = "[/z][red]:smile:\x1b]0;owned\x07\x1b[31m\x9b2J\u202egnp.exe\r\udc80"
SHOWN = r"[/z][red]:smile:\x1b]0;owned\x07\x1b[31m\x9b2J\u202egnp.exe\r\udc80"


def test_what_a_terminal_would_obey_is_visible() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("50 %, 3 µs, naïve 日本\nnext") == "50 %, 3 µs, naïve 日本\nnext"
    assert one_line("a\nb") == r"a\nb"


def test_tables_paragraphs_and_progress_are_plain_text(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.setenv("COLUMNS", "200")
    console.table([{HOSTILE: HOSTILE}], title=HOSTILE)
    console.note(HOSTILE)
    console.say(HOSTILE, head=HOSTILE, err=True, fg="red")
    printed = capsys.readouterr()
    assert "\n".join(lines(printed.out)).count(SHOWN) == 4
    assert SHOWN + SHOWN in printed.err
    assert "owned\x07" not in printed.out + printed.err


def hostile_trace(directory: Path) -> Path:
    path = directory / "x[v2][" / "z].parquet"
    path.parent.mkdir()
    shutil.copyfile(store.path_of("switch-mini-128/decode/test"), path)
    return path


@pytest.mark.parametrize("command", [["info"], ["head", "-n", "1"], ["validate"], ["list"]])
def test_markup_in_a_name(command: list[str], tmp_path: Path) -> None:
    trace = hostile_trace(tmp_path)
    result = CliRunner().invoke(app, ["traces", *command, str(tmp_path if command == ["list"] else trace)])
    assert result.exit_code == 0, result.output
    assert command[0] == "head" or "x[v2][/z]" in result.stdout.replace("\n", "")
    assert "x[v2][/z]" in CliRunner().invoke(app, ["status", str(tmp_path)]).stdout


def test_errors_are_one_visible_line() -> None:
    for arguments in (["traces", "info", HOSTILE + "\n"], ["traces", HOSTILE], ["--" + HOSTILE], ["sweep", HOSTILE]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code in (1, 2)
        assert not set("\x1b\x9b\u202e\x07") & set(result.output)
    result = CliRunner().invoke(app, ["traces", "info", "a\nb"])
    assert result.stderr.startswith(r"error: a\nb")
    assert result.stderr.count("\n") == 1


def test_only_the_console_prints() -> None:
    """One owner of what is safe to print."""
    for path in sorted(Path(console.__file__).parents[1].rglob("*.py")):
        if path.name != "console.py":
            used = {
                ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
            }
            assert not used & {"typer.echo", "typer.secho", "typer.style", "sys.stdout", "sys.stderr"}, path


# Colours


def shown_by(terminal: int) -> str:
    """What a terminal is told until nobody writes to it."""
    parts = []
    try:
        while part := os.read(terminal, 1 << 16):
            parts.append(part)
    except OSError:  # closed
        pass
    return b"".join(parts).decode()


def on_terminal(arguments: list[str]) -> str:
    """What a command writes to a terminal."""
    parent, child = pty.openpty()
    with ThreadPoolExecutor(1) as reader, pytest.MonkeyPatch.context() as patch:
        shown = reader.submit(shown_by, parent)
        with os.fdopen(child, "w") as screen:
            patch.setattr(sys, "stdout", screen)
            patch.setattr(sys, "stderr", screen)
            with pytest.raises(SystemExit):
                app(arguments)
    os.close(parent)
    return shown.result()


@pytest.mark.parametrize("arguments", [["traces", "info", "absent"], ["status", "."]])
def test_no_colour_where_none_is_wanted(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")
    assert colour.search(on_terminal(arguments))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(on_terminal(arguments))


# Output that takes no more


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from specmoe.cli import app; app()", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)


@pytest.mark.parametrize("arguments", [["--help"], ["profile", "list"], ["profile", "show", "rtx3090", "--json"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        result = run(*arguments, stdout=full)
    assert (result.returncode, result.stderr) == (1, "error: standard output: No space left on device\n")


@pytest.mark.parametrize("arguments", [["--version"], ["profile", "show", "rtx3090", "--json"]])
def test_a_reader_that_left_is_no_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        result = run(*arguments, stdout=pipe)
    assert (result.returncode, result.stderr) == (1, "")


def test_a_file_where_a_directory_is_expected(tmp_path: Path) -> None:
    out = tmp_path / "file"
    out.touch()
    result = CliRunner().invoke(app, ["traces", "split", "switch-mini-128/decode/test", "--out", str(out)])
    assert (result.exit_code, result.stderr) == (1, f"error: {out}: File exists: a directory expected\n")


def test_status_without_bundled_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "names", tuple)
    assert CliRunner().invoke(app, ["status"]).exit_code == 0


# Signals and progress


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_half_written(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    command = [sys.executable, "-c", "from specmoe.cli import app; app()", "traces", "export"]
    with subprocess.Popen(
        [*command, "switch-mini-128/decode/train", "--out", str(out)], stderr=subprocess.PIPE, text=True
    ) as running:
        until = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < until:
            time.sleep(0.01)
        running.send_signal(number)
        assert running.stderr is not None
        told = running.stderr.read()
    assert (running.returncode, told) == (128 + number, "")
    assert list(tmp_path.iterdir()) == []


def test_progress_without_a_terminal_is_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "PERIOD", 0.01)
    with console.progress("policies") as bar:
        task = bar.add_task("simulating", total=3)
        bar.update(task, advance=1, description="prefetch-all\n")
        printed, until = capsys.readouterr(), time.monotonic() + 60
        while not printed.err and time.monotonic() < until:
            time.sleep(0.01)
            printed = capsys.readouterr()
        bar.update(task, completed=3)
    assert printed.out == ""
    assert r"prefetch-all\n: 1 of 3 policies" in printed.err.splitlines()


def test_a_quick_command_has_no_lines_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("policies") as bar:
        bar.add_task("simulating", total=3)
    assert capsys.readouterr().err == ""


# Extras


def test_one_sentence_for_every_extra() -> None:
    assert install(["torch", "hub"]) == "pip install -e '.[torch,hub]'"
    for path in sorted(Path(console.__file__).parents[1].rglob("*.py")):
        assert path.name == "errors.py" or "pip install" not in path.read_text(), path


def test_a_command_searches_for_garbage_seldom_and_leaves_it_as_it_was() -> None:
    usual = gc.get_threshold()
    with console.seldom_searched():
        assert gc.get_threshold() == console.SELDOM
    assert gc.get_threshold() == usual
