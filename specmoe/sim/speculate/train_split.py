"""The train split that belongs to a trace: what predictors and popularity are learnt from."""

from __future__ import annotations

from pathlib import Path

import specmoe.traces
from specmoe.errors import InputError
from specmoe.traces.schema import TraceMeta
from specmoe.traces.store import Trace


def train_beside(trace: str) -> str | None:
    """The name of a bundled trace's train split; None for a file, of which nobody knows what it was cut from."""
    parts = trace.split("/")
    return "/".join([*parts[:-1], "train"]) if len(parts) == 3 and not Path(trace).exists() else None


def open_train(name: str, meta: TraceMeta) -> Trace:
    """The train split for a trace with this metadata; raises InputError if it is of another phase or model size."""
    train = specmoe.traces.open(name)
    for what in ("phase", "num_layers", "num_experts", "top_k"):
        if getattr(train.meta, what) != getattr(meta, what):
            raise InputError(f"{name}: {what} {getattr(train.meta, what)}: {getattr(meta, what)} expected")
    return train
