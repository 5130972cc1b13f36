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
        for memory, source in (("pinned", self.pinned), ("pageable", self.pageable)):
            to_device, group = partial(self.to_device, source), f"host_to_device.{memory}"
            yield Ways(f"{group}.points", to_device, f"{memory} copies back to back, alone")
            yield Ways(f"{group}.isolated", partial(self.isolated, source), f"{memory} copies, each waited for")
            busy = partial(to_device, beside=beside)
            yield Ways(f"{group}.busy", busy, f"{memory} copies back to back while experts compute")
        yield Ways("device_to_host.points", self.back, "copies to pinned memory back to back, alone")
        yield Ways("device_copy.points", self.inside, "copies inside VRAM back to back, alone")
        yield Ways("allocation.points", self.allocation, "allocation by the driver, host time")

    def to_device(self, source: Tensor, size: int, beside: Beside | None = None) -> Sample:
        """From the host's memory, beside work of the compute stream if told.

        From pageable memory the call blocks until the driver has taken the bytes, so none is queued ahead.
        """
        ahead = source is self.pinned
        return copying(self.bench, pairs(self.vram, source, size), self.effort, ahead, beside)

    def isolated(self, source: Tensor, size: int) -> Sample:
        """The same, each waited for before the next is made."""
        return copying_alone(self.bench, pairs(self.vram, source, size), self.effort, source is self.pinned)

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
