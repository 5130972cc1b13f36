"""Metadata, CI, hooks and forms parse, agree with each other, and name what exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from doc_pages import ROOT, pages
from typer.main import get_command

import specmoe
from specmoe.cli import app

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def parsed(path: str | Path) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def targets() -> set[str]:
    """Targets of the Makefile."""
    return set(re.findall(r"^([\w./-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def made(text: str) -> set[str]:
    """Targets that a text asks `make` for."""
    return set(re.findall(r"(?:^|`)make ([\w./-]+)", text, re.MULTILINE))


def texts(value: Any) -> list[str]:
    """All strings inside a parsed file."""
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


def test_the_workflow_runs_make_test_and_demo_on_every_supported_python() -> None:
    job = parsed(".github/workflows/test.yml")["jobs"]["test"]
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert {"test", "demo"} <= made("\n".join(runs)) <= targets()
    pythons = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)]
    assert job["strategy"]["matrix"]["python"] == pythons == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={pythons[0]}"


def test_the_hooks_run_what_make_test_runs() -> None:
    (local,) = parsed(".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    programs = [shlex.split(hook["entry"])[0] for hook in local["hooks"]]
    assert set(programs) == {".venv/bin/ruff", ".venv/bin/mypy"}
    recipe = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    assert all(program in recipe for program in programs)


def test_the_citation_agrees_with_the_project() -> None:
    citation = parsed("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["version"] == specmoe.__version__
    assert (citation["title"], citation["license"]) == (PROJECT["name"], PROJECT["license"])
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert set(citation["keywords"]) <= set(PROJECT["keywords"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_complete_and_names_existing_commands(path: Path) -> None:
    form = parsed(path)
    assert form["name"] and form["description"]
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    identifiers = [field["id"] for field in fields]
    assert len(set(identifiers)) == len(identifiers) > 0
    assert all(field["attributes"]["label"] for field in fields)
    commands = re.findall(r"(?:`| {4})specmoe (\w+)", "\n".join(texts(form)))
    assert commands and set(commands) <= set(getattr(get_command(app), "commands", {}))


def test_there_is_a_form_for_bugs_profiles_and_predictions() -> None:
    assert [path.stem for path in FORMS] == ["bug", "profile", "wrong_prediction"]


@pytest.mark.parametrize("path", [".github/PULL_REQUEST_TEMPLATE.md", ".pre-commit-config.yaml", "CONTRIBUTING.md"])
def test_named_targets_exist(path: str) -> None:
    assert made((ROOT / path).read_text()) <= targets()


def test_a_missing_target_is_noticed() -> None:
    assert made("run `make tset` or\nmake demo") - targets() == {"tset"}


@pytest.mark.parametrize("page", pages(), ids=str)
def test_extras_are_installed_from_the_checkout(page: Path) -> None:
    """The name on a package index may belong to somebody else."""
    assert not re.search(r"pip install\s+(?:-\S+\s+)*['\"]?specmoe\b", (ROOT / page).read_text())
    assert "specmoe[" not in (ROOT / page).read_text()
