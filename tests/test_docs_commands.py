"""What the pages show is what happens: every command in a `console` block is run, every `pycon` block too.

`...` stands for anything, and white space for any white space, as in doctest. What needs a GPU, a network or minutes is
in blocks of another language (`sh`), which are not run: their commands and options are looked up at least.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from doc_pages import ROOT, Command, blocks, commands, pages
from typer.main import get_command
from typer.testing import CliRunner

from specmoe.cli import app

RULES = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PLUG_IN = Path("docs/guides/policy.md")  # whose commands need its package: tests/plugins runs them
RUN = [
    page
    for page in pages()
    if page != PLUG_IN and ({"console", "pycon"} & set(re.findall(r"```(\w+)", (ROOT / page).read_text())))
]


def run_commands(told: list[Command]) -> None:
    """Run them in the working directory, one after the other: specmoe's in this process, others in a shell."""
    for line, shown in told:
        status, printed = _run(line)
        assert (status != 0) == shown.startswith("error: "), f"{line}\n{printed}"
        checker, wanted = doctest.OutputChecker(), doctest.Example(line, shown)
        if shown and not checker.check_output(shown, printed, RULES):
            pytest.fail(f"{line}\n{checker.output_difference(wanted, printed, RULES)}")


def _run(line: str) -> tuple[int, str]:
    """Exit status, and both streams as they came."""
    program, *words = shlex.split(line)
    if program == "specmoe":
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        return result.exit_code, result.output
    shell = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(line, shell=True, env=shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize("page", RUN, ids=str)
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / page).read_text()
    monkeypatch.chdir(tmp_path)
    run_commands(commands(text))
    runner = doctest.DocTestRunner(optionflags=RULES)
    for block in blocks(text, "pycon"):
        runner.run(doctest.DocTestParser().get_doctest(block, {}, str(page), str(page), 0))
    assert runner.summarize(verbose=False).failed == 0


def test_the_quick_start_is_run() -> None:
    assert Path("docs/quickstart.md") in RUN
    assert len(commands((ROOT / "docs/quickstart.md").read_text())) >= 5


def test_the_runner_can_fail() -> None:
    run_commands([Command("echo one two", "one   two\n"), Command("echo one; echo two", "...\ntwo\n")])
    run_commands([Command("specmoe --version", "specmoe 0...\n")])
    with pytest.raises(pytest.fail.Exception, match="Expected"):
        run_commands([Command("echo one", "two\n")])
    for line in ("exit 3", "specmoe simulate nothing --policy oracle"):
        with pytest.raises(AssertionError, match=line):
            run_commands([Command(line, "")])


def invocations(page: Path) -> list[list[str]]:
    """Every use of the command line in a page's blocks of commands, as words."""
    text = (ROOT / page).read_text()
    lines = "\n".join(
        [*blocks(text, "sh"), *blocks(text, "console"), *re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)]
    )
    joined = re.sub(r"\\\n\s*|\s#.*", "", lines)
    found = re.findall(r"(?:^|[;&] ?|\.venv/bin/)(?:\s|\$ )*specmoe (.*)", joined, re.MULTILINE)
    parts = [part.removeprefix("specmoe ") for line in found for part in line.split("; ")]
    return [words for part in parts if (words := shlex.split(part))]


@pytest.mark.parametrize("page", [page for page in pages() if invocations(page)], ids=str)
def test_commands_and_options_exist(page: Path) -> None:
    program = get_command(app)
    for words in invocations(page):
        command = program
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands") or not words or "|" in words, f"specmoe has no command {words[0]}"
        options = {name for parameter in command.params for name in parameter.opts}
        unknown = [
            word for word in words if word.startswith("--") and word.partition("=")[0] not in {*options, "--help"}
        ]
        assert not unknown, f"specmoe {command.name} has no {unknown[0]}"


@pytest.mark.parametrize("page", pages(), ids=str)
def test_extras_exist(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = re.findall(r"pip install [^\n]*?\[([\w,]+)\]", (ROOT / page).read_text())
    wanted = {extra for names in asked for extra in names.split(",")}
    assert wanted <= project["optional-dependencies"].keys()
