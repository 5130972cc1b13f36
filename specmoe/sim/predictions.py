"""What policies' predictors say of one workload: computed once, kept in memory and, if wanted, on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

from specmoe.sim.decide.policy import Policy
from specmoe.sim.speculate.predictor import Predictor, Routed
from specmoe.sim.speculate.predictors import PREDICTORS, make_predictor
from specmoe.sim.speculate.running_time import FREE
from specmoe.sim.speculate.store import cached, hash_of
from specmoe.sim.speculate.table import PredictionTable
from specmoe.traces.store import library_versions


def hash_of_bytes(content: bytes) -> str:
    """Short, for names and manifests."""
    return hashlib.sha256(content).hexdigest()[:16]


@dataclass(frozen=True)
class Predictions:
    """Of the trace in a file, batched as told; `train` gives what is learnt from and its file, or None.

    With a `directory`, predictions are read where an earlier run left them there.
    """

    trace: Path
    routed: Routed
    batching: tuple[int, int | None]  # batch and steps
    train: Callable[[], tuple[Routed, Path] | None]
    directory: Path | None = None
    _known: dict[str, PredictionTable] = field(default_factory=dict)

    def of(self, chosen: Policy) -> PredictionTable:
        """What a policy's predictor says; raises InputError for one that cannot say anything here.

        `device` says where the simulated runtime predicts; here it is wherever there is room, with the same result.
        """
        parameters = {"depth": 1 if chosen.prefetch is None else chosen.prefetch.depth, **chosen.predictor_parameters}
        if "device" in parameters:
            parameters["device"] = "auto"
        predictor = make_predictor(chosen.predictor, parameters)
        if chosen.predictor in FREE:
            return self._made(predictor)
        described = self._described(chosen.predictor, parameters, predictor)
        if (key := hash_of(described)) not in self._known:
            self._known[key] = self._kept(described, predictor)
        return self._known[key]

    def _kept(self, described: dict[str, Any], predictor: Predictor) -> PredictionTable:
        if self.directory is None:
            return self._made(predictor)
        return cached(self.directory, self._trace_hash, described, lambda: self._made(predictor))

    def _made(self, predictor: Predictor) -> PredictionTable:
        learns = type(predictor).fit is not Predictor.fit  # the train split is large
        if learns and (train := self.train()) is not None:
            predictor.fit(train[0])
        return predictor.predict(self.routed)

    def _described(self, name: str, parameters: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
        """All that predictions depend on but the trace."""
        batch, steps = self.batching
        return {
            "predictor": name,
            "parameters": {keyword: str(value) for keyword, value in parameters.items()},
            "train": self._train_hash,
            "checkpoint": self._checkpoint_hash(predictor),
            "batch": batch,
            "steps": steps,
            "versions": library_versions() | PREDICTORS.versions(name),
        }

    def _checkpoint_hash(self, predictor: Predictor) -> str | None:
        """Of the network that a learned predictor loads for this trace: its `directory` says where that is."""
        meta = self.routed.workload.meta
        find = getattr(predictor, "directory", None)
        found = getattr(predictor, "checkpoint", None) if find is None else find(meta.model, meta.phase)
        return None if found is None or not Path(found).exists() else _hash_of_files(Path(found))

    @cached_property
    def _trace_hash(self) -> str:
        return hash_of_bytes(self.trace.read_bytes())

    @cached_property
    def _train_hash(self) -> str | None:
        train = self.train()
        return None if train is None else hash_of_bytes(train[1].read_bytes())


def assumptions(chosen: Policy) -> list[str]:
    """What a policy's predictor is told to be like, such as its precision."""
    known = signature(PREDICTORS[chosen.predictor]).parameters.values()
    told = chosen.predictor_parameters
    return [f"{p.name}: {told.get(p.name, p.default)}" for p in known if p.name.startswith("assumed_")]


def _hash_of_files(path: Path) -> str:
    """Of a file, or of all files in a directory."""
    files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    return hash_of_bytes(b"".join(part.name.encode() + part.read_bytes() for part in files))
