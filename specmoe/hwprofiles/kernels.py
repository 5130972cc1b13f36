"""How long kernels take: a roofline where nothing was measured, and interpolation in measured curves elsewhere."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from specmoe.hwprofiles.curves import Interpolated, Range, extrapolation
from specmoe.hwprofiles.profile import DenseCurve, HardwareProfile
from specmoe.hwprofiles.quantity import TILES
from specmoe.hwprofiles.shape import BITS, ComputeFormat, Phase
from specmoe.hwprofiles.shares import Size


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
        weight_bytes=int(BITS[computed]) // 8,
    )


def tiles_of(profile: HardwareProfile, computed: ComputeFormat) -> Tiles | None:
    """Tiling of expert kernels in one format; None if the profile has none."""
    if computed != "fp32" or f"{TILES}.rows" not in profile:
        return None
    rows, columns, multiprocessors = (
        int(profile[f"{TILES}.{part}"]) for part in ("rows", "columns", "multiprocessors")
    )
    return Tiles(rows, columns, multiprocessors, profile[f"{TILES}.efficiency"])


def expert_gemms(size: Size) -> tuple[Gemm, Gemm]:
    """The two products of one expert; gate and up projections form one matrix."""
    return Gemm(size.d_model, size.d_ff * (2 if size.gated else 1)), Gemm(size.d_ff, size.d_model)


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


class Steps(NamedTuple):
    """Sizes of a run's steps: the range of tokens per step, and the largest context in positions."""

    phase: Phase
    tokens: Range
    context: int


More = Callable[[int, int, int], float]
"""Roofline time, ns, of (parameters, tokens, context), without reading the weights."""


def measured_ns(curves: Sequence[DenseCurve], tokens: int, context: int, more: More) -> float:
    """Time, ns, of a part from its curves, at least one, ordered by rising context."""
    times = list(accumulate((_at(curve, tokens, context, more) for curve in curves), max))
    contexts = [curve.context for curve in curves]
    if context <= contexts[0]:
        return times[0]
    if context >= contexts[-1]:
        return times[-1] + more(0, tokens, context - contexts[-1])
    right = next(at for at, measured in enumerate(contexts) if measured >= context)
    left = right - 1
    share = (context - contexts[left]) / (contexts[right] - contexts[left])
    return times[left] + share * (times[right] - times[left])


def _at(curve: DenseCurve, tokens: int, context: int, more: More) -> float:
    """Time at the context of a curve, plus the roofline of tokens beyond its range."""
    least, most = curve.points.range
    inside = Interpolated(0, curve.points)(min(max(tokens, least), most))
    return inside + more(curve.parameters, max(tokens - most, 0), context)


def beyond(curves: Sequence[DenseCurve], steps: Steps, name: str) -> list[str]:
    """Warnings for steps outside the range of a part's curves, which are ordered by rising context."""
    pairs = [(curve, tokens) for curve in curves for tokens in steps.tokens]
    lines = [extrapolation(Interpolated(0, curve.points), tokens, name, "token") for curve, tokens in pairs]
    least, most = curves[0].context, curves[-1].context
    if most and steps.context > most:
        lines.append(f"{name}: {steps.context} positions are outside the measured {least} .. {most}")
    return [line for line in dict.fromkeys(lines) if line]
