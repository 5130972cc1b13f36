"""Reading from disk into host memory, past the page cache where the system allows it."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.measure.sample import Sample, sampled

MIB = 1 << 20
SIZES = tuple(MIB << 2 * power for power in range(5))  # 1 MiB .. 256 MiB
LEAST = 4096  # bytes: a block, which is all latency
REPEATS = 5
CHUNK = 16 * MIB


class Reads(NamedTuple):
    """Timings by size, of the least read, and how they were read."""

    timed: list[tuple[int, Sample]]
    latency: Sample
    how: str


def reads(sizes: Sequence[int] = SIZES, directory: Path | None = None) -> Reads:
    """Time reads of a file's first bytes; raises InputError if there is no room for the file."""
    with _filled(max(sizes), directory) as path:
        direct = _direct(path)
        file = os.open(path, os.O_RDONLY | direct)
        try:
            latency = sampled(partial(_read, file, LEAST, direct), REPEATS)
            timed = [(size, sampled(partial(_read, file, size, direct), REPEATS, 1)) for size in sizes]
        finally:
            os.close(file)
    way = "past the page cache" if direct else "as the system reads it: its page cache may have helped"
    return Reads(timed, latency, f"read of a file in the directory for temporary ones, {way}")


@contextmanager
def _filled(size: int, directory: Path | None) -> Iterator[Path]:
    """A file of so many random bytes, on disk, for as long as it is needed."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix="specmoe-") as file:
            for start in range(0, size, CHUNK):
                file.write(os.urandom(min(CHUNK, size - start)))
            file.flush()
            os.fsync(file.fileno())
            yield Path(file.name)
    except OSError as error:
        where = directory or tempfile.gettempdir()
        raise InputError(f"{where}: {error.strerror or error}: room for a file of {size >> 20} MiB expected") from None


def _direct(path: Path) -> int:
    """The flag that goes past the page cache; 0 where there is none, or the file's system has no such thing."""
    flag = getattr(os, "O_DIRECT", 0)
    try:
        file = os.open(path, os.O_RDONLY | flag)
    except OSError:
        return 0
    try:
        _read(file, LEAST, flag)
    except OSError:
        return 0
    finally:
        os.close(file)
    return flag


def _read(file: int, size: int, direct: int) -> float:
    """Time of reading the first bytes of an open file, ns."""
    if not direct and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    buffer = mmap.mmap(-1, size)  # begins on a page, as reading past the cache asks
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
