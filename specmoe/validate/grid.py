"""Which runs are replayed: cells, and the grids of them that come with the package.

Grids of cells from TOML: what is replayed, and on which of it constants may be fitted.

    [[group]]                       # any number
    shape = "switch-base-128"       # a model shape by name, or the path of one
    phase = "decode"
    format = "fp16"                 # of the slots
    home_format = "int8"            # optional: how experts come over the link, if not in that of the slots
    batch = 1
    steps = 150
    cells.lookahead = [77, 154]     # numbers of slots for each policy
    fit.lookahead = [154]           # optional: which of these cells constants may be fitted on

All cells of a group without `fit` are held out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, cast, get_args

from specmoe.errors import InputError, hint
from specmoe.files import read_toml
from specmoe.hwprofiles.catalogue import SUFFIX, load_shape
from specmoe.hwprofiles.formats import Format, can_fill
from specmoe.hwprofiles.shape import Phase
from specmoe.sim.config import AT_HOME, RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.toml import Place, require_names
from specmoe.validation_table import CellKey, Role


@dataclass(frozen=True)
class Group:
    """What cells share that run on one arena: a configuration without policy and slots. Its trace is found by phase."""

    phase: Phase
    config: RunConfig

    @property
    def name(self) -> str:
        """`switch-base-128/decode/fp16/b1`; a format at home of its own comes before that of the slots: int8>fp16."""
        return self.cell("", 0, "held_out").key.group

    def cell(self, policy: str, slots: int, role: Role) -> Cell:
        """One of its cells."""
        return Cell(self.phase, replace(self.config, policy=policy, slots=slots), role)


@dataclass(frozen=True)
class Cell:
    """One policy on one number of slots. Constants may be fitted on cells of role `fit`, and are judged on others."""

    phase: Phase
    config: RunConfig
    role: Role

    @property
    def policy(self) -> str:
        """Its name."""
        return self.config.policy

    @property
    def slots(self) -> int:
        """Experts that VRAM holds."""
        return self.config.slots or 0

    @property
    def group(self) -> Group:
        """What it shares with others."""
        return Group(self.phase, replace(self.config, policy="", slots=None))

    @property
    def name(self) -> str:
        """`switch-base-128/decode/fp16/b1/lookahead/154`."""
        return self.key.name

    @property
    def key(self) -> CellKey:
        """The cell as files describe it; `cell_of` is the inverse."""
        config = self.config
        assert config.shape and config.format and config.steps, "set by `group_of`"
        formats = (config.format, config.home.format)
        return CellKey(
            config.shape, self.phase, *formats, config.batch, config.steps, self.policy, self.slots, self.role
        )


def group_of(shape: str, phase: Phase, held: Format, home: Format | None, batch: int, steps: int) -> Group:
    """A group of replays: kernels for powers of two of tokens, experts pinned at home."""
    at_home = AT_HOME._replace(format=home)
    return Group(phase, RunConfig("", shape=shape, format=held, batch=batch, steps=steps, home=at_home, padded=True))


def cell_of(key: CellKey) -> Cell:
    """The cell that a file describes."""
    group = group_of(key.shape, key.phase, key.format, key.home_format, key.batch, key.steps)
    return group.cell(key.policy, key.slots, key.role)


_NEEDED = ("shape", "phase", "format", "batch", "steps", "cells")
_OPTIONAL = ("home_format", "fit")


def grid_names() -> tuple[str, ...]:
    """Names of the grids that come with the package, sorted."""
    return tuple(sorted(path.stem for path in _directory().glob(f"*{SUFFIX}")))


def grid(name: str) -> tuple[Cell, ...]:
    """The cells of a shipped grid by name, or of one's own by the path of a .toml file; raises InputError."""
    if name in grid_names():
        return read_grid(_directory() / f"{name}{SUFFIX}")
    if name.endswith(SUFFIX):
        return read_grid(Path(name))
    raise InputError(f"{name}: no such grid, nor a {SUFFIX} file: {hint(name, grid_names())}")


def read_grid(path: Path) -> tuple[Cell, ...]:
    """The cells of a file, in its order; raises InputError naming file, field and what would be right."""
    place = Place(str(path))
    tables = require_names(place, read_toml(path), ("group",))["group"]
    if not isinstance(tables, list) or not tables:
        raise (place / "group").wrong("an array of tables, [[group]], expected")
    found: dict[str, Cell] = {}
    for number, table in enumerate(tables):
        at = place / f"group[{number}]"
        for cell in _cells(at, table):
            if cell.name in found:
                raise at.wrong(f"{cell.name} is there twice")
            found[cell.name] = cell
    return tuple(found.values())


def _cells(place: Place, table: object) -> Iterator[Cell]:
    known = require_names(place, table, _NEEDED, _OPTIONAL)
    group = _group(place, known)
    slots, fit = _slots(place / "cells", known["cells"]), _slots(place / "fit", known.get("fit", {}))
    for policy, some in fit.items():
        for number in some:
            if number not in slots.get(policy, ()):
                raise (place / "fit" / policy).wrong(f"{number}: not one of the cells")
    if not slots:
        raise (place / "cells").wrong("at least one policy with its numbers of slots expected")
    for policy, some in slots.items():
        for number in some:
            yield group.cell(policy, number, "fit" if number in fit.get(policy, ()) else "held_out")


def _group(place: Place, table: dict[str, Any]) -> Group:
    held = _one_of(place / "format", table["format"], get_args(Format))
    return group_of(
        shape=_shape(place / "shape", table["shape"]),
        phase=_one_of(place / "phase", table["phase"], get_args(Phase)),
        held=held,
        home=_home(place / "home_format", table["home_format"], held) if "home_format" in table else None,
        batch=_count(place / "batch", table["batch"]),
        steps=_count(place / "steps", table["steps"]),
    )


def _shape(place: Place, name: object) -> str:
    if not isinstance(name, str):
        raise place.wrong(f"{name!r}: a text expected")
    try:
        load_shape(name)
    except InputError as error:
        raise place.wrong(str(error)) from None
    return name


def _home(place: Place, name: object, held: Format) -> Format:
    """A format that is expanded to that of the slots."""
    known = [home for home in get_args(Format) if home != held and can_fill(home, held)]
    if not known:
        raise place.wrong(f"{name!r}: nothing is expanded to {held}: no such field expected")
    return cast(Format, _one_of(place, name, known))


def _slots(place: Place, table: object) -> dict[str, list[int]]:
    """Numbers of slots by policy."""
    for policy, numbers in require_names(place, table, (), POLICIES).items():
        if not isinstance(numbers, list) or not numbers:
            raise (place / policy).wrong(f"{numbers!r}: a list of numbers of slots expected")
        for number in numbers:
            _count(place / policy, number)
    return table  # type: ignore[return-value]  # just checked


def _one_of(place: Place, name: object, known: Sequence[str]) -> Any:
    if name not in known:
        raise place.wrong(f"{name!r}: {hint(str(name), known)}")
    return name


def _count(place: Place, number: object) -> int:
    if type(number) is not int or number < 1:
        raise place.wrong(f"{number!r}: a whole number above 0 expected")
    return number


def _directory() -> Path:
    return Path(str(files("specmoe.validate") / "grids"))
