"""Who may import whom, and what the command line must not load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import specmoe

ROOT = Path(specmoe.__file__).parent
HEAVY = ("torch", "transformers", "tokenizers", "safetensors", "datasets")
LIBRARIES = ("numpy", "pyarrow", "pandas", "matplotlib", "simpy", "numba", *HEAVY)

# Module pattern, what it must never import even inside a function, and why.
FORBIDDEN: list[tuple[str, tuple[str, ...], str]] = [
    ("specmoe.sim.decide*", ("simpy", "torch", "time", "random"), "decisions know no clock and draw no lots"),
    ("specmoe.sim.decide*", ("specmoe.sim.timing", "specmoe.validate"), "a decision comes before its timing"),
    ("specmoe.sim.speculate*", ("specmoe.sim.timing", "specmoe.validate"), "a prediction comes before its timing"),
    ("specmoe.traces*", ("specmoe.hwprofiles",), "what was routed and how long things take never meet"),
    ("specmoe.hwprofiles*", ("specmoe.traces",), "what was routed and how long things take never meet"),
    ("specmoe.traces*", ("specmoe.sim", "specmoe.validate", "specmoe.analysis"), "traces stand before simulation"),
    (
        "specmoe.hwprofiles*",
        ("specmoe.sim", "specmoe.validate", "specmoe.analysis"),
        "profiles stand before simulation",
    ),
    ("specmoe.validate*", ("specmoe.sim.timing",), "the replayer is compared with the engine, not built on it"),
    ("specmoe.sim*", ("specmoe.validate", "specmoe.analysis"), "simulation knows no device and no plots"),
    ("specmoe.analysis*", ("specmoe.sim", "specmoe.validate"), "analysis reads results only"),
    ("specmoe.[!c]*", ("specmoe.commands", "specmoe.cli", "typer", "rich"), "only commands print"),
]
MAY_USE_TORCH = (
    "specmoe.traces.collect*",
    "specmoe.traces.pretrain*",
    "specmoe.traces.adapters",
    "specmoe.traces.tokenizer",
    "specmoe.traces.text",
    "specmoe.sim.speculate.*",
    "specmoe.hwprofiles.measure*",
    "specmoe.validate*",
)


class Import(NamedTuple):
    """One imported module, and whether it is imported when its importer is."""

    name: str
    at_top: bool


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = sorted(ROOT.rglob("*.py"))
    return {".".join(("specmoe", *path.relative_to(ROOT).with_suffix("").parts)): path for path in paths}


def imports_of(node: ast.AST, at_top: bool = True) -> Iterator[Import]:
    """All imports below a node, those for type checkers aside."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, at_top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "absolute imports only"
            yield from (Import(f"{child.module}.{alias.name}", at_top) for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from imports_of(ast.Module(child.orelse, []), at_top)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports_of(child, at_top and not inside)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in a fresh interpreter after a statement."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


MODULES = modules()


@cache
def imports() -> dict[str, list[Import]]:
    """What every module imports."""
    return {module: list(imports_of(ast.parse(path.read_text()))) for module, path in MODULES.items()}


@pytest.mark.parametrize(("pattern", "forbidden", "why"), FORBIDDEN)
def test_rooms_keep_apart(pattern: str, forbidden: tuple[str, ...], why: str) -> None:
    for module, found in imports().items():
        if fnmatch(module, pattern):
            wrong = [name for name, _ in found for package in forbidden if within(name, package)]
            assert not wrong, f"{module} imports {wrong}: {why}"


def test_torch_is_used_in_its_rooms_only() -> None:
    for module, found in imports().items():
        if not any(fnmatch(module, pattern) for pattern in MAY_USE_TORCH):
            wrong = [name for name, _ in found if any(within(name, package) for package in HEAVY)]
            assert not wrong, f"{module} imports {wrong}"


@cache
def needs_torch_at_top() -> set[str]:
    """Modules that cannot be imported without the extra: those that import it at their top, and who imports those."""
    tops = {module: {one.name for one in found if one.at_top} for module, found in imports().items()}
    heavy = {module for module, names in tops.items() if any(within(n, package) for n in names for package in HEAVY)}
    while True:
        more = {m for m, names in tops.items() if any(within(n, h) for n in names for h in heavy)} - heavy
        if not more:
            return heavy
        heavy |= more


def test_modules_that_need_torch_are_asked_for_by_name_only() -> None:
    for module in needs_torch_at_top():
        assert any(fnmatch(module, pattern) for pattern in MAY_USE_TORCH), f"{module} needs torch to be imported"


def test_help_loads_no_library() -> None:
    assert not loaded_by("import specmoe.cli") & set(LIBRARIES)


def test_every_help_loads_no_library() -> None:
    commands = (["--help"], ["traces", "--help"], ["traces", "import", "--help"], ["collect", "--help"])
    statement = (
        "from typer.testing import CliRunner\nfrom specmoe.cli import app\n"
        f"assert all(CliRunner().invoke(app, c).exit_code == 0 for c in {commands!r})"
    )
    assert not loaded_by(statement) & set(LIBRARIES)


def test_completion_loads_no_library() -> None:
    kinds = ("traces", "policies", "profiles", "shapes", "formats", "links", "tiers", "hosts", "devices", "predictors")
    statement = f"from specmoe.commands import options\nassert all(getattr(options, k)('') for k in {kinds!r})"
    assert not loaded_by(statement) & set(LIBRARIES)


def test_traces_need_no_torch() -> None:
    names = [module.removesuffix(".__init__") for module in MODULES if module.startswith("specmoe.traces")]
    light = [name for name in names if name not in needs_torch_at_top()]
    assert "specmoe.traces.store" in light
    assert not loaded_by("\n".join(f"import {name}" for name in light)) & set(HEAVY)


def test_the_reader_of_imports() -> None:
    source = """
import a.b
from c import d
if TYPE_CHECKING:
    import e
else:
    import f
def g():
    import h
class I:
    import j
"""
    assert set(imports_of(ast.parse(source))) == {
        Import("a.b", True),
        Import("c.d", True),
        Import("f", True),
        Import("h", False),
        Import("j", True),
    }
