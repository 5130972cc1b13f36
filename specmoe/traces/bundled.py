"""Traces that come with the package: `specmoe/bundled/<model>/<phase>/<split>.parquet`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from specmoe.errors import InputError, hint

SUFFIX = ".parquet"


def root() -> Path:
    """Directory of the bundled data; it may be absent in a source tree."""
    return Path(str(files("specmoe") / "bundled"))


def names() -> tuple[str, ...]:
    """Names of the bundled traces, sorted: `switch-mini-128/decode/test` and the like."""
    found = root().rglob(f"*{SUFFIX}")
    return tuple(sorted(path.relative_to(root()).with_suffix("").as_posix() for path in found))


def path_of(name: str) -> Path:
    """File of a bundled trace; raises InputError with the nearest names for one that does not exist."""
    known = names()
    if name in known:
        return root() / f"{name}{SUFFIX}"
    instead = hint(name, known) if known else "none is bundled"
    raise InputError(f"{name}: neither a file nor a bundled trace: {instead} (`specmoe traces list`)")
