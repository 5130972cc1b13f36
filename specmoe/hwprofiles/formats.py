"""How an expert's weights are held, and how many bytes that takes.

int8 and int4 are symmetric, with one 16-bit scale for each group of 64 weights: 8.25 and 4.25 bits a weight. The latter
is also what MXFP4 takes (4 bits, and 8 for each group of 32), so gpt-oss's own format is priced as int4.
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
    """What the kernels work in: the format itself, or fp16 after expanding int8 or int4."""
    return _EXPANDED[held]


def is_compressed(held: Format) -> bool:
    """Whether the weights must be expanded before they are used."""
    return _EXPANDED[held] != held


def home_formats(held: Format) -> tuple[Format, ...]:
    """Formats that the GPU expands to that of the slots: int8 and int4 to fp16, nothing to any other."""
    return tuple(home for home in FORMATS if is_compressed(home) and compute_format(home) == held)


def is_home(held: Format, home: Format | None) -> bool:
    """Whether experts may be kept so at home: in the slots' format (None: the same), or expanded to it."""
    return home in (None, held, *home_formats(held))


def require_home(held: Format, home: Format | None) -> None:
    """Raise InputError unless `is_home`."""
    if home is None or is_home(held, home):
        return
    if is_compressed(home):
        expanded = compute_format(home)
        raise InputError(f"{home} at home is expanded to {expanded}: --format {expanded} expected")
    right = ", ".join((held, *home_formats(held)))
    raise InputError(f"{home} at home is not converted to {held}: --home-format {right} expected")


def bytes_of(parameters: int, held: Format) -> int:
    """Bytes of so many weights, scales included."""
    weights = -(-parameters * BITS[held] // 8)
    return weights + (SCALE_BYTES * -(-parameters // GROUP) if is_compressed(held) else 0)
