"""Cells and grids of replays: the runs to replay, and the cells to which constants may be fitted.

A grid is a TOML file; some come with the package.

    [[group]]                       # any number
    shape = "switch-base-128"       # a model shape by name or path
    phase = "decode"
    format = "fp16"                 # of the slots
    style = "fused/grouped"         # optional: of the experts' kernels, else expand/separate, and separate in 16 bits
    home_format = "int8"            # optional: format of experts on the link, if not that of the slots
    threads = 8                     # optional: of the CPU, where policies have it compute experts; else all
    batch = 1
    steps = 150
    cells.lookahead = [77, 154]     # numbers of slots for each policy; one with a number in quotes: "n-cpu-moe:3"
    fit.lookahead = [154]           # optional: cells to which constants may be fitted

All cells of a group without `fit` are held out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, cast, get_args

from specmoe.errors import InputError, Place, hint
from specmoe.files import read_toml, require_names
from specmoe.hwprofiles.catalogue import SUFFIX, load_shape
from specmoe.hwprofiles.kernels import Style, require_expandable, style_of
from specmoe.hwprofiles.shape import KERNEL_FORMATS, PACKED, Format, Phase, can_fill, is_compressed
from specmoe.sim.config import AT_HOME, RunConfig
from specmoe.sim.decide.misses import named
from specmoe.sim.decide.policy import POLICIES
from specmoe.validation_table import CellKey, Role

_NEEDED = ("shape", "phase", "format", "batch", "steps", "cells")
_OPTIONAL = ("home_format", "fit", "style", "threads")


@dataclass(frozen=True)
class Group:
    """Cells with the same configuration except policy and slots; they share an arena. The phase selects the trace."""

    phase: Phase
    config: RunConfig

    @property
    def name(self) -> str:
        """Name, e.g. `switch-base-128/decode/fp16/b1`; a different format at home is written before it: int8>fp16."""
        return self.cell("", 0, "held_out").key.group

    def cell(self, policy: str, slots: int, role: Role) -> "Cell":
        """Cell of this group."""
        return Cell(self.phase, replace(self.config, policy=policy, slots=slots), role)


@dataclass(frozen=True)
class Cell:
    """One policy with one number of slots; constants are fitted to cells of role `fit` and judged on the others."""

    phase: Phase
    config: RunConfig
    role: Role

    @property
    def policy(self) -> str:
        """Name of the policy."""
        return self.config.policy

    @property
    def slots(self) -> int:
        """Number of slots."""
        return self.config.slots or 0

    @property
    def group(self) -> Group:
        """Group of this cell."""
        return Group(self.phase, replace(self.config, policy="", slots=None))

    @property
    def name(self) -> str:
        """Name, e.g. `switch-base-128/decode/fp16/b1/lookahead/154`."""
        return self.key.name

    @property
    def key(self) -> CellKey:
        """The cell as files describe it; `cell_of` is the inverse."""
        config = self.config
        assert config.shape and config.format and config.steps, "set by `group_of`"
        formats = (config.format, config.home.format)
        style = "" if config.style in (None, replayed_style(config.format)) else str(config.style)
        return CellKey(
            config.shape,
            self.phase,
            *formats,
            config.batch,
            config.steps,
            self.policy,
            self.slots,
            self.role,
            style,
            config.threads,
        )


def group_of(
    shape: str,
    phase: Phase,
    held: Format,
    home: Format | None,
    batch: int,
    steps: int,
    style: Style | None = None,
    threads: int | None = None,
) -> Group:
    """Group for replays: token counts of kernels padded to powers of two, experts in pinned host memory.

    Unless `style` is given, every expert is launched by itself, and expanded first if it is compressed.
    """
    at_home, chosen = AT_HOME._replace(format=home), style or replayed_style(held)
    config = RunConfig("", shape=shape, format=held, batch=batch, steps=steps, home=at_home, style=chosen)
    replayed = replace(config, threads=threads, padded=True, warm_up=0, staggered=False, truncated=True)
    return Group(phase, replayed)


def replayed_style(held: Format) -> Style:
    """The style in which experts in slots of format `held` are replayed."""
    return Style("expand" if is_compressed(held) else "fused", "separate")


def cell_of(key: CellKey) -> Cell:
    """The cell that a file describes."""
    style = style_of(key.style) if key.style else None
    group = group_of(key.shape, key.phase, key.format, key.home_format, key.batch, key.steps, style, key.threads)
    return group.cell(key.policy, key.slots, key.role)


def grid_names() -> tuple[str, ...]:
    """Sorted names of the bundled grids."""
    return tuple(sorted(path.stem for path in _directory().glob(f"*{SUFFIX}")))


def grid(name: str) -> tuple[Cell, ...]:
    """Cells of a bundled grid by name, or of a .toml file by path; raises InputError for neither."""
    if name in grid_names():
        return read_grid(_directory() / f"{name}{SUFFIX}")
    if name.endswith(SUFFIX):
        return read_grid(Path(name))
    raise InputError(f"{name}: no such grid, nor a {SUFFIX} file: {hint(name, grid_names())}")


def read_grid(path: Path) -> tuple[Cell, ...]:
    """Cells of a grid file, in its order; raises InputError with file, field and expected value."""
    place = Place(str(path))
    tables = require_names(place, read_toml(path), ("group",))["group"]
    if not isinstance(tables, list) or not tables:
        raise (place / "group").wrong("an array of tables, [[group]], expected")
    cells: dict[str, Cell] = {}
    for number, table in enumerate(tables):
        at = place / f"group[{number}]"
        for cell in _cells(at, table):
            if cell.name in cells:
                raise at.wrong(f"{cell.name} is there twice")
            cells[cell.name] = cell
    return tuple(cells.values())


def _cells(place: Place, table: object) -> Iterator[Cell]:
    fields = require_names(place, table, _NEEDED, _OPTIONAL)
    group = _group(place, fields)
    slots, fit = _slots(place / "cells", fields["cells"]), _slots(place / "fit", fields.get("fit", {}))
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
    held = _one_of(place / "format", table["format"], (*KERNEL_FORMATS, PACKED))
    style = _style(place / "style", table["style"], held) if "style" in table else None
    if held == PACKED and (style is None or style != Style()):
        raise (place / "style").wrong(f"{PACKED} is replayed by torch's int4 product: fused/separate expected")
    return group_of(
        shape=_shape(place / "shape", table["shape"]),
        phase=_one_of(place / "phase", table["phase"], get_args(Phase)),
        held=held,
        home=_home(place / "home_format", table["home_format"], held) if "home_format" in table else None,
        batch=_count(place / "batch", table["batch"]),
        steps=_count(place / "steps", table["steps"]),
        style=style,
        threads=_count(place / "threads", table["threads"]) if "threads" in table else None,
    )


def _style(place: Place, name: object, held: Format) -> Style:
    try:
        style = style_of(str(name))
        require_expandable(style, held)
    except InputError as error:
        raise place.wrong(str(error)) from None
    return style


def _shape(place: Place, name: object) -> str:
    if not isinstance(name, str):
        raise place.wrong(f"{name!r}: a text expected")
    try:
        load_shape(name)
    except InputError as error:
        raise place.wrong(str(error)) from None
    return name


def _home(place: Place, name: object, held: Format) -> Format:
    """Format at home that is expanded to that of the slots."""
    formats = [home for home in KERNEL_FORMATS if home != held and can_fill(home, held)]
    if not formats:
        raise place.wrong(f"{name!r}: nothing is expanded to {held}: no such field expected")
    return cast(Format, _one_of(place, name, formats))


def _slots(place: Place, table: object) -> dict[str, list[int]]:
    """Numbers of slots by policy."""
    numbered = [name for name in table if named(name)[0] in POLICIES] if isinstance(table, dict) else []
    for name, numbers in require_names(place, table, (), [*POLICIES, *numbered]).items():
        if not isinstance(numbers, list) or not numbers:
            raise (place / name).wrong(f"{numbers!r}: a list of numbers of slots expected")
        for number in numbers:
            _count(place / name, number)
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
