"""Texts for users avoid phrases that make a sentence hard to understand alone.

A scope is a kind of text and where it is found; all must be free of every phrase.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from doc_pages import ROOT, pages
from typer.main import get_command

from specmoe.cli import app

BANNED = (
    "so many",
    "so much",
    "what rests on",
    "is known by",
    "Without:",
    "nor are",
    "told",
    "You get:",
    "nowhere does",
)
PATTERN = re.compile("|".join(rf"\b{re.escape(phrase)}(?!\w)" for phrase in BANNED), re.IGNORECASE)
PROJECT_FILES = ("CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "specmoe/bundled/README.md")
ERRORS = re.compile(r"Error$|^BadParameter$")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
KINDS = (ast.Call, *DOCUMENTED)


class Text(NamedTuple):
    """A text for users, and the file or option that holds it."""

    place: str
    words: str


def whole(paths: list[Path]) -> Iterator[Text]:
    for path in paths:
        yield Text(str(path.relative_to(ROOT)), path.read_text())


def docs() -> Iterator[Text]:
    return whole([ROOT / page for page in pages() if page.parts[0] == "docs"])


def project_files() -> Iterator[Text]:
    forms = sorted(path for path in (ROOT / ".github").rglob("*") if path.is_file())
    return whole([*(ROOT / name for name in PROJECT_FILES), *forms])


def readme() -> Iterator[Text]:
    return whole([ROOT / "README.md"])


def help_texts() -> Iterator[Text]:
    return help_of("specmoe", get_command(app))


def help_of(name: str, command: click.Command) -> Iterator[Text]:
    yield Text(name, f"{command.help or ''} {command.epilog or ''}")
    for parameter in command.params:
        yield Text(f"{name} {parameter.name}", getattr(parameter, "help", None) or "")
    for part, child in getattr(command, "commands", {}).items():
        yield from help_of(f"{name} {part}", child)


@cache
def nodes() -> tuple[tuple[str, ast.AST], ...]:
    """Every call and every place of a docstring in the package's code, with its file."""
    paths = sorted((ROOT / "specmoe").rglob("*.py"))
    trees = ((str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in paths)
    return tuple((place, node) for place, tree in trees for node in ast.walk(tree) if isinstance(node, KINDS))


def docstrings() -> Iterator[Text]:
    for place, node in nodes():
        if isinstance(node, DOCUMENTED):
            yield Text(place, ast.get_docstring(node, clean=False) or "")


def errors() -> Iterator[Text]:
    """String literals in the arguments of exceptions."""
    for place, node in nodes():
        if isinstance(node, ast.Call) and ERRORS.search(getattr(node.func, "attr", getattr(node.func, "id", ""))):
            yield Text(f"{place}:{node.lineno}", literals(node))


def literals(node: ast.AST) -> str:
    parts = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
    return " ".join(part for part in parts if isinstance(part, str))


SCOPES: dict[str, Callable[[], Iterator[Text]]] = {
    "docs": docs,
    "project files": project_files,
    "readme": readme,
    "help texts": help_texts,
    "docstrings": docstrings,
    "errors": errors,
}


def banned(texts: Iterator[Text]) -> list[str]:
    """Each banned phrase with its place; white space and line breaks are alike."""
    return [f"{place}: {match[0]!r}" for place, words in texts for match in PATTERN.finditer(" ".join(words.split()))]


@pytest.mark.parametrize("scope", SCOPES)
def test_texts_avoid_banned_phrases(scope: str) -> None:
    texts = list(SCOPES[scope]())
    assert sum(len(text.words) for text in texts) > 500, "a scope finds its texts"
    assert not banned(iter(texts))


@pytest.mark.parametrize("phrase", BANNED)
def test_every_phrase_is_noticed(phrase: str) -> None:
    broken = phrase.replace(" ", "\n  ").capitalize()
    assert banned(iter([Text("a page", f"One,\n{broken} two.")])) == [f"a page: {phrase.capitalize()!r}"]


def test_words_that_contain_a_phrase_are_allowed() -> None:
    assert not banned(iter([Text("a page", "Unsolicited: retold, stolid; not without limits; or so manyfold.")]))
