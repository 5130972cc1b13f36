"""Slots of the fused kernel: what is packed comes back, and the plain product of a slot is that of its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_shape
from specmoe.hwprofiles.measure.packing import KINDS, expert_output, fill, layout_of, pack, unpack

ERRORS = {"fp16": 1e-3, "bf16": 1e-2, "int8": 2e-2, "int4": 0.3}


@pytest.mark.parametrize("held", KINDS)
def test_whole_numbers_of_a_scale_come_back(held: Any) -> None:
    weights = torch.randint(-7, 8, (8, 192)).float() * 0.25
    weights[:, ::64] = 7 * 0.25  # every group has the largest number, so that its scale is 0.25
    if held == "int8":
        weights[:, ::64] = 127 * 0.25
    assert torch.equal(unpack(*pack(weights, held), 192, held), weights)


@pytest.mark.parametrize("held", KINDS)
@pytest.mark.parametrize("name", ["switch-base-128", "olmoe-1b-7b"])
def test_the_product_of_a_slot(name: str, held: Any) -> None:
    shape, generator = load_shape(name), torch.Generator().manual_seed(0)
    inner = shape.experts.d_ff * (2 if shape.experts.gated else 1)
    first = torch.randn((inner, shape.d_model), generator=generator) * 0.02
    second = torch.randn((shape.d_model, shape.experts.d_ff), generator=generator) * 0.02
    x = torch.randn((3, shape.d_model), generator=generator)
    slot = torch.zeros(shape.expert_bytes(held), dtype=torch.uint8)
    fill(slot, first, second, shape, held)
    middle = x @ first.T
    if shape.experts.gated:
        gate, up = middle.chunk(2, dim=1)
        middle = torch.nn.functional.silu(gate) * up
    else:
        middle = middle.relu()
    right = middle @ second.T
    assert (expert_output(x, slot, shape, held) - right).norm() / right.norm() < ERRORS[held]


def test_parts_of_a_slot_lie_behind_each_other() -> None:
    shape = load_shape("qwen3-30b-a3b")
    at = layout_of(shape, "int4")
    assert at.second == shape.d_model * 2 * 768 // 2 < at.first_scales < at.second_scales < shape.expert_bytes("int4")


def test_a_format_without_a_kernel_is_refused() -> None:
    with pytest.raises(InputError, match="no kernel here reads it from slots"):
        layout_of(load_shape("qwen3-30b-a3b"), "q4_k")
