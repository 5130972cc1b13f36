"""From what a sweep asks to its cells: every combination, and around each, if wanted, one number at a time changed.

`Contents` reads each file that cells name once: profiles, and hashes of everything that a cell's key depends on.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from specmoe import __version__
from specmoe.errors import InputError, MissingExtraError, SpecmoeError
from specmoe.hwprofiles.catalogue import load_profile, load_shape, machine_name
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.kernels import style_of
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.what_if import SPEEDS, instead, scalable, settable
from specmoe.sim.claims import default_shape, plugin_versions
from specmoe.sim.config import (
    ASSUMED_RESERVE,
    AT_HOME,
    PREDICT_NS,
    Home,
    RoutingKey,
    RunConfig,
    eviction_parameters,
    is_of_policy,
    miss_parameters,
    names_of_policies,
)
from specmoe.sim.decide.policy import Policy, policy
from specmoe.sim.routing import Routing
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.question import ASIDE, AXES, BY_NAME, DEFAULTS, LIST, ONCE, ROOM, Question, merged
from specmoe.sim.sweep.retiming import DRAWS, FEWEST, compiled, usual_draws
from specmoe.traces.store import open as open_trace
from specmoe.traces.store import path_of, train_beside

CHECKPOINT = "predictor.checkpoint"  # the only setting that names files


class Contents:
    """Contents of files as they were when they were first read."""

    def __init__(self) -> None:
        self._profiles: dict[str, HardwareProfile] = {}
        self._shapes: dict[str, str] = {}  # of a trace's own model
        self._hashes: dict[tuple[str, str], str] = {}

    def profile(self, name: str) -> HardwareProfile:
        """A profile by name or path; raises InputError."""
        if name not in self._profiles:
            self._profiles[name] = load_profile(name)
        return self._profiles[name]

    def shape(self, cell: RunConfig) -> str:
        """The name or path of a cell's shape; raises TraceError where none is chosen and the trace cannot be read."""
        if cell.shape is not None:
            return cell.shape
        if cell.trace not in self._shapes:
            self._shapes[cell.trace] = default_shape(open_trace(cell.trace).meta)
        return self._shapes[cell.trace]

    def loaded(self, cell: RunConfig) -> RunConfig:
        """The cell with its profile read; raises InputError for an invalid profile."""
        return dataclasses.replace(cell, profile=self.profile(str(cell.profile)))

    def key(self, cell: RunConfig) -> str:
        """SHA-256 of everything that a cell's row depends on, including contents of files and the package's version.

        Raises InputError and TraceError where a file cannot be read.
        """
        return _hash_of([__version__, plugin_versions(policy_of(cell)), dataclasses.asdict(cell), self.hashes(cell)])

    def hashes(self, cell: RunConfig) -> dict[str, str]:
        """Hashes of the files that a cell reads, by their kind (trace, train, profile, shape, checkpoint)."""
        named = {"trace": cell.trace, "train": cell.train or train_beside(cell.trace), "profile": cell.profile}
        named |= {"shape": self.shape(cell), "checkpoint": dict(cell.settings).get(CHECKPOINT)}
        return {kind: self._hash(kind, str(name)) for kind, name in named.items() if name is not None}

    @property
    def known(self) -> dict[str, dict[str, str]]:
        """Hashes of all files read so far, by kind and name."""
        kinds = sorted({kind for kind, _ in self._hashes})
        return {kind: {name: digest for (of, name), digest in self._hashes.items() if of == kind} for kind in kinds}

    def _hash(self, kind: str, name: str) -> str:
        if (kind, name) not in self._hashes:
            self._hashes[kind, name] = self._read(kind, name)
        return self._hashes[kind, name]

    def _read(self, kind: str, name: str) -> str:
        if kind == "profile":
            profile = self.profile(name)
            return _hash_of([profile.hash, profile.calibration and dataclasses.asdict(profile.calibration)])
        if kind == "shape":
            return _hash_of(dataclasses.asdict(load_shape(name)))
        if kind == "checkpoint":
            return _hash_of_files(Path(name))
        path = Path(name)
        return _hash_of_files(path if path.exists() else path_of(name))


def policy_of(cell: RunConfig) -> Policy:
    """The policy of a cell with the cell's settings of it; raises InputError for an unknown policy."""
    settings = {name: value for name, value in cell.settings if is_of_policy(name) and name != PREDICT_NS}
    return policy(cell.policy, settings)


def _hash_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _hash_of_files(path: Path) -> str:
    """Hash of a file or of all files in a directory. A missing file hashes as empty: its reader reports the error."""
    files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for file in (file for file in files if file.exists()):
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as opened:
                while part := opened.read(1 << 20):
                    digest.update(part)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


MOST_CELLS = 1_000_000
MOST_MACHINES = 4 * DRAWS  # that decisions are timed on by default: about as long as making them
BASE: dict[str, Any] = {
    "host": None,
    "host-set": "graph",
    "tier": AT_HOME.tier,
    "home-format": AT_HOME.format,
    "compressed-slots": 0,
    "format": None,
    "style": None,
    "dense-format": None,
    "context": None,
    "kv-format": "f16",
    "assumed-reserve": ASSUMED_RESERVE,
    "threads": None,
    "source": (),
    "train-source": (),
}


def cells_of(question: Question) -> list[RunConfig]:
    """All cells without duplicates; raises InputError if there are none, and for unknown names."""
    grids = [merged(merged(DEFAULTS, _shared(question)), part) for part in question.get(LIST, [{}])]
    for grid in grids:
        _check(grid)
    if (number := sum(map(_size, grids))) > MOST_CELLS:
        raise InputError(f"{number:,} cells: at most {MOST_CELLS:,} expected")
    cells = list(dict.fromkeys(cell for grid in grids for cell in _combinations(grid)))
    if not cells:
        raise InputError(f"an empty grid: {LIST} holds no tables")
    drawn = [dataclasses.replace(cell, draws=draws) for cell, draws in zip(cells, _draws(cells, question), strict=True)]
    aside = question.get(ASIDE)
    return drawn if aside is None else list(dict.fromkeys(_with_changes(drawn, aside)))


def _draws(cells: Sequence[RunConfig], question: Question) -> list[int]:
    """Drawn machines of each cell: as many as are asked for, else `DRAWS` or what `MOST_MACHINES` leave.

    By default the machine of a what-if is taken as it is (see `usual_draws`).
    """
    if any(cell.pieces for cell in cells):
        if question.get("draws"):
            raise InputError(f"--draws {question['draws']}: not simulated with --pieces: one of them expected")
        return [0] * len(cells)
    if (asked := question.get("draws")) is not None:
        if asked and not compiled():
            raise MissingExtraError("numba", "fast")
        return [asked] * len(cells)
    known = [usual_draws(cell) > 0 for cell in cells]
    alike = Counter(_decisions(cell) for cell, whole in zip(cells, known, strict=True) if whole)
    draws = min(DRAWS, MOST_MACHINES // max(alike.values(), default=1))
    return [draws if whole and draws >= FEWEST else 0 for whole in known]


def _decisions(cell: RunConfig) -> Hashable:
    """What cells that share their decisions have in common."""
    return cell.routing, cell.slots, cell.vram, cell.policy, cell.settings


def _size(grid: Question) -> int:
    """Number of combinations in a grid."""
    room = sum(len(grid.get(name, ())) for name in ROOM) or 1
    axes = [len(values) for name, values in grid.items() if name in AXES and name not in ROOM]
    return room * prod(axes) * prod(len(values) for part in BY_NAME for values in grid.get(part, {}).values())


def _shared(question: Question) -> Question:
    return {name: value for name, value in question.items() if name not in (LIST, ASIDE)}


def _check(grid: Question) -> None:
    """Raise InputError for a value that is missing or that no cell can use."""
    for name in ("trace", "policy"):
        if not grid.get(name):
            raise InputError(f"an empty grid: no {name}: --{name}, or {name} = ... in the file, expected")
    if all(name in grid for name in ROOM):
        raise InputError("either --slots or --vram expected, and not both")
    for number in grid.get("compressed-slots", []):
        if number < 0 or (number and "home-format" not in grid):
            raise InputError(f"--compressed-slots {number}: 0, or more together with --home-format, expected")
    for name, source in product(grid["trace"], grid.get("source", [()])):
        open_trace(name, source)
    for name in grid["policy"]:
        policy(name)
    for name in grid.get("shape", ()):
        load_shape(name)
    known = {part for name in _machines(grid) for part in settable(load_profile(name))}
    allowed = {
        "set": {*known, *names_of_policies(), *eviction_parameters(), *miss_parameters()},
        "scale": {*known, *SPEEDS},
    }
    for part in BY_NAME:
        for dotted in grid.get(part, {}):
            if dotted not in allowed[part] and not (part == "set" and dotted.startswith("predictor.")):
                raise InputError(f"--{part} {dotted}: no such name: {instead(dotted, allowed[part])}")


def _machines(grid: Question) -> Iterator[str]:
    """Names of all devices in all hosts."""
    for device, host in product(grid["profile"], grid.get("host", [None])):
        yield machine_name(device, host)


def _combinations(grid: Question) -> Iterator[RunConfig]:
    axes = {name: [value] for name, value in BASE.items()} | {name: grid[name] for name in AXES if name in grid}
    room = [{name: value} for name in ROOM for value in axes.pop(name, [])] or [{}]  # the whole device
    scales, settings = (list(_pairs(grid.get(part, {}))) for part in ("scale", "set"))
    once = {name.replace("-", "_"): grid[name] for name in ONCE if name in grid}
    once["staggered"] = not once.pop("aligned", False)
    policies = axes.pop("policy")  # last, and so together in the table
    for *values, scale, setting, size, name in product(*axes.values(), scales, settings, room, policies):
        chosen = dict(zip(axes, values, strict=True))
        home = Home(chosen.pop("tier"), chosen.pop("home-format"), chosen.pop("compressed-slots"))
        chosen["profile"] = machine_name(chosen["profile"], chosen.pop("host"))
        host_set, style, dense = (chosen.pop(axis) for axis in ("host-set", "style", "dense-format"))
        styled = {"style": None if style is None else style_of(style), "dense_format": dense}
        styled |= {"train_source": chosen.pop("train-source"), "kv_format": chosen.pop("kv-format")}
        styled["assumed_reserve"] = chosen.pop("assumed-reserve")
        rest = chosen | size | once | styled
        yield RunConfig(policy=name, settings=setting, scales=scale, home=home, host_set=host_set, **rest)


def _pairs(named: dict[str, list[Any]]) -> Iterator[tuple[tuple[str, Any], ...]]:
    """Every combination of values of dotted names; one empty combination if there are no names."""
    for values in product(*named.values()):
        yield tuple(zip(named, values, strict=True))


def _with_changes(cells: list[RunConfig], share: float) -> Iterator[RunConfig]:
    """Each cell, followed by copies with one number that affects it changed, down and up by the share."""
    contents, routings = Contents(), dict[RoutingKey, Routing]()
    for cell in cells:
        yield cell
        with suppress(SpecmoeError):  # a cell that fails says so in its row
            if cell.routing not in routings:
                routings[cell.routing] = Routing(*cell.routing)
            scenario = Scenario(contents.loaded(cell), routing=routings[cell.routing])
            yield from _changes(cell, scenario.costs_of(scenario.policy(cell.policy)), share)


def _changes(cell: RunConfig, costs: Costs, share: float) -> Iterator[RunConfig]:
    settings = dict(cell.settings)
    size = ("device.vram",) if cell.slots is None and cell.vram is None else ()
    for name in (*size, *scalable(costs)):
        for factor in (1 - share, 1 + share):
            if name not in settings:
                yield _scaled(cell, name, factor)


def _scaled(cell: RunConfig, name: str, factor: float) -> RunConfig:
    scales = dict(cell.scales)
    return dataclasses.replace(cell, draws=0, scales=tuple((scales | {name: scales.get(name, 1) * factor}).items()))
