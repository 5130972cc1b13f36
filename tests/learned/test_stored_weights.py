"""Weights on disk: int8 rows with a scale each, and what that costs in precision."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from learned_cases import LEARNABLE, SIZES

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file
from torch import nn

from specmoe.sim.speculate.learned.checkpoint import (
    SCALE,
    TINY,
    load_checkpoint,
    restored,
    rounded,
    save_checkpoint,
    stored,
)
from specmoe.sim.speculate.learned.config import ARCHITECTURES, NetConfig, config_for
from specmoe.sim.speculate.learned.networks import network

WORDS = np.arange(5, dtype=np.int32)


def test_by_hand_a_row_is_stored_in_steps_of_its_largest_entry_over_127() -> None:
    held = stored({"w": torch.tensor([[127.0, -2.4, 0.6], [0.0, 63.5, -31.5]])})
    assert held["w"].tolist() == [[127, -2, 1], [0, 127, -63]]
    assert held["w" + SCALE].tolist() == [[1.0], [0.5]]
    assert (held["w"].dtype, held["w" + SCALE].dtype) == (torch.int8, torch.float16)
    assert restored(held)["w"].tolist() == [[127, -2, 1], [0, 63.5, -31.5]]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_no_entry_moves_by_more_than_half_a_step(size: float) -> None:
    weights = size * torch.randn(50, 4, 30, generator=torch.Generator().manual_seed(0))
    held = stored({"w": weights})
    step = held["w" + SCALE].float()
    assert ((restored(held)["w"] - weights).abs() <= step / 2 * 1.0001).all()


def test_rows_of_zeros_stay_zeros_and_tiny_ones_do_not_divide_by_zero() -> None:
    weights = torch.zeros(3, 4)
    weights[1], weights[2, 0] = 1e-12, 1.0
    held = stored({"w": weights})
    back = restored(held)["w"]
    assert held["w" + SCALE].min() > 0
    assert back[0].tolist() == [0, 0, 0, 0]
    assert (back[1] - weights[1]).abs().max() <= TINY / 2
    assert back[2].tolist() == pytest.approx([1, 0, 0, 0], rel=1e-3)


def test_integers_are_not_touched_and_vectors_are_float16() -> None:
    weights = {"ids": torch.tensor([[1, 2**40]]), "bias": torch.tensor([0.1, -3.0]), "counts": torch.tensor([7, 8])}
    held = stored(weights)
    assert set(held) == set(weights)
    assert (held["ids"].dtype, held["bias"].dtype) == (torch.int64, torch.float16)
    back = restored(held)
    assert back["ids"].tolist() == [[1, 2**40]]
    assert back["counts"].tolist() == [7, 8]
    assert back["bias"].tolist() == pytest.approx([0.1, -3.0], rel=2**-11)


def test_rounding_twice_changes_nothing_more() -> None:
    once = restored(stored({"w": torch.randn(20, 30, generator=torch.Generator().manual_seed(1))}))
    twice = restored(stored(once))
    assert (once["w"] - twice["w"]).abs().max() <= 1e-3 * once["w"].abs().max()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_loaded_is_the_rounded_network(architecture: str, tmp_path: Path) -> None:
    net, config = made(architecture)
    save_checkpoint(tmp_path, net, WORDS, {"config": config.to_json(), "temperatures": [1.0] * config.depth})
    loaded = load_checkpoint(tmp_path)
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    rounded(net)
    for name, value in loaded.net.named_parameters():
        assert torch.equal(value, net.get_parameter(name)), name
    for name, value in net.named_buffers():
        assert torch.equal(value, buffers[name]), name  # rounding is of weights only
    assert loaded.vocabulary.tolist() == WORDS.tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_is_little_more_than_a_byte_for_each_weight_of_a_matrix(architecture: str, tmp_path: Path) -> None:
    net, config = made(architecture, width=64, hidden=256)
    save_checkpoint(tmp_path, net, WORDS, {"config": config.to_json(), "temperatures": [1.0] * config.depth})
    floats = sum(value.numel() for value in net.state_dict().values() if value.is_floating_point())
    held = load_file(tmp_path / "model.safetensors")
    integers = sum(value.nbytes for value in net.state_dict().values() if not value.is_floating_point())
    size = sum(value.nbytes for value in held.values()) - integers - WORDS.nbytes
    assert 1.0 < size / floats < 1.25  # float16 would be 2
    assert load_checkpoint(tmp_path).stored_bytes == size + integers + WORDS.nbytes


def made(architecture: str, **sizes: int) -> tuple[nn.Module, NetConfig]:
    """A network with random weights, and its configuration."""
    features = ("token", "probs", "history") + ("lookahead",) * (architecture == "fusion")
    meta = dataclasses.replace(LEARNABLE, has_lookahead=True)
    config = config_for(meta, architecture, 2, features, SIZES | sizes)
    config = dataclasses.replace(config, words=len(WORDS))
    return network(config, 0), config
