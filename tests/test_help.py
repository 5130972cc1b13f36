"""Every command's help, its examples, what a shell completes, and the output for programs."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from specmoe.cli import app
from specmoe.commands import console, options
from specmoe.hwprofiles import profile_names
from specmoe.sim.speculate.predictors import PREDICTORS
from specmoe.traces import store

TRACE = "switch-mini-128/decode/test"


def commands(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that runs, with the words that call it."""
    for name, child in getattr(command, "commands", {}).items():
        yield from commands((*words, name), child)
    if not hasattr(command, "commands"):
        yield words, command


COMMANDS = dict(commands((), get_command(app)))


@pytest.fixture(params=COMMANDS, ids=" ".join)
def words(request: pytest.FixtureRequest) -> tuple[str, ...]:
    name: tuple[str, ...] = request.param
    return name


@cache
def helped(words: tuple[str, ...], flag: str) -> Result:
    return CliRunner().invoke(app, [*words, flag], env={"COLUMNS": "80"})


def test_h_is_help(words: tuple[str, ...]) -> None:
    results = [helped(words, flag) for flag in ("-h", "--help")]
    assert [result.exit_code for result in results] == [0, 0]
    assert results[0].stdout == results[1].stdout


@pytest.mark.parametrize("group", [(), ("traces",), ("profile",), ("reproduce",)])
def test_h_is_help_of_a_group(group: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, [*group, "-h"]).exit_code == 0


def test_help_fits_eighty_columns(words: tuple[str, ...]) -> None:
    printed = helped(words, "--help").stdout
    assert max(map(len, printed.splitlines())) <= 80


def test_examples_are_right(words: tuple[str, ...]) -> None:
    examples = [line.strip() for line in (COMMANDS[words].epilog or "").splitlines() if line.strip().startswith("$")]
    assert examples
    for example in examples:
        _, program, *arguments = shlex.split(example)
        assert program == "specmoe"
        assert tuple(arguments[: len(words)]) == words
        COMMANDS[words].make_context(" ".join(words), arguments[len(words) :])


def test_every_option_has_a_help_text_that_begins_with_a_capital(words: tuple[str, ...]) -> None:
    for parameter in COMMANDS[words].params:
        text = getattr(parameter, "help", None) or ""
        assert text[:1].isupper() or text.startswith("A "), (words, parameter.name)
        assert text.endswith("."), (words, parameter.name)


@pytest.mark.parametrize(
    ("completion", "names"),
    [
        (options.traces, store.names),
        (options.profiles, profile_names),
    ],
)
def test_a_shell_completes_names(completion: Any, names: Any) -> None:
    assert sorted(completion("")) == sorted(names())
    assert f"a,{next(iter(names()))}" in completion("a,")


def test_a_shell_completes_predictors() -> None:
    assert {"none", "lookahead", "frequency"} < set(options.predictors("")) <= set(PREDICTORS)


def test_a_shell_completes_an_option() -> None:
    environment = {"_SPECMOE_COMPLETE": "complete_bash", "COMP_WORDS": "specmoe simulate --link p", "COMP_CWORD": "3"}
    result = CliRunner().invoke(app, [], prog_name="specmoe", env=environment)
    assert result.stdout.split() == ["priority"]


# Output for programs


ROWS = [{"a": "x|y", "b": 1.5, "c": None}, {"a": "two\nlines", "d": [1, "z"]}]


@pytest.fixture
def style(request: pytest.FixtureRequest) -> Iterator[None]:
    token = console._STYLE.set(request.param)
    yield
    console._STYLE.reset(token)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("as_json", json.dumps(ROWS, indent=2) + "\n"),
        ("as_csv", 'a,b,c,d\nx|y,1.5,,\n"two\nlines",,,"[1, ""z""]"\n'),
        (
            "as_markdown",
            '| a | b | c | d |\n| --- | --- | --- | --- |\n| x\\|y | 1.5 |  |  |\n| two\\nlines |  |  | [1, "z"] |\n',
        ),
    ],
    indirect=["style"],
)
def test_styles(style: None, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert console.printed(ROWS)
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("style", "text"), [("as_json", "[]\n"), ("as_csv", ""), ("as_markdown", "")], indirect=["style"]
)
def test_no_rows(style: None, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert console.printed([])
    assert capsys.readouterr().out == text


def test_people_get_no_output_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert not console.printed(ROWS)
    assert capsys.readouterr().out == ""


def test_csv_has_the_columns_of_json() -> None:
    command = ["simulate", TRACE, "--policy", "on-demand-lru,lookahead", "--slots", "60", "--steps", "5"]
    rows = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    table = list(csv.DictReader(io.StringIO(CliRunner().invoke(app, [*command, "--csv"]).stdout)))
    assert [row["policy"] for row in table] == ["on-demand-lru", "lookahead"]
    assert list(table[0]) == list(rows[0])
    assert [int(row["latency_mean_ns"]) for row in table] == [row["latency_mean_ns"] for row in rows]
    markdown = CliRunner().invoke(app, [*command, "--markdown"]).stdout.splitlines()
    assert markdown[0] == f"| {' | '.join(rows[0])} |"
    assert len(markdown) == 4


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["policies"],
        ["profile", "list"],
        ["profile", "show", "rtx3090"],
        ["profile", "diff", "rtx3090", "rtx4090"],
        ["profile", "fit", "rtx3090"],
        ["shape", "list"],
        ["shape", "show", "switch-base-64"],
        ["traces", "list"],
        ["traces", "info", TRACE],
        ["traces", "head", TRACE],
        ["traces", "validate", TRACE],
    ],
    ids=" ".join,
)
def test_reports_for_programs(command: list[str]) -> None:
    objects = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert isinstance(objects, list)
    assert all(isinstance(value, dict) for value in objects)
    table = list(csv.reader(io.StringIO(CliRunner().invoke(app, [*command, "--csv"]).stdout)))
    assert len(table) > 1
    assert {len(line) for line in table} == {len(table[0])}
    markdown = CliRunner().invoke(app, [*command, "--markdown"]).stdout.splitlines()
    assert len(markdown) == len(table) + 1


def test_one_style_only() -> None:
    result = CliRunner().invoke(app, ["profile", "list", "--json", "--csv"])
    assert (result.exit_code, result.stderr) == (1, "error: only one of --json, --csv and --markdown expected\n")
