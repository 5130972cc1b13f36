"""Predictions of policies for a trace, each computed once, and prediction tables on disk.

A table is a Parquet file, one row per event, each depth's candidates one after the other in its lists. It says of which
trace and by which predictor it is; it is read for no other.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import (
    hash_of_bytes,
    hash_of_file,
    library_versions,
    make_directory,
    parsing,
    replacing,
    require_regular,
)
from specmoe.sim.decide.policy import Policy
from specmoe.sim.speculate.predictor import PredictionTable, Predictor, Routed
from specmoe.sim.speculate.predictors import FREE, PREDICTORS, make_predictor

METADATA_KEY = b"specmoe-predictions"
FORMAT = 2  # to be raised when what predictors say of the same input changes, or how it is kept
COLUMNS = {"experts": np.int16, "confidence": np.float32}


@dataclass(frozen=True)
class Predictions:
    """Predictions for one trace file and batching. `train` reads the train split, if there is one.

    `domains` are the text domains of the trace (`source`) and of the train split (`train_source`) that are read.
    With a `directory`, predictions that an earlier run left there are read instead of computed.
    """

    trace: Path
    routed: Routed
    batching: Mapping[str, Any]
    train: Callable[[], Routed | None]
    train_file: Path | None
    domains: Mapping[str, Sequence[str]]
    directory: Path | None = None
    _known: dict[str, PredictionTable] = field(default_factory=dict)

    def of(self, chosen: Policy) -> PredictionTable:
        """Predictions of a policy's predictor; raises InputError if it cannot predict on this trace."""
        parameters = parameters_of(chosen)
        predictor = make_predictor(chosen.predictor, parameters)
        if chosen.predictor in FREE:
            return self.fitted(predictor).predict(self.routed)
        described = self._described(chosen.predictor, parameters, predictor)
        if (key := hash_of(described)) not in self._known:
            self._known[key] = self._kept(described, predictor)
        return self._known[key]

    def _kept(self, described: dict[str, Any], predictor: Predictor) -> PredictionTable:
        def made() -> PredictionTable:
            return self.fitted(predictor).predict(self.routed)

        return made() if self.directory is None else cached(self.directory, self._trace_hash, described, made)

    def fitted(self, predictor: Predictor) -> Predictor:
        """A predictor that has learnt from the train split."""
        learns = type(predictor).fit is not Predictor.fit  # the train split is large
        if learns and (train := self.train()) is not None:
            predictor.fit(train)
        return predictor

    def _described(self, name: str, parameters: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
        """Everything that predictions depend on besides the trace."""
        return {
            "predictor": name,
            "parameters": {keyword: str(value) for keyword, value in parameters.items()},
            "train": self._train_hash,
            "checkpoint": self._checkpoint_hash(predictor),
            **self.batching,
            **{name: list(domains) for name, domains in self.domains.items()},
            "layers": self.routed.workload.meta.num_layers,
            "versions": library_versions() | PREDICTORS.versions(name),
        }

    def _checkpoint_hash(self, predictor: Predictor) -> str | None:
        """Hash of the network that a learned predictor loads for this trace; None if there is none."""
        meta = self.routed.workload.meta
        find = getattr(predictor, "directory", None)
        place = getattr(predictor, "checkpoint", None) if find is None else find(meta.model, meta.phase)
        return None if place is None or not Path(place).exists() else _hash_of_files(Path(place))

    @cached_property
    def _trace_hash(self) -> str:
        return hash_of_file(self.trace)

    @cached_property
    def _train_hash(self) -> str | None:
        return None if self.train_file is None else hash_of_file(self.train_file)


def parameters_of(chosen: Policy) -> dict[str, Any]:
    """The parameters of a policy's predictor.

    `device` is that of the simulated runtime; here the predictor runs on any device, with the same result.
    """
    parameters = {"depth": 1 if chosen.prefetch is None else chosen.prefetch.depth, **chosen.predictor_parameters}
    return parameters | ({"device": "auto"} if "device" in parameters else {})


def _hash_of_files(path: Path) -> str:
    """Hash of a file, or of all files in a directory."""
    files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    return hash_of_bytes(b"".join(part.name.encode() + part.read_bytes() for part in files))


def hash_of(described: Any) -> str:
    """A short name for anything that JSON can tell."""
    return hashlib.sha256(json.dumps([FORMAT, described], sort_keys=True).encode()).hexdigest()[:16]


def save(table: PredictionTable, path: Path, trace_hash: str, predictor_hash: str, described: dict[str, Any]) -> None:
    """Write one file, whole or not at all; `described` is what the predictor's hash stands for, for people."""
    events, depth, width = table.experts.shape
    about = {
        "format": FORMAT,
        "trace": trace_hash,
        "predictor": predictor_hash,
        "events": events,
        "depth": depth,
        "width": width,
        "peeks": table.peeks,
        "described": described,
    }
    columns = {name: _lists(getattr(table, name)) for name in COLUMNS} if width else {}
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True).encode()}
    with replacing(path) as fresh:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), fresh, compression="zstd")


def load(path: Path, trace_hash: str, predictor_hash: str | None = None) -> PredictionTable:
    """Read what `save` wrote; raises InputError for any other file, trace or (if given) predictor."""
    require_regular(path, "a table of predictions")
    with parsing(path, "a table of predictions"):
        raw = pq.read_table(path)
        about: dict[str, Any] = json.loads((raw.schema.metadata or {})[METADATA_KEY])
        shape = (about["events"], about["depth"], about["width"])
        experts, confidence = (_array(raw, name, dtype, shape) for name, dtype in COLUMNS.items())
        table = PredictionTable(experts, confidence, peeks=bool(about["peeks"]))
        expected = {"format": FORMAT, "trace": trace_hash}
        expected |= {} if predictor_hash is None else {"predictor": predictor_hash}
        found = {name: about[name] for name in expected}
    for name, value in expected.items():
        if found[name] != value:
            raise InputError(f"{path}: predictions of another {name}: {name} {value} expected, not {found[name]}")
    return table


def cached(
    directory: Path, trace_hash: str, described: dict[str, Any], compute: Callable[[], PredictionTable]
) -> PredictionTable:
    """The predictions described, from their file in a directory, or computed and put there."""
    predictor_hash = hash_of(described)
    path = directory / f"{described['predictor']}-{trace_hash}-{predictor_hash}.parquet"
    if path.exists():
        return load(path, trace_hash, predictor_hash)
    make_directory(directory)
    table = compute()
    save(table, path, trace_hash, predictor_hash, described)
    return table


def _lists(values: NDArray[Any]) -> pa.FixedSizeListArray:
    _, depth, width = values.shape
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), depth * width)


def _array(table: pa.Table, name: str, dtype: Any, shape: tuple[int, int, int]) -> NDArray[Any]:
    if not shape[2]:
        return np.zeros(shape, dtype)
    column = table[name].combine_chunks()
    if column.null_count or not pa.types.is_fixed_size_list(column.type):
        raise ValueError(f"{name}: lists of one size expected")
    values = column.flatten().to_numpy(zero_copy_only=False)
    if values.dtype != dtype:
        raise ValueError(f"{name}: {values.dtype}: {np.dtype(dtype)} expected")
    return np.ascontiguousarray(values).reshape(shape)
