"""Copies by size: over the link in its ways, inside VRAM, and what allocation takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from specmoe.hwprofiles.measure.bench import Bench, Beside
from specmoe.hwprofiles.measure.device_time import MOST_BUFFERS, Effort, copying, copying_alone, in_turn
from specmoe.hwprofiles.measure.layers import Run
from specmoe.hwprofiles.measure.sample import Sample, sampled

KIB = 1 << 10
SIZES = tuple(4 * KIB << 2 * power for power in range(10))  # 4 KiB .. 1 GiB
TILE = 4 * KIB  # of random bytes, over and over; all sizes are multiples
LEAST = 4  # bytes: a copy that is all latency

Measure = Callable[[int], Sample]
"""From bytes to timings."""


class Ways(NamedTuple):
    """How each kind of copy is timed, by the name of its points; `latency` is that of its group."""

    points: str
    measure: Measure
    how: str


class Link:
    """The buffers of one size, the largest, between which everything is copied."""

    def __init__(self, bench: Bench, largest: int, effort: Effort) -> None:
        self.bench, self.effort = bench, effort
        self.pinned = bench.pinned(largest)
        self.pinned.view(-1, TILE).copy_(torch.randint(0, 256, (TILE,), dtype=torch.uint8))
        self.pageable = torch.empty(largest, dtype=torch.uint8).copy_(self.pinned)
        self.vram = torch.empty(largest, dtype=torch.uint8, device=bench.device)
        self.other = torch.empty_like(self.vram)

    def ways(self, beside: Beside) -> Iterator[Ways]:
        """Everything that is measured of copies, allocation included."""
        yield Ways("host_to_device.pinned.points", self.pinned_copy, "pinned copies back to back, alone")
        yield Ways("host_to_device.pinned.isolated", self.isolated, "pinned copies one at a time, each waited for")
        busy = partial(self.busy, beside=beside)
        yield Ways("host_to_device.pinned.busy", busy, "pinned copies back to back while experts compute")
        yield Ways("host_to_device.pageable.points", self.pageable_copy, "pageable copies back to back, alone")
        yield Ways("device_to_host.points", self.back, "copies to pinned memory back to back, alone")
        yield Ways("device_copy.points", self.inside, "copies inside VRAM back to back, alone")
        yield Ways("allocation.points", self.allocation, "allocation by the driver, host time")

    def pinned_copy(self, size: int) -> Sample:
        """From pinned memory to the device."""
        return copying(self.bench, pairs(self.vram, self.pinned, size), self.effort)

    def isolated(self, size: int) -> Sample:
        """The same, each waited for before the next is made."""
        return copying_alone(self.bench, pairs(self.vram, self.pinned, size), self.effort)

    def busy(self, size: int, beside: Beside) -> Sample:
        """The same, back to back while the compute stream works."""
        return copying(self.bench, pairs(self.vram, self.pinned, size), self.effort, beside=beside)

    def pageable_copy(self, size: int) -> Sample:
        """From ordinary memory; the call blocks until the driver has taken the bytes."""
        return copying(self.bench, pairs(self.vram, self.pageable, size), self.effort, ahead=False)

    def back(self, size: int) -> Sample:
        """From the device to pinned memory."""
        return copying(self.bench, pairs(self.pinned, self.vram, size), self.effort)

    def inside(self, size: int) -> Sample:
        """Inside VRAM."""
        return copying(self.bench, pairs(self.other, self.vram, size), self.effort)

    def allocation(self, size: int) -> Sample:
        """Of device memory."""
        return sampled(lambda: self.bench.allocation_ns(size), self.effort.samples)

    def one(self, size: int) -> Run:
        """A copy from pinned memory, another piece of it each time; the whole of it if that is less."""
        return in_turn(pairs(self.vram, self.pinned, min(size, len(self.pinned))))


def pairs(target: Tensor, source: Tensor, size: int) -> list[Run]:
    """Copies of a size between places that take turns, spread over both buffers as far as they go."""
    places = [at * size for at in range(min(len(source) // size, MOST_BUFFERS))]
    return [partial(_copy, target[at : at + size], source[at : at + size]) for at in places]


def fitting(sizes: Sequence[int], largest: int) -> list[int]:
    """Those of the sizes that are no larger."""
    return [size for size in sizes if size <= largest]


def _copy(target: Tensor, source: Tensor) -> None:
    target.copy_(source, non_blocking=True)
