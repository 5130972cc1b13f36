"""The files that cells of a sweep name (traces, profiles, shapes, checkpoints): each is read and hashed once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from specmoe import __version__
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.claims import default_shape, plugin_versions
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import Policy, policy
from specmoe.sim.overrides import PREDICT_NS, is_of_policy
from specmoe.traces.splitting import train_beside
from specmoe.traces.store import open as open_trace
from specmoe.traces.store import path_of

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
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()
