"""A training run between epochs: saved as one file, and gone on from. Import only where torch is wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from specmoe.errors import InputError
from specmoe.sim.speculate.learned.checkpoint import damage, write_tensors
from specmoe.sim.speculate.learned.training import Run

STATE = "state.safetensors"


def save_state(file: Path, run: Run, identity: dict[str, Any]) -> None:
    """Weights, moments, best weights and history; lots are drawn anew each epoch, so no generator needs saving."""
    tensors: dict[str, Tensor] = {f"net.{name}": value for name, value in run.net.named_parameters()}
    tensors |= {f"best.{name}": value for name, value in run.best.items()}
    for index, moments in run.optimizer.state_dict()["state"].items():
        tensors |= {f"moment.{index}.{name}": value for name, value in moments.items()}
    state = json.dumps({"identity": identity, "history": run.history})
    write_tensors({name: value.detach() for name, value in tensors.items()}, file, {"state": state})


def load_state(file: Path, run: Run, identity: dict[str, Any]) -> None:
    """Put a run where it was saved; raises InputError if the file is damaged or of another run."""
    with damage(file), safe_open(file, "pt") as stored:
        saved = json.loads(stored.metadata()["state"])
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # no mapping
    for name, value in identity.items():
        found = saved["identity"].get(name)
        if found != value:
            raise InputError(f"{file}: of a run with another {name} ({found}, not {value}): train without --resume")
    with damage(file), torch.no_grad():
        for name, parameter in run.net.named_parameters():
            parameter.copy_(tensors[f"net.{name}"])
            run.best[name] = tensors[f"best.{name}"].to(run.device)
        _load_moments(run, tensors)
        run.history = saved["history"]


def _load_moments(run: Run, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("moment."):
            _, index, moment = name.split(".")
            state.setdefault(int(index), {})[moment] = value
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": state, "param_groups": groups})
