"""Interface to a device for measuring, and timing of launches: back to back, with buffers in turn.

`cuda` implements `Bench` on a GPU; tests use the host instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from specmoe.hwprofiles.measure.layers import Run
from specmoe.hwprofiles.measure.records import REPEATS, Sample, sampled
from specmoe.hwprofiles.profile import Fact

WORD_BYTES = 8  # read at once
MAX_BUFFERS = 64  # by then the last cache holds only part of them, or hardly matters
MIN_BUFFERS = 2
MAX_LAUNCHES = 100  # per sample: a driver queues this number without blocking


class Effort(NamedTuple):
    """Duration of a measurement: device time of one sample, ns, and number of samples."""

    sample_ns: float = 1_000_000
    samples: int = REPEATS


def computing(bench: Bench, launches: Sequence[Run], effort: Effort) -> Sample:
    """Time of one launch on the compute stream, ns; the launches alternate."""
    turn = in_turn(launches)
    return _timed(lambda times: bench.queued_ns(turn, times), len(launches), effort)


def computing_cold(bench: Bench, runs: Sequence[Run], effort: Effort) -> Sample:
    """Time of one of several runs, ns, each after reads of other data that fill the device's last cache."""
    other = torch.ones(2 * bench.l2_bytes // WORD_BYTES, dtype=torch.int64, device=bench.device)

    def behind(run: Run) -> Run:
        def both() -> None:
            other.sum()
            run()

        return bench.captured(both)

    alone = computing(bench, [bench.captured(lambda: other.sum())], effort).median
    together = computing(bench, [behind(run) for run in runs], effort)
    return Sample(tuple(max(0.0, time - alone) for time in together.raw))


def copying(
    bench: Bench, copies: Sequence[Run], effort: Effort, ahead: bool = True, beside: Beside | None = None
) -> Sample:
    """Time of one copy among others back to back, ns; the copies alternate."""
    turn = in_turn(copies)
    return _timed(lambda times: bench.copied_ns(turn, times, ahead, beside), len(copies), effort)


def copying_alone(bench: Bench, copies: Sequence[Run], effort: Effort, ahead: bool = True) -> Sample:
    """Time of one copy, ns, if the host waits for each before the next."""
    turn = in_turn(copies)
    return sampled(lambda: bench.copied_ns(turn, 1, ahead), effort.samples)


def in_turn(launches: Sequence[Run]) -> Run:
    """A launch that runs the next of the given ones each time, in a circle."""
    turn = cycle(launches)
    return lambda: next(turn)()


def buffers(size: int, bench: Bench) -> int:
    """Number of alternating buffers of a size that exceeds the device's last cache: twice its capacity."""
    return min(max(MIN_BUFFERS, math.ceil(2 * bench.l2_bytes / size)), MAX_BUFFERS)


def _timed(queued: Callable[[int], float], launches: int, effort: Effort) -> Sample:
    """Sample a launch; a first run over all buffers sets the number of launches per sample."""
    once = max(queued(launches), 1.0)
    times = min(max(1, round(effort.sample_ns / once)), MAX_LAUNCHES)
    return sampled(lambda: queued(times), effort.samples)


class Beside(NamedTuple):
    """Launch that keeps the compute stream busy while something else is measured, and its time."""

    launch: Run
    ns: float


class Bench(Protocol):
    """An otherwise idle host thread and device with one stream for computing and one for copies."""

    device: torch.device

    @property
    def l2_bytes(self) -> int:
        """Size of the device's last cache."""

    @property
    def vram_bytes(self) -> int:
        """Size of the device's memory."""

    def facts(self) -> Mapping[str, Fact]:
        """Facts about the machine from the driver and the system, as far as they report them."""

    def pinned(self, size: int) -> Tensor:
        """Allocate `size` bytes of pinned host memory."""

    def captured(self, run: Run) -> Run:
        """Capture `run` as a graph and return its launch."""

    def release(self) -> None:
        """Return unused device memory to the driver."""

    def now(self) -> int:
        """The host's clock, ns."""

    def wait(self) -> None:
        """Wait until all launched work has ended."""

    def queued_ns(self, launch: Run, times: int) -> float:
        """Device time of a launch on the compute stream among `times` back to back, never waiting for the host."""

    def copied_ns(self, copy: Run, times: int, ahead: bool = True, beside: Beside | None = None) -> float:
        """Device time of a copy among `times` back to back.

        With `ahead` false the first copy begins at once, which is needed if a call blocks until its copy is done.
        """

    def launch(self, launch: Run) -> None:
        """Launch on the compute stream as a replay does: wait for an event, launch, record an event."""

    def issue(self, copy: Run) -> None:
        """Issue a copy as a replay does: on the copy stream, wait for an event, copy, record an event."""

    def await_last(self) -> None:
        """Wait for the event recorded by the last `launch`."""

    def handover_ns(self, copy: Run, launch: Run) -> float:
        """Time from the end of a copy until the end of a launch that waits for it."""

    def allocation_ns(self, size: int) -> float:
        """Host time of allocating `size` bytes of device memory from the driver."""
