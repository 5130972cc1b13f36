"""The documentation as tests read it: its pages, and the fenced blocks in them."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Command(NamedTuple):
    """A line after `$ ` and what is shown below it."""

    line: str
    shown: str


def pages() -> list[Path]:
    """README, CONTRIBUTING and all of docs, as paths from the root."""
    return [Path("README.md"), Path("CONTRIBUTING.md"), *sorted(page.relative_to(ROOT) for page in DOCS.rglob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks in a language."""
    return [body for _, found, body in FENCE.findall(text) if found == language]


def commands(text: str) -> list[Command]:
    """Those of all `console` blocks, in order; one that ends in a backslash goes on in the next line."""
    found = []
    for block in blocks(text, "console"):
        first, *rest = re.split(r"^\$ ", re.sub(r"\\\n\s*", "", block), flags=re.MULTILINE)
        assert not first.strip(), f"output without a command: {first!r}"
        found += [Command(*part.partition("\n")[::2]) for part in rest]
    return found


def builder_of(page: str) -> ModuleType:
    """The script of docs that makes a page: `docs/build_PAGE.py`."""
    name = f"build_{page}"
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))  # where scripts find each other
    spec.loader.exec_module(module)
    return module
