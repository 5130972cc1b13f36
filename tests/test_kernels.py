"""Compiled code that numba keeps on disk: made anew when any file that it was compiled from changes."""

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("numba")
from specmoe.sim import kernels
from specmoe.sim.decide import director_kernel
from specmoe.sim.timing import actions_kernel, retimer_kernel

HELPER = """from specmoe.sim.kernels import inlined

@inlined
def more(number):
    return number + {step}
"""
ENTRY = """from kept_package import helper
from specmoe.sim.kernels import jit, version_of

def _entry(version):
    @jit(cache=True)
    def entry(number):
        version
        return helper.more(number)
    return entry

entry = _entry(version_of((helper,)))
"""


def fresh(names: list[str]) -> ModuleType:
    """The package as a new process would import it."""
    for name in names:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module("kept_package.entry")


def test_a_changed_helper_is_compiled_anew_and_an_unchanged_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package, names = tmp_path / "kept_package", ["kept_package", "kept_package.helper", "kept_package.entry"]
    package.mkdir()
    for name, text in (("__init__", ""), ("entry", ENTRY), ("helper", HELPER.format(step=1))):
        (package / f"{name}.py").write_text(text)
    assert fresh(names).entry(1) == 2
    again = fresh(names)
    assert again.entry(1) == 2
    assert again.entry.stats.cache_hits
    (package / "helper.py").write_text(HELPER.format(step=2))
    assert fresh(names).entry(1) == 3
    for name in names:
        sys.modules.pop(name, None)


def imported(module: ModuleType) -> set[str]:
    """Modules of specmoe that a kernel and its parts are compiled from."""
    found, package = set[str](), Path(kernels.__file__).parents[2]
    for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("specmoe"):
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {part for part in parts if (package / f"{part.replace('.', '/')}.py").exists()} or {
                str(node.module)
            }
    return found.union(*(imported(sys.modules[name]) for name in found if name.endswith("_kernel")))


@pytest.mark.parametrize("module", [director_kernel, retimer_kernel, actions_kernel])
def test_kernels_are_kept_under_the_version_of_every_file_that_they_are_compiled_from(module: ModuleType) -> None:
    assert imported(module) - {kernels.__name__} == {source.__name__ for source in module.SOURCES}
    kept = [
        value for value in vars(module).values() if getattr(value, "_cache", None).__class__.__name__ == "FunctionCache"
    ]
    assert kept
    for function in kept:
        assert [cell.cell_contents for cell in function.py_func.__closure__] == [kernels.version_of(module.SOURCES)]
