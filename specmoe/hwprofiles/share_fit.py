"""Fit of the shares that fused kernels reach to the machines that were measured; docs/build_shares.py repeats it."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles.kernels import Launch, Share, Shares, Size, work_of
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import compute_format

_COARSE, _ROUNDS = 41, 4  # values of a share that are tried, and how often around the best
_SAME = 1e-9  # errors that differ by less are equal
Array = NDArray[np.float64]


class Range(NamedTuple):
    """Range of a share, by equal ratios."""

    least: float
    most: float

    def values(self) -> Array:
        """Values across the range, ends included."""
        return np.geomspace(self.least, self.most, _COARSE)

    def around(self, value: float) -> "Range":
        """Two steps about a value, within the range."""
        step = (self.most / self.least) ** (2 / (_COARSE - 1))
        return Range(max(self.least, value / step), min(self.most, value * step))


READING, ARITHMETIC = Range(0.004, 1.0), Range(0.001, 1.0)  # in which shares are looked for
NOTHING = Share(0, 0, 0)  # to unpack


class Timed(NamedTuple):
    """A measured launch on a machine."""

    profile: HardwareProfile
    launch: Launch
    time_ns: float


def measured_launches(profiles: Iterable[HardwareProfile]) -> list[Timed]:
    """Every point of the `fused` curves of profiles."""
    return [
        Timed(profile, Launch(Size(curve.d_model, curve.d_ff, curve.gated), curve.format, curve.experts, tokens), time)
        for profile in profiles
        for curve in profile.expert_curves
        if curve.kernel == "fused"
        for tokens, time in zip(curve.points.amounts, curve.points.times_ns, strict=True)
    ]


def fit_shares(measured: Sequence[Timed], ref: str, memory: Share | None = None) -> Shares:
    """Shares that minimise the squares of the relative errors, with the range over each machine and size alone.

    With the share of `memory` given, that of unpacking is fitted in its place; else nothing is unpacked. A share on
    which the times do not depend takes its least value that fits them. Raises InputError without launches.
    """
    if not measured:
        raise InputError("shares of kernels: at least one measured launch expected")
    known = None if memory is None else memory.value
    values = _fitted(_Columns(measured, known))
    alone: dict[object, list[Timed]] = {}
    for one in measured:
        alone.setdefault((one.profile.name, one.launch.size, one.launch.held), []).append(one)
    single = [_each(_Columns(group, known), values) for group in alone.values()]
    ranges = [
        Share(value, min([value, *(one[at] for one in single)]), max([value, *(one[at] for one in single)]))
        for at, value in enumerate(values)
    ]
    reading, *rest = (Share(*(round(number, 4) for number in one)) for one in ranges)
    return Shares.of([*((reading, NOTHING) if memory is None else (memory, reading)), *rest], ref)


class _Columns:
    """Measured launches as arrays: [launches] of times and floors, [launches, kernels] of transfers and operations.

    `reading` is what the first fitted share divides: reading from memory, or with its share known, unpacking.
    """

    def __init__(self, measured: Sequence[Timed], memory_share: float | None) -> None:
        work = np.array([list(work_of(one.launch)) for one in measured], np.float64)
        experts = np.array([[one.launch.experts] for one in measured], np.float64)
        memory = np.array([[one.profile["device.memory_bandwidth"]] for one in measured])
        rate = np.array([[one.profile[f"gemm.{compute_format(one.launch.held)}.rate"]] for one in measured])
        self.times = np.array([one.time_ns for one in measured], np.float64)
        self.floors = np.array([2.0 * one.profile.ns("device.kernel_floor") for one in measured])
        read, self.computing = experts * work[..., 1] / memory * 1e9, experts * work[..., 2] / rate * 1e9
        if memory_share is None:
            self.reading, self.least = read, np.zeros_like(read)
        else:
            fp32 = np.array([[one.profile["gemm.fp32.rate"]] for one in measured])
            self.reading, self.least = experts * work[..., 0] / fp32 * 1e9, read / memory_share

    def floor(self, reading: Array, arithmetic: Array) -> Array:
        """Best floors, in floors of the device, for shares [tried]."""
        share = self.floors / self.times
        left = 1 - self._beyond(reading, arithmetic) / self.times
        return np.asarray(np.maximum(0.0, (share * left).sum(axis=-1) / (share**2).sum()))

    def error(self, reading: Array, arithmetic: Array, floor: Array) -> Array:
        """Mean squares of the relative errors, in steps that count as equal, for shares and floors [tried]."""
        times = floor[:, None] * self.floors + self._beyond(reading, arithmetic)
        return np.asarray(np.round(((times / self.times - 1) ** 2).mean(axis=-1) / _SAME))

    def _beyond(self, reading: Array, arithmetic: Array) -> Array:
        """Times without floors, [tried, launches]."""
        time = np.maximum(self.reading / reading[:, None, None], self.least)
        return np.asarray(np.maximum(time, self.computing / arithmetic[:, None, None]).sum(axis=-1))


def _fitted(columns: _Columns) -> tuple[float, float, float]:
    readings, arithmetics = READING, ARITHMETIC
    for _ in range(_ROUNDS):
        reading, arithmetic = (part.ravel() for part in np.meshgrid(readings.values(), arithmetics.values()))
        floor = columns.floor(reading, arithmetic)
        best = np.lexsort((reading, arithmetic, columns.error(reading, arithmetic, floor)))[0]
        readings, arithmetics = readings.around(reading[best]), arithmetics.around(arithmetic[best])
    return float(reading[best]), float(arithmetic[best]), float(floor[best])


def _each(columns: _Columns, values: tuple[float, float, float]) -> tuple[float, float, float]:
    """Each share fitted alone while the others stay; a share on which the times do not depend stays."""
    reading, arithmetic, floor = (np.array([value]) for value in values)
    return (
        _alone(READING, values[0], lambda tried: columns.error(tried, arithmetic, floor)),
        _alone(ARITHMETIC, values[1], lambda tried: columns.error(reading, tried, floor)),
        float(columns.floor(reading, arithmetic)[0]),
    )


def _alone(values: Range, usual: float, error: Callable[[Array], Array]) -> float:
    best = usual
    for _ in range(_ROUNDS):
        tried = np.append(values.values(), best)
        best = float(tried[np.lexsort((abs(np.log(tried / usual)), error(tried)))[0]])
        values = values.around(best)
    return best
