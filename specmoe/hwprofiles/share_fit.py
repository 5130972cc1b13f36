"""Fit of the shares that fused kernels reach to the machines that were measured; docs/build_shares.py repeats it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import compute_format
from specmoe.hwprofiles.shares import Launch, Share, Shares, Size, work_of

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

    def around(self, value: float) -> Range:
        """Two steps about a value, within the range."""
        step = (self.most / self.least) ** (2 / (_COARSE - 1))
        return Range(max(self.least, value / step), min(self.most, value * step))


MEMORY, ARITHMETIC = Range(0.02, 1.0), Range(0.001, 1.0)  # in which shares are looked for


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


def fit_shares(measured: Sequence[Timed], ref: str) -> Shares:
    """Shares that minimise the squares of the relative errors, with the range over each machine and size alone.

    A share on which the times do not depend takes its least value that fits them. Raises InputError without launches.
    """
    if not measured:
        raise InputError("shares of kernels: at least one measured launch expected")
    values = _fitted(_Columns(measured))
    alone: dict[object, list[Timed]] = {}
    for one in measured:
        alone.setdefault((one.profile.name, one.launch.size, one.launch.held), []).append(one)
    single = [_each(_Columns(group), values) for group in alone.values()]
    ranges = [
        Share(value, min([value, *(one[at] for one in single)]), max([value, *(one[at] for one in single)]))
        for at, value in enumerate(values)
    ]
    return Shares.of([Share(*(round(number, 4) for number in one)) for one in ranges], ref)


class _Columns:
    """Measured launches as arrays: [launches] of times and floors, [launches, kernels] of transfers and operations."""

    def __init__(self, measured: Sequence[Timed]) -> None:
        work = np.array([list(work_of(one.launch)) for one in measured], np.float64)
        experts = np.array([[one.launch.experts] for one in measured], np.float64)
        memory = np.array([[one.profile["device.memory_bandwidth"]] for one in measured])
        rate = np.array([[one.profile[f"gemm.{compute_format(one.launch.held)}.rate"]] for one in measured])
        self.times = np.array([one.time_ns for one in measured], np.float64)
        self.floors = np.array([2.0 * one.profile.ns("device.kernel_floor") for one in measured])
        self.reading, self.computing = experts * work[..., 0] / memory * 1e9, experts * work[..., 1] / rate * 1e9

    def floor(self, memory: Array, arithmetic: Array) -> Array:
        """Best floors, in floors of the device, for shares [tried]."""
        share = self.floors / self.times
        left = 1 - self._beyond(memory, arithmetic) / self.times
        return np.asarray(np.maximum(0.0, (share * left).sum(axis=-1) / (share**2).sum()))

    def error(self, memory: Array, arithmetic: Array, floor: Array) -> Array:
        """Mean squares of the relative errors, in steps that count as equal, for shares and floors [tried]."""
        times = floor[:, None] * self.floors + self._beyond(memory, arithmetic)
        return np.asarray(np.round(((times / self.times - 1) ** 2).mean(axis=-1) / _SAME))

    def _beyond(self, memory: Array, arithmetic: Array) -> Array:
        """Times without floors, [tried, launches]."""
        reading = self.reading / memory[:, None, None]
        return np.asarray(np.maximum(reading, self.computing / arithmetic[:, None, None]).sum(axis=-1))


def _fitted(columns: _Columns) -> tuple[float, float, float]:
    memories, arithmetics = MEMORY, ARITHMETIC
    for _ in range(_ROUNDS):
        memory, arithmetic = (part.ravel() for part in np.meshgrid(memories.values(), arithmetics.values()))
        floor = columns.floor(memory, arithmetic)
        best = np.lexsort((memory, arithmetic, columns.error(memory, arithmetic, floor)))[0]
        memories, arithmetics = memories.around(memory[best]), arithmetics.around(arithmetic[best])
    return float(memory[best]), float(arithmetic[best]), float(floor[best])


def _each(columns: _Columns, values: tuple[float, float, float]) -> tuple[float, float, float]:
    """Each share fitted alone while the others stay; a share on which the times do not depend stays."""
    memory, arithmetic, floor = (np.array([value]) for value in values)
    return (
        _alone(MEMORY, values[0], lambda tried: columns.error(tried, arithmetic, floor)),
        _alone(ARITHMETIC, values[1], lambda tried: columns.error(memory, tried, floor)),
        float(columns.floor(memory, arithmetic)[0]),
    )


def _alone(values: Range, usual: float, error: Callable[[Array], Array]) -> float:
    best = usual
    for _ in range(_ROUNDS):
        tried = np.append(values.values(), best)
        best = float(tried[np.lexsort((abs(np.log(tried / usual)), error(tried)))[0]])
        values = values.around(best)
    return best
