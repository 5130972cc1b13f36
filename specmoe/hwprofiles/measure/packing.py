"""Layout of a slot that the fused expert kernel reads, and the same product computed plainly, for checks.

Both matrices lie with the reduced dimension last, [inner, d_model] and [d_model, d_ff]. Behind the data of int8 and
int4 stand 16-bit scales, one for every `GROUP` weights of a row, in the order [groups, rows]. Of the 64 int4 weights
of a group, byte j holds number j in its low half and number j + 32 in its high half, each as value + 8.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from specmoe.errors import InputError
from specmoe.hwprofiles.measure.layers import DTYPES
from specmoe.hwprofiles.shape import BITS, GROUP, SCALE_BYTES, Format, ModelShape, compute_format, is_compressed

KINDS: dict[Format, int] = {"fp16": 16, "bf16": 16, "int8": 8, "int4": 4}  # formats that have a fused kernel


class Layout(NamedTuple):
    """Where a slot's parts begin, in bytes; the first matrix begins at 0."""

    second: int
    first_scales: int
    second_scales: int


def layout_of(shape: ModelShape, held: Format) -> Layout:
    """Layout of a slot; raises InputError for a format or a shape that the kernel cannot read."""
    if held not in KINDS:
        raise InputError(f"format {held}: no kernel here reads it from slots: one of {', '.join(KINDS)} expected")
    d_ff = shape.experts.d_ff
    if shape.d_model % GROUP or d_ff % GROUP:
        raise InputError(f"{shape.name}: the fused kernel needs multiples of {GROUP}, not {shape.d_model} and {d_ff}")
    first = shape.d_model * d_ff * (2 if shape.experts.gated else 1)
    data = math.ceil(shape.expert_parameters * BITS[held] / 8)
    scales = SCALE_BYTES * first // GROUP if is_compressed(held) else 0
    return Layout(int(first * BITS[held]) // 8, data, data + scales)


def pack(weights: Tensor, held: Format) -> tuple[Tensor, Tensor]:
    """Bytes and scales of a matrix [rows, width]; the scales are empty for 16 bits."""
    if not is_compressed(held):
        return weights.to(DTYPES[compute_format(held)]).contiguous().view(torch.uint8).view(-1), weights.new_empty(
            0, dtype=torch.float16
        )
    largest = (1 << int(BITS[held]) - 1) - 1
    groups = weights.float().view(-1, GROUP)
    scales = (groups.abs().amax(1) / largest).clamp(min=1e-7).half()
    whole = (groups / scales[:, None].float()).round().clamp(-largest, largest).to(torch.int8)
    scales = scales.view(len(weights), -1).T.reshape(-1)
    if held == "int8":
        return whole.view(torch.uint8).view(-1), scales
    low, high = (whole + 8).view(torch.uint8).chunk(2, dim=1)
    return (low | high << 4).view(-1), scales


def unpack(packed: Tensor, scales: Tensor, width: int, held: Format) -> Tensor:
    """Matrix [rows, width] in 32 bits from its bytes and scales."""
    if not is_compressed(held):
        return packed.view(DTYPES[compute_format(held)]).view(-1, width).float()
    if held == "int8":
        whole = packed.view(torch.int8).view(-1, GROUP).float()
    else:
        pairs = packed.view(-1, GROUP // 2)
        whole = torch.cat([pairs & 15, pairs >> 4], dim=1).float() - 8
    by_row = scales.view(width // GROUP, -1).T.reshape(-1, 1)
    return (whole * by_row.float()).view(-1, width)


def fill(slot: Tensor, first: Tensor, second: Tensor, shape: ModelShape, held: Format) -> None:
    """Write an expert's matrices, [inner, d_model] and [d_model, d_ff], into the bytes of a slot."""
    at = layout_of(shape, held)
    for weights, begin, scales_begin in ((first, 0, at.first_scales), (second, at.second, at.second_scales)):
        packed, scales = pack(weights, held)
        slot[begin : begin + packed.numel()] = packed
        scale_bytes = scales.view(torch.uint8)
        slot[scales_begin : scales_begin + scale_bytes.numel()] = scale_bytes


def expert_output(x: Tensor, slot: Tensor, shape: ModelShape, held: Format) -> Tensor:
    """Output of an expert for `x`, [tokens, d_model], in 32 bits, from the bytes of its slot."""
    first, second = _matrix(slot, shape, held, 0), _matrix(slot, shape, held, 1)
    inner = x.float() @ first.T
    if shape.experts.gated:
        gate, up = inner.chunk(2, dim=1)
        inner = functional.silu(gate) * up
    else:
        inner = inner.relu()
    return inner.to(DTYPES[compute_format(held)]).float() @ second.T


def _matrix(slot: Tensor, shape: ModelShape, held: Format, number: int) -> Tensor:
    at, d_ff = layout_of(shape, held), shape.experts.d_ff
    rows, width = (shape.d_model, d_ff) if number else (d_ff * (2 if shape.experts.gated else 1), shape.d_model)
    begin, scales_begin = (at.second, at.second_scales) if number else (0, at.first_scales)
    packed = slot[begin : begin + int(rows * width * BITS[held]) // 8]
    count = rows * width // GROUP * SCALE_BYTES if is_compressed(held) else 0
    return unpack(
        packed.contiguous(), slot[scales_begin : scales_begin + count].contiguous().view(torch.float16), width, held
    )
