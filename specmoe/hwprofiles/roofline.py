"""Estimated times of unmeasured kernels: a floor plus the roofline.

A kernel takes its floor plus the longer of moving its bytes and doing its operations. Tiled matrix products compute
whole tiles, one per multiprocessor at a time, so they run in waves: one row costs as much as a tile of rows, and one
tile as much as one on every multiprocessor. Times here are floats; callers round once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import TILES
from specmoe.hwprofiles.shape import BITS, ComputeFormat, ModelShape


class Gemm(NamedTuple):
    """Product of rows of tokens with a weight matrix [inner, columns]."""

    inner: int
    columns: int


class Rates(NamedTuple):
    """Rates that a device reaches in one format."""

    floor_ns: int
    memory: float  # bytes/s
    arithmetic: float  # flop/s
    weight_bytes: int


class Tiles(NamedTuple):
    """Size of a tile, number of multiprocessors, and their efficiency together."""

    rows: int
    columns: int
    multiprocessors: int
    efficiency: float


def rates_of(profile: HardwareProfile, computed: ComputeFormat, speed: float = 1.0) -> Rates:
    """Rates of a profile in one format, multiplied by `speed`; the floor stays."""
    return Rates(
        floor_ns=profile.ns("device.kernel_floor"),
        memory=profile["device.memory_bandwidth"] * speed,
        arithmetic=profile[f"gemm.{computed}.rate"] * profile[f"gemm.{computed}.efficiency"] * speed,
        weight_bytes=BITS[computed] // 8,
    )


def tiles_of(profile: HardwareProfile, computed: ComputeFormat) -> Tiles | None:
    """Tiling of expert kernels in one format; None if the profile has none."""
    if computed != "fp32" or f"{TILES}.rows" not in profile:
        return None
    rows, columns, multiprocessors = (
        int(profile[f"{TILES}.{part}"]) for part in ("rows", "columns", "multiprocessors")
    )
    return Tiles(rows, columns, multiprocessors, profile[f"{TILES}.efficiency"])


def expert_gemms(shape: ModelShape) -> tuple[Gemm, Gemm]:
    """The two products of one expert; gate and up projections form one matrix."""
    d_ff = shape.experts.d_ff
    return Gemm(shape.d_model, d_ff * (2 if shape.experts.gated else 1)), Gemm(d_ff, shape.d_model)


def roofline_ns(rates: Rates, parameters: float, flops: float, more_bytes: float = 0) -> float:
    """Longer of moving the bytes (weights and `more_bytes`) and doing the operations, ns, without a floor."""
    return max((parameters * rates.weight_bytes + more_bytes) / rates.memory, flops / rates.arithmetic) * 1e9


def grouped_gemm_ns(rates: Rates, tiles: Tiles | None, peak: float, gemm: Gemm, rows: Sequence[int]) -> float:
    """Time, ns, of one launch that multiplies each expert's rows with its matrix; `peak` is at efficiency 1."""
    weights = len(rows) * gemm.inner * gemm.columns
    if tiles is None:
        return rates.floor_ns + roofline_ns(rates, weights, 2 * sum(rows) * gemm.inner * gemm.columns)
    flops = _tiled_flops(tiles, gemm, rows)
    return rates.floor_ns + roofline_ns(rates._replace(arithmetic=peak * tiles.efficiency), weights, flops)


def _tiled_flops(tiles: Tiles, gemm: Gemm, rows: Sequence[int]) -> int:
    """Operations that all multiprocessors could do until the last wave ends, idle ones included."""
    needed = sum(math.ceil(part / tiles.rows) for part in rows) * math.ceil(gemm.columns / tiles.columns)
    waves = math.ceil(needed / tiles.multiprocessors)
    return waves * tiles.multiprocessors * 2 * tiles.rows * tiles.columns * gemm.inner
