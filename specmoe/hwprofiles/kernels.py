"""How long kernels take: styles of launches, a roofline, the shares of it that fused kernels reach, measured curves.

A style says how weights are multiplied, and how many experts one launch serves. A launch of fused experts is two
kernels: up and gate projections with the activation, then the down projection. Each takes

    floor * device.kernel_floor + max(bytes / (memory * device.memory_bandwidth),
                                      weights / (unpack * gemm.fp32.rate),
                                      flops / (arithmetic * gemm.<compute format>.rate))

with the packed bytes of all experts in the launch, and the operations of as many tokens for each as the largest has.
Unpacking int8 and int4 takes instructions, which do not run on the matrix units: launches of int4 experts take as long
on an H200 as on an H100, whose memory is slower by 0.71. So `memory` of compressed classes is that of 16 bits, and
`unpack`, weights for an operation of large fp32 products, is fitted to them (0 where nothing is unpacked).

The shares belong to a class of formats. `data/kernel_shares.json` holds them, with the least and the largest value that
single sizes on single machines give; `share_fit` and docs/build_shares.py make it.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import Any, Literal, NamedTuple, get_args

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.curves import DenseCurve, Interpolated, Range, extrapolation
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import TILES
from specmoe.hwprofiles.shape import BITS, ComputeFormat, Format, Phase, bytes_of, compute_format, is_compressed

Multiply = Literal["fused", "expand"]
Launching = Literal["separate", "grouped", "grouped-wait"]

MULTIPLY: tuple[Multiply, ...] = get_args(Multiply)
LAUNCHING: tuple[Launching, ...] = get_args(Launching)


class Style(NamedTuple):
    """How the experts of an event are computed.

    `fused` multiplies with packed weights as they are read; `expand` first writes them out in 16 bits. `separate` is
    one launch per expert, each as its load lands; `grouped` is one launch for the resident experts and one for those
    that are loaded; `grouped-wait` is one launch for all, after all loads (as vLLM and llama.cpp do).
    """

    multiply: Multiply = "fused"
    launch: Launching = "separate"

    def __str__(self) -> str:
        return f"{self.multiply}/{self.launch}"


USUAL = Style()
RESIDENT = Style("fused", "grouped-wait")  # of experts that are all in VRAM: there is nothing to wait for


def style_of(text: str) -> Style:
    """The style that `text` names, e.g. "expand", "grouped" or "fused/grouped"; raises InputError."""
    style = Style()
    for part in text.split("/"):
        if part in MULTIPLY:
            style = style._replace(multiply=part)
        elif part in LAUNCHING:
            style = style._replace(launch=part)
        else:
            raise InputError(f"style {part!r}: {hint(part, (*MULTIPLY, *LAUNCHING))}")
    return style


def words_of(style: Style, held: Format) -> str:
    """What results call a style; how weights that are not compressed are multiplied is no choice."""
    return str(style) if is_compressed(held) else style.launch


def require_expandable(style: Style | None, held: Format) -> None:
    """Raise InputError for a style that expands weights which are not compressed."""
    if style is not None and style.multiply == "expand" and not is_compressed(held):
        raise InputError(f"format {held} is not compressed: style expand has nothing to expand")


FormatClass = Literal["16-bit", "int8", "int4"]
CLASSES: tuple[FormatClass, ...] = get_args(FormatClass)
PARTS = ("memory", "unpack", "arithmetic", "floor")

_INT8: tuple[Format, ...] = ("int8", "q8_0", "q6_k")


def class_of(held: Format) -> FormatClass:
    """Class of a format, whose kernels reach the same shares."""
    if compute_format(held) == held:
        return "16-bit"
    return "int8" if held in _INT8 else "int4"


class Share(NamedTuple):
    """A value and its spread between machines and sizes."""

    value: float
    low: float
    high: float


class Shares(NamedTuple):
    """Shares of one class: of memory bandwidth, of fp32 and of the compute format's arithmetic, and a kernel's floor in
    floors of the device.
    """

    memory: Share
    unpack: Share
    arithmetic: Share
    floor: Share
    ref: str

    @classmethod
    def of(cls, ranges: Sequence[Share], ref: str) -> "Shares":
        """Shares of ranges in the order of PARTS."""
        memory, unpack, arithmetic, floor = ranges
        return cls(memory, unpack, arithmetic, floor, ref)

    def slowest(self) -> "Shares":
        """The end of every range that takes longest."""
        return self._with(self.memory.low, self.unpack.low, self.arithmetic.low, self.floor.high)

    def fastest(self) -> "Shares":
        """The end of every range that takes least."""
        return self._with(self.memory.high, self.unpack.high, self.arithmetic.high, self.floor.low)

    def _with(self, *values: float) -> "Shares":
        ranges = (self.memory, self.unpack, self.arithmetic, self.floor)
        return self.of([one._replace(value=value) for one, value in zip(ranges, values, strict=True)], self.ref)


@cache
def kernel_shares() -> dict[FormatClass, Shares]:
    """Shares by class; raises InputError if the file is damaged."""
    file = files("specmoe.hwprofiles") / "data" / "kernel_shares.json"
    try:
        table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {kind: _shares(table[kind]) for kind in CLASSES}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file}: {', '.join(PARTS)} of {', '.join(CLASSES)} expected ({error!r})") from None


def shares_of(held: Format) -> Shares:
    """Shares that fused kernels of a format reach."""
    return kernel_shares()[class_of(held)]


def _shares(table: dict[str, Any]) -> Shares:
    ranges = [Share(**{name: float(table[part][name]) for name in Share._fields}) for part in PARTS]
    if not all(0 <= one.low <= one.value <= one.high for one in ranges) or max(one.high for one in ranges[:3]) > 1:
        raise ValueError("0 <= low <= value <= high, shares at most 1")
    return Shares.of(ranges, str(table["ref"]))


class Size(NamedTuple):
    """Size of an expert."""

    d_model: int
    d_ff: int
    gated: bool

    @property
    def products(self) -> tuple[int, int]:
        """Weights of its two products; gate and up projections are one matrix."""
        inner = self.d_model * self.d_ff
        return inner * (2 if self.gated else 1), inner

    @property
    def weights(self) -> int:
        """Number of its weights, without biases."""
        return sum(self.products)


class Launch(NamedTuple):
    """A launch of fused experts; each of them is computed for `tokens` tokens."""

    size: Size
    held: Format
    experts: int
    tokens: int


def launch_ns(profile: HardwareProfile, launch: Launch, shares: Shares, speed: float = 1.0) -> float:
    """Time, ns, of a launch with the rates of a profile multiplied by `speed`."""
    arithmetic = profile[f"gemm.{compute_format(launch.held)}.rate"] * speed * shares.arithmetic.value
    floor = profile.ns("device.kernel_floor") * shares.floor.value
    return sum(
        floor + launch.experts * max(reading_ns(profile, weights, launch.held, shares, speed), flops / arithmetic * 1e9)
        for weights, _, flops in work_of(launch)
    )


def reading_ns(profile: HardwareProfile, weights: int, held: Format, shares: Shares, speed: float = 1.0) -> float:
    """Time, ns, of reading and unpacking weights, the longer of the two, with rates multiplied by `speed`."""
    reading = bytes_of(weights, held) / (profile["device.memory_bandwidth"] * shares.memory.value)
    if shares.unpack.value:
        reading = max(reading, weights / (profile["gemm.fp32.rate"] * shares.unpack.value))
    return reading / speed * 1e9


def work_of(launch: Launch) -> Iterator[tuple[int, int, int]]:
    """Weights, bytes and operations of one expert in each of the two kernels."""
    for weights in launch.size.products:
        yield weights, bytes_of(weights, launch.held), 2 * weights * launch.tokens


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
