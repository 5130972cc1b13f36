"""Trained networks and unfinished training runs on disk. Import only where torch is wanted.

A trained network is `model.safetensors` and `predictor.json`. Matrices are held as int8 with a float16 scale for each
row (`NAME.scale`), other weights as float16. A training run is saved between epochs as one file, so that it can resume.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from specmoe.errors import InputError, SpecmoeError
from specmoe.files import read_json, reason, replacing, require_regular
from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.networks import network
from specmoe.sim.speculate.learned.training import Run

WEIGHTS, CARD = "model.safetensors", "predictor.json"
VOCABULARY, SCALE = "vocabulary", ".scale"
STEPS = 127  # of an int8, each way
TINY, LARGE = 6e-8, 65504.0  # of a float16
STATE = "state.safetensors"


class Checkpoint(NamedTuple):
    """A network, its words, and the card beside it."""

    net: nn.Module
    config: NetConfig
    vocabulary: NDArray[np.int32]
    card: dict[str, Any]
    stored_bytes: int


def save_checkpoint(directory: Path, net: nn.Module, vocabulary: NDArray[np.int32], card: dict[str, Any]) -> None:
    """Write both files; the card holds `config` and `temperatures`."""
    tensors = stored(net.state_dict())
    write_tensors({**tensors, VOCABULARY: torch.from_numpy(vocabulary)}, directory / WEIGHTS, {"format": "pt"})
    write_json(directory / CARD, card)


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read both files; raises InputError if there are none, or if they are damaged."""
    if not (directory / CARD).is_file() or not (directory / WEIGHTS).is_file():
        raise InputError(f"{directory}: no trained predictor: {CARD} and {WEIGHTS} expected")
    with damage(directory):
        card = read_json(directory / CARD, "the card of a trained predictor")
        require_regular(directory / WEIGHTS, "weights")
        config = NetConfig.from_json(card["config"])
        with safe_open(directory / WEIGHTS, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        held = sum(value.nbytes for value in tensors.values())
        vocabulary = tensors.pop(VOCABULARY).numpy()
        net = network(config)
        load_tensors(net, restored(tensors))
        [float(temperature) for temperature in card["temperatures"]]
    return Checkpoint(net.eval(), config, vocabulary, card, held)


def load_tensors(net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Set a network's parameters and buffers; tables of counts are as long as what is stored."""
    for name, module in net.named_modules():
        for buffer in tuple(module._buffers):
            place = f"{name}.{buffer}" if name else buffer
            if place in tensors:
                module._buffers[buffer] = tensors[place].clone()
    net.load_state_dict(tensors)


def rounded(net: nn.Module) -> None:
    """Give a network the weights that it will have once stored and loaded."""
    weights = restored(stored(net.state_dict()))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(weights[name])


def write_tensors(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    """Replace a safetensors file by a whole one; raises InputError, on a full disk for one."""
    with replacing(file) as fresh:
        try:
            save_file({name: value.contiguous() for name, value in tensors.items()}, fresh, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def write_json(file: Path, value: Any) -> None:
    """Replace a JSON file by a whole one."""
    with replacing(file) as fresh:
        fresh.write_text(json.dumps(value, indent=2) + "\n")


@contextmanager
def damage(where: Path) -> Iterator[None]:
    """Make one InputError of all that a damaged file can cause."""
    try:
        yield
    except SpecmoeError:
        raise
    except Exception as error:  # of safetensors, JSON or torch
        raise InputError(f"{where}: damaged ({reason(error)}): train it again") from None


def stored(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are held on disk."""
    held = {}
    for name, value in weights.items():
        value = value.detach().cpu()
        if value.is_floating_point() and value.ndim > 1:
            scale = (value.abs().amax(-1, keepdim=True) / STEPS).clamp(TINY, LARGE).half()
            held[name + SCALE] = scale
            held[name] = (value / scale.float()).round().clamp(-STEPS, STEPS).to(torch.int8)
        else:
            held[name] = value.clamp(-LARGE, LARGE).half() if value.is_floating_point() else value
    return held


def restored(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `stored`, but for the rounding."""
    weights = {}
    for name, value in held.items():
        if name + SCALE in held:
            weights[name] = value.float() * held[name + SCALE].float()
        elif not name.endswith(SCALE):
            weights[name] = value.float() if value.is_floating_point() else value
    return weights


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
