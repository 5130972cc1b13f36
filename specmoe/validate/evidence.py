"""What a validation leaves behind, so that anybody can check its figures: three files in a directory.

<name>.json             the machine, the circumstances, the targets and what was reached
<name>.cells.parquet    how every cell came out
<name>.steps.parquet    every measured step: see `step_store`

The errors in the JSON are shares; its `files` are SHA-256 of the other two, so that files of different validations are
not taken for one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specmoe.errors import InputError
from specmoe.files import parsing, read_json, replacing
from specmoe.validate.cell_store import read_cells, write_cells
from specmoe.validate.cells import Cell
from specmoe.validate.fidelity import CellFidelity
from specmoe.validate.overall import TARGETS, Overall, failed, overall
from specmoe.validate.step_store import write_steps
from specmoe.validate.steps import Steps

CELLS, STEPS = ".cells.parquet", ".steps.parquet"


@dataclass(frozen=True)
class Circumstances:
    """What a validation depends on besides its cells."""

    name: str  # of the files: the profile's, and more where there are several validations of one
    device: Mapping[str, Any]
    profile: str
    profile_hash: str
    evidence: str  # the weakest of the simulated results
    traces: Mapping[str, str]  # the beginning of their SHA-256, by name
    versions: Mapping[str, str]
    date: str
    seconds: float
    semantics: str = "event-atomic"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """A validation as it was saved; its steps are read by `read_steps`."""

    circumstances: Circumstances
    cells: tuple[CellFidelity, ...]
    steps: Path


def save(
    directory: Path, circumstances: Circumstances, cells: Sequence[CellFidelity], measured: Mapping[Cell, Steps]
) -> list[Path]:
    """Write the files into a directory that is there, all of them or none; their paths, the JSON first."""
    if not cells or [cell.cell for cell in cells] != list(measured):
        raise InputError("a validation to save has one cell or more, and the steps of each in the same order")
    paths = paths_of(directory, circumstances.name)
    with ExitStack() as stack:  # left in reverse order: the JSON, by which the others are known, comes last
        fresh_json, fresh_cells, fresh_steps = (stack.enter_context(replacing(path)) for path in paths)
        write_cells(fresh_cells, cells)
        write_steps(fresh_steps, measured)
        hashes = {path.name: _hash(fresh) for path, fresh in ((paths[1], fresh_cells), (paths[2], fresh_steps))}
        described = dataclasses.asdict(circumstances) | verdict(cells) | {"files": hashes}
        fresh_json.write_text(json.dumps(described, indent=1, allow_nan=False) + "\n")
    return paths


def load(path: Path) -> Evidence:
    """A validation by its JSON; raises InputError if that, or a file beside it, is not what `save` wrote."""
    with parsing(path, "a validation of specmoe"):
        raw: dict[str, Any] = read_json(path, "a validation of specmoe")
        told = {field.name: raw[field.name] for field in dataclasses.fields(Circumstances)}
        circumstances = Circumstances(**told | {"notes": tuple(raw["notes"])})
        hashes: dict[str, str] = dict(raw["files"])
        _, cells, steps = paths_of(path.parent, circumstances.name)
        expected = {file: hashes[file.name] for file in (cells, steps)}
    for file, known in expected.items():
        if not file.is_file() or _hash(file) != known:
            raise InputError(f"{file}: missing, or not the one that {path.name} belongs to")
    return Evidence(circumstances, read_cells(cells), steps)


def verdict(cells: Sequence[CellFidelity]) -> dict[str, Any]:
    """`held_out`, `fit` and `all` as objects of `Overall`'s fields, None without cells; the targets; those missed."""
    by_role = {role: _judged([cell for cell in cells if cell.cell.role == role]) for role in ("held_out", "fit")}
    found = {**by_role, "all": _judged(cells)}
    objects = {name: each and dataclasses.asdict(each) for name, each in found.items()}
    return {**objects, "targets": TARGETS, "failed": list(failed(found["held_out"]))}


def paths_of(directory: Path, name: str) -> list[Path]:
    """The three files of a validation, the JSON first; raises InputError for a name that is none."""
    if not name or Path(name).name != name:
        raise InputError(f"{name!r}: a name without directories expected")
    return [directory / f"{name}{ending}" for ending in (".json", CELLS, STEPS)]


def _judged(cells: Sequence[CellFidelity]) -> Overall | None:
    return overall(cells) if cells else None


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
