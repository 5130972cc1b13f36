"""One training run from a trace to a checkpoint. Import only where torch is wanted."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import specmoe.traces
from specmoe.errors import InputError
from specmoe.files import library_versions, make_directory, today
from specmoe.sim.speculate.learned.checkpoint import STATE, load_state, rounded, save_checkpoint, save_state, write_json
from specmoe.sim.speculate.learned.config import NetConfig, config_for, require_features, require_same_shape
from specmoe.sim.speculate.learned.data import Spans, columns_of, rows_of, spans_of, split, vocabulary_of
from specmoe.sim.speculate.learned.inputs import Tables
from specmoe.sim.speculate.learned.networks import learn_statistics, network
from specmoe.sim.speculate.learned.timing import memory_errors, pick_device, running_times, sample
from specmoe.sim.speculate.learned.training import Material, Recipe, Run, best_temperatures, evaluate
from specmoe.traces.store import Trace

METRICS = "metrics.json"


@dataclass(frozen=True)
class TrainJob:
    """Everything that determines a training run; `validation` is a share of sequences, or a trace of its own is named.

    `features` None is all that the trace has, but the look-ahead for `fusion` only; `sizes` are fields of `NetConfig`.
    """

    trace: str
    architecture: str
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    validation: float = 0.2
    validation_trace: str | None = None
    depth: int = 3
    features: tuple[str, ...] | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    resume: bool = False

    def check(self) -> None:
        """Raise InputError for an option out of range."""
        for name, least in (("epochs", 1), ("batch", 1), ("patience", 1), ("seed", 0)):
            if getattr(self.recipe, name) < least:
                raise InputError(f"--{name} {getattr(self.recipe, name)}: at least {least} expected")
        if not self.recipe.rate > 0:
            raise InputError(f"--rate {self.recipe.rate:g}: more than 0 expected")
        if not 0 < self.validation < 1:
            raise InputError(f"--validation {self.validation:g}: a share between 0 and 1 expected")


def train(job: TrainJob, after_epoch: Callable[[Run], None] = lambda run: None) -> dict[str, Any]:
    """Train, and write checkpoint, card and metrics into `job.out`; returns the metrics. Raises InputError."""
    job.check()
    trace, device = specmoe.traces.open(job.trace), pick_device(job.device)
    config, vocabulary = _config(job, trace)
    make_directory(job.out)
    run, identity = Run(network(config, job.recipe.seed), config, job.recipe, device), _identity(job, config, trace)
    state = job.out / STATE
    if job.resume and state.exists():
        load_state(state, run, identity)

    def between(run: Run) -> None:
        save_state(state, run, identity)
        after_epoch(run)

    with memory_errors(job.recipe.batch):
        material = _material(job, trace, config, vocabulary, device)
        learn_statistics(
            run.net, material.tables, torch.from_numpy(rows_of(material.train)).to(device), job.recipe.seed
        )
        run.train(material, between)
        metrics = _finish(job, run, material, vocabulary, identity)
    state.unlink()
    return metrics


def _config(job: TrainJob, trace: Trace) -> tuple[NetConfig, NDArray[np.int32]]:
    """The network, and the words that it has embeddings for."""
    if not len(trace):
        raise InputError(f"{job.trace}: no tokens in this trace")
    config = config_for(trace.meta, job.architecture, job.depth, job.features, job.sizes)
    if config.architecture == "transformer" and config.hidden % config.heads:
        raise InputError(f"hidden={config.hidden}: a multiple of heads={config.heads} expected")
    if config.clusters > min(config.experts, 255):
        raise InputError(f"clusters={config.clusters}: at most {min(config.experts, 255)} expected")
    tokens = trace.token[rows_of(_spans(job, trace)[0])]
    vocabulary = vocabulary_of(tokens, "token" in config.features)
    return replace(config, words=len(vocabulary)), vocabulary


def _spans(job: TrainJob, trace: Trace) -> tuple[Spans, Spans | None]:
    """Sequences that train; those of the same trace that validate, unless another trace does."""
    spans = spans_of(trace.sequence)
    return (spans, None) if job.validation_trace else split(spans, job.validation, job.recipe.seed)


def _material(
    job: TrainJob, trace: Trace, config: NetConfig, vocabulary: NDArray[np.int32], device: torch.device
) -> Material:
    training, held = _spans(job, trace)
    tables = Tables.of(columns_of(trace.read(), config, vocabulary), device)
    if held is not None:
        return Material(tables, training, tables, torch.from_numpy(rows_of(held)).to(device))
    other = specmoe.traces.open(str(job.validation_trace))
    if not len(other):
        raise InputError(f"{job.validation_trace}: no tokens in this trace")
    require_same_shape(config, other.meta, job.validation_trace)
    require_features(config, other.meta)
    held_tables = Tables.of(columns_of(other.read(), config, vocabulary), device)
    return Material(tables, training, held_tables, torch.arange(len(other), device=device))


def _finish(
    job: TrainJob, run: Run, material: Material, vocabulary: NDArray[np.int32], identity: dict[str, Any]
) -> dict[str, Any]:
    rounded(run.net)
    held = (run.net, material.held_tables, material.held, run.config)
    temperatures = best_temperatures(*held)
    metrics = {
        "architecture": job.architecture,
        "validation": evaluate(*held, temperatures),
        "temperatures": temperatures,
        "best_epoch": run.best_epoch + 1,
        "epochs": run.history,
        "seconds": round(sum(epoch["seconds"] for epoch in run.history), 1),
        "device": torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else run.device.type,
    }
    card = identity | {
        "temperatures": temperatures,
        "versions": library_versions("torch", "numpy"),
        "date": today(),
    }
    save_checkpoint(job.out, run.net, vocabulary, card)
    metrics["running_time"] = _running_times(job, material.held.cpu().numpy(), run.device)
    write_json(job.out / METRICS, metrics)
    return metrics


def _running_times(job: TrainJob, held: NDArray[np.int64], device: torch.device) -> dict[str, dict[str, int]]:
    """Measured on validation rows."""
    trace = specmoe.traces.open(job.validation_trace or job.trace)
    block = sample(trace.read(), held, trace.meta.phase)
    return running_times(job.out, job.architecture, trace.meta, block, device)


def _identity(job: TrainJob, config: NetConfig, trace: Trace) -> dict[str, Any]:
    """What determines the weights, but for the device."""
    recipe = job.recipe._asdict()
    validates = job.validation_trace or f"{job.validation:g} of the sequences"
    return {
        "architecture": config.architecture,
        "model": trace.meta.model,
        "phase": trace.meta.phase,
        "trace": job.trace,
        "trace_hash": hashlib.sha256(trace.path.read_bytes()).hexdigest()[:16],
        "validation": validates,
        **recipe,
        "config": config.to_json(),
    }
