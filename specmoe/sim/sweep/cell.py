"""One configuration of a sweep: a trace, a policy, a machine, a model, and what is changed of them.

The files that cells name, each read once: profiles, and hashes of what all of them hold.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from specmoe import __version__
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.what_if import scaled
from specmoe.sim.claims import brought
from specmoe.sim.decide.policy import Policy, policy
from specmoe.sim.overrides import PREDICT_NS, is_of_policy
from specmoe.sim.run import AT_HOME, RunSpec
from specmoe.sim.timing.durations import Home
from specmoe.sim.timing.engine import Order
from specmoe.traces.splitting import train_beside
from specmoe.traces.store import path_of

Pairs = tuple[tuple[str, Any], ...]


class RoutingKey(NamedTuple):
    """What cells share that have one workload and learn from the same."""

    trace: str
    batch: int
    steps: int | None
    train: str | None


@dataclass(frozen=True)
class Cell:
    """What is simulated; names are those of `RunSpec`.

    `settings` are dotted names of the policy or the profile and their values, in base units; `scales` dotted names of
    the profile (see `hwprofiles.scaling`) and the factors that multiply them, before anything is set.
    """

    trace: str
    policy: str
    profile: str
    shape: str = "switch-base-128"
    format: str | None = None
    slots: int | None = None
    vram: int | None = None
    batch: int = 1
    steps: int | None = None
    link: Order = "fifo"
    home: Home = AT_HOME
    host_set: str = "graph"
    train: str | None = None
    settings: Pairs = ()
    scales: tuple[tuple[str, float], ...] = ()

    @property
    def routing(self) -> RoutingKey:
        """What it may share with others."""
        return RoutingKey(self.trace, self.batch, self.steps, self.train)

    @property
    def key(self) -> str:
        """SHA-256 of all that its row depends on, what files hold and the package's version included.

        Raises InputError and TraceError where a file cannot be read. Of many cells: `contents.Contents().key(cell)`,
        which reads each file once.
        """

        return Contents().key(self)


def policy_of(cell: Cell) -> Policy:
    """Its policy with what the cell sets of it; raises InputError for an unknown one."""
    settings = {name: value for name, value in cell.settings if is_of_policy(name) and name != PREDICT_NS}
    return policy(cell.policy, settings)


CHECKPOINT = "predictor.checkpoint"  # the one setting that names files


class Contents:
    """What files held when they were first asked for."""

    def __init__(self) -> None:
        self._profiles: dict[str, HardwareProfile] = {}
        self._hashes: dict[tuple[str, str], str] = {}

    def profile(self, name: str) -> HardwareProfile:
        """A profile by name or path; raises InputError."""
        if name not in self._profiles:
            self._profiles[name] = load_profile(name)
        return self._profiles[name]

    def spec(self, cell: Cell, predictions: Path | None = None) -> RunSpec:
        """What `Scenario` is to prepare; raises InputError for a wrong profile or scale."""
        return RunSpec(
            trace=cell.trace,
            profile=scaled(self.profile(cell.profile), dict(cell.scales)),
            shape=cell.shape,
            format=cell.format,
            slots=cell.slots,
            vram=cell.vram,
            batch=cell.batch,
            steps=cell.steps,
            link=cell.link,
            home=cell.home,
            host_set=cell.host_set,
            train=cell.train,
            predictions=predictions,
            overrides=dict(cell.settings),
        )

    def key(self, cell: Cell) -> str:
        """See `Cell.key`."""
        return _hash_of([__version__, brought(policy_of(cell)), dataclasses.asdict(cell), self.hashes(cell)])

    def hashes(self, cell: Cell) -> dict[str, str]:
        """Of the files that a cell reads, by what they are."""
        named = {"trace": cell.trace, "train": cell.train or train_beside(cell.trace), "profile": cell.profile}
        named |= {"shape": cell.shape, "checkpoint": dict(cell.settings).get(CHECKPOINT)}
        return {kind: self._hash(kind, str(name)) for kind, name in named.items() if name is not None}

    @property
    def known(self) -> dict[str, dict[str, str]]:
        """Hashes of everything asked for so far, by what it is and by name."""
        kinds = sorted({kind for kind, _ in self._hashes})
        return {kind: {name: found for (of, name), found in self._hashes.items() if of == kind} for kind in kinds}

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


def _hash_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _hash_of_files(path: Path) -> str:
    """Of a file, or of all in a directory; of nothing where there is none, which whoever needs it will say."""
    files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    found = hashlib.sha256()
    try:
        for file in (file for file in files if file.exists()):
            found.update(file.name.encode() + b"\0" + file.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return found.hexdigest()
