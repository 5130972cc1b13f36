"""Shares of a machine's rates that fused kernels reach, by class of formats.

A launch of fused experts is two kernels: up and gate projections with the activation, then the down projection. Each
takes

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
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple, get_args

from specmoe.errors import InputError
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import Format, bytes_of, compute_format

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
