"""What is read at run time and is no Python comes along when the package is installed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import specmoe

ROOT = Path(specmoe.__file__).parent


def told() -> Iterator[Path]:
    """Files that pyproject.toml names."""
    settings = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    for package, patterns in settings["tool"]["setuptools"]["package-data"].items():
        place = ROOT.parent.joinpath(*package.split("."))
        for pattern in patterns:
            yield from place.glob(pattern)


def test_no_file_is_left_behind() -> None:
    files = {path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    numba = {path for path in files if path.suffix in (".nbi", ".nbc")}
    assert files - numba - set(told()) == set()
    assert len(files) > 50


def test_every_pattern_names_something() -> None:
    settings = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    for package, patterns in settings["tool"]["setuptools"]["package-data"].items():
        for pattern in patterns:
            assert list(ROOT.parent.joinpath(*package.split(".")).glob(pattern)), (package, pattern)
