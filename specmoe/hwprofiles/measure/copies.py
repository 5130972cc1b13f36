"""Copies by size, over the link and inside VRAM; allocation; and disk reads that bypass the page cache if possible."""

import errno
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from specmoe.errors import InputError
from specmoe.hwprofiles.measure.bench import (
    MAX_BUFFERS,
    Bench,
    Beside,
    Effort,
    Sample,
    copying,
    copying_alone,
    in_turn,
    sampled,
)
from specmoe.hwprofiles.measure.layers import Run

KIB = 1 << 10
SIZES = tuple(4 * KIB << 2 * power for power in range(10))  # 4 KiB .. 1 GiB
TILE = 4 * KIB  # random bytes that fill a buffer by repetition; all sizes are multiples
LATENCY_BYTES = 4  # a copy of this size is all latency
MIB = 1 << 20
DISK_SIZES = tuple(MIB << 2 * power for power in range(5))  # 1 MiB .. 256 MiB
BLOCK_BYTES = 4096  # bytes; reading one block is all latency
DISK_REPEATS = 5
WRITE_BYTES = 16 * MIB
Measure = Callable[[int], Sample]
"""Timings of a copy of a given number of bytes."""


class Ways(NamedTuple):
    """A kind of copy: the name of its points in a profile, its measurement, and a description."""

    points: str
    measure: Measure
    how: str


class Link:
    """Buffers of the largest size, between which all copies are made."""

    def __init__(self, bench: Bench, largest: int, effort: Effort) -> None:
        self.bench, self.effort = bench, effort
        self.pinned = bench.pinned(largest)
        self.pinned.view(-1, TILE).copy_(torch.randint(0, 256, (TILE,), dtype=torch.uint8))
        self.pageable = torch.empty(largest, dtype=torch.uint8).copy_(self.pinned)
        self.vram = torch.empty(largest, dtype=torch.uint8, device=bench.device)
        self.other = torch.empty_like(self.vram)

    def ways(self, beside: Beside) -> Iterator[Ways]:
        """All measured kinds of copies, and allocation."""
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
        """Time a copy from host memory, optionally while the compute stream is busy.

        From pageable memory the call blocks until the driver has taken the bytes, so no copy is queued ahead.
        """
        ahead = source is self.pinned
        return copying(self.bench, pairs(self.vram, source, size), self.effort, ahead, beside)

    def isolated(self, source: Tensor, size: int) -> Sample:
        """Time a copy from host memory if the host waits for each before the next."""
        return copying_alone(self.bench, pairs(self.vram, source, size), self.effort, source is self.pinned)

    def back(self, size: int) -> Sample:
        """Time a copy from the device to pinned memory."""
        return copying(self.bench, pairs(self.pinned, self.vram, size), self.effort)

    def inside(self, size: int) -> Sample:
        """Time a copy inside VRAM."""
        return copying(self.bench, pairs(self.other, self.vram, size), self.effort)

    def allocation(self, size: int) -> Sample:
        """Time an allocation of device memory."""
        return sampled(lambda: self.bench.allocation_ns(size), self.effort.samples)

    def one(self, size: int) -> Run:
        """A copy from pinned memory, another piece each time; at most the whole buffer."""
        return in_turn(pairs(self.vram, self.pinned, min(size, len(self.pinned))))


def pairs(target: Tensor, source: Tensor, size: int) -> list[Run]:
    """Copies of a size between alternating places, spread over both buffers."""
    places = [at * size for at in range(min(len(source) // size, MAX_BUFFERS))]
    return [partial(_copy, target[at : at + size], source[at : at + size]) for at in places]


def fitting(sizes: Sequence[int], largest: int) -> list[int]:
    """Sizes that are at most `largest`."""
    return [size for size in sizes if size <= largest]


def _copy(target: Tensor, source: Tensor) -> None:
    target.copy_(source, non_blocking=True)


class Reads(NamedTuple):
    """Timings of reads by size, the latency of the smallest read, and a description."""

    timed: list[tuple[int, Sample]]
    latency: Sample
    how: str


def reads(sizes: Sequence[int] = DISK_SIZES, directory: Path | None = None) -> Reads:
    """Time reads of a file's first bytes; raises InputError if there is no room for the file."""
    with _filled(max(sizes), directory) as path:
        direct = _direct(path)
        file = os.open(path, os.O_RDONLY | direct)
        try:
            latency = sampled(partial(_read, file, BLOCK_BYTES, direct), DISK_REPEATS)
            timed = [(size, sampled(partial(_read, file, size, direct), DISK_REPEATS, 1)) for size in sizes]
        finally:
            os.close(file)
    way = "past the page cache" if direct else "as the system reads it: its page cache may have helped"
    return Reads(timed, latency, f"read of a file in the directory for temporary ones, {way}")


@contextmanager
def _filled(size: int, directory: Path | None) -> Iterator[Path]:
    """Temporary file of `size` random bytes on disk."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix="specmoe-") as file:
            for start in range(0, size, WRITE_BYTES):
                file.write(os.urandom(min(WRITE_BYTES, size - start)))
            file.flush()
            os.fsync(file.fileno())
            yield Path(file.name)
    except OSError as error:
        where = directory or tempfile.gettempdir()
        raise InputError(f"{where}: {error.strerror or error}: room for a file of {size >> 20} MiB expected") from None


def _direct(path: Path) -> int:
    """Flag for reads that bypass the page cache; 0 if the system or file system does not support it."""
    flag = getattr(os, "O_DIRECT", 0)
    try:
        file = os.open(path, os.O_RDONLY | flag)
    except OSError:
        return 0
    try:
        _read(file, BLOCK_BYTES, flag)
    except OSError:
        return 0
    finally:
        os.close(file)
    return flag


def _read(file: int, size: int, direct: int) -> float:
    """Time of reading the first bytes of an open file, ns."""
    if not direct and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    buffer = mmap.mmap(-1, size)  # begins on a page, which direct reads require
    view = memoryview(buffer)
    view[:] = bytes(size)  # a page that was never written may not be there
    before, done = time.perf_counter_ns(), 0
    while done < size and (got := os.preadv(file, [view[done:]], done)):
        done += got
    taken = time.perf_counter_ns() - before
    view.release()
    buffer.close()
    if done < size:
        raise OSError(errno.EIO, f"{done} of {size} bytes could be read")
    return float(taken)
