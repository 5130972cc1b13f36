"""Formats of an expert's weights, and their sizes.

int8 and int4 are symmetric, with one 16-bit scale per group of 64 weights: 8.25 and 4.25 bits per weight. MXFP4 also
takes 4.25 bits (4 bits, and 8 per group of 32), so the format of gpt-oss is treated as int4.
"""

from __future__ import annotations

from typing import Literal, get_args

from specmoe.errors import InputError

Format = Literal["fp32", "fp16", "bf16", "int8", "int4"]
ComputeFormat = Literal["fp32", "fp16", "bf16"]

FORMATS: tuple[Format, ...] = get_args(Format)
BITS: dict[Format, int] = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int4": 4}
GROUP = 64  # weights that share a scale
SCALE_BYTES = 2

_EXPANDED: dict[Format, ComputeFormat] = {
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "bf16",
    "int8": "fp16",
    "int4": "fp16",
}


def compute_format(held: Format) -> ComputeFormat:
    """Format in which kernels compute: the format itself, or fp16 after expansion of int8 or int4."""
    return _EXPANDED[held]


def is_compressed(held: Format) -> bool:
    """Whether the weights must be expanded before they are used."""
    return _EXPANDED[held] != held


def can_fill(home: Format, held: Format) -> bool:
    """Whether experts in format `home` can fill slots in format `held`, either unchanged or expanded on arrival."""
    return home == held or (is_compressed(home) and compute_format(home) == held)


def require_can_fill(home: Format | None, held: Format) -> None:
    """Raise InputError if experts in format `home` (None: that of the slots) cannot fill slots in format `held`."""
    if home is not None and not can_fill(home, held):
        expanded = compute_format(home)
        what = f"expanded to {expanded}" if is_compressed(home) else "copied as it is"
        raise InputError(f"{home} at home is {what}: --format {expanded} expected, not {held}")


def bytes_of(parameters: int, held: Format) -> int:
    """Bytes of `parameters` weights, scales included."""
    weights = -(-parameters * BITS[held] // 8)
    return weights + (SCALE_BYTES * -(-parameters // GROUP) if is_compressed(held) else 0)
