"""Device time of launches, back to back and over different memory in turn.

What measuring asks of a machine. `cuda` is a real one; tests put the host in its place.
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

WORD = 8  # bytes that are read at once
MOST_BUFFERS = 64  # of one thing; the last cache then holds only part of them, or hardly matters
FEWEST_BUFFERS = 2
MOST_LAUNCHES = 100  # in one sample: what a driver queues without blocking


class Effort(NamedTuple):
    """How long is measured: device time of one sample, ns, and how many samples."""

    sample_ns: float = 1_000_000
    samples: int = REPEATS


def computing(bench: Bench, launches: Sequence[Run], effort: Effort) -> Sample:
    """Time of one launch to the compute stream, ns; the launches take turns."""
    turn = in_turn(launches)
    return _timed(lambda times: bench.queued_ns(turn, times), len(launches), effort)


def computing_cold(bench: Bench, runs: Sequence[Run], effort: Effort) -> Sample:
    """Time of one of several things, ns, each behind other reading that fills the device's last cache."""
    other = torch.ones(2 * bench.l2_bytes // WORD, dtype=torch.int64, device=bench.device)

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
    """Time of one copy among others back to back, ns; the copies take turns."""
    turn = in_turn(copies)
    return _timed(lambda times: bench.copied_ns(turn, times, ahead, beside), len(copies), effort)


def copying_alone(bench: Bench, copies: Sequence[Run], effort: Effort, ahead: bool = True) -> Sample:
    """Time of one copy that the host waits for before it makes the next, ns."""
    turn = in_turn(copies)
    return sampled(lambda: bench.copied_ns(turn, 1, ahead), effort.samples)


def in_turn(launches: Sequence[Run]) -> Run:
    """One launch that is another one of them each time."""
    turn = cycle(launches)
    return lambda: next(turn)()


def buffers(size: int, bench: Bench) -> int:
    """How many buffers of a size, in turn, the device's last cache cannot keep: twice what it holds."""
    return min(max(FEWEST_BUFFERS, math.ceil(2 * bench.l2_bytes / size)), MOST_BUFFERS)


def _timed(queued: Callable[[int], float], launches: int, effort: Effort) -> Sample:
    """The first run, over all memory once, also tells how many launches a sample has."""
    once = max(queued(launches), 1.0)
    times = min(max(1, round(effort.sample_ns / once)), MOST_LAUNCHES)
    return sampled(lambda: queued(times), effort.samples)


class Beside(NamedTuple):
    """Work that keeps the compute stream busy while something else is measured: one launch, and its time."""

    launch: Run
    ns: float


class Bench(Protocol):
    """A host thread with a device that has a stream to compute and one to copy, and nothing else to do."""

    device: torch.device

    @property
    def l2_bytes(self) -> int:
        """Of the device's last cache."""

    @property
    def vram_bytes(self) -> int:
        """Of the device's memory."""

    def facts(self) -> Mapping[str, Fact]:
        """What the driver and the system say of the machine; what they do not say is left out."""

    def pinned(self, size: int) -> Tensor:
        """Bytes of host memory that the device copies from by itself."""

    def captured(self, run: Run) -> Run:
        """The launch of a graph of what `run` launches."""

    def release(self) -> None:
        """Give back device memory that nobody holds any more."""

    def now(self) -> int:
        """The host's clock, ns."""

    def wait(self) -> None:
        """Wait until all that was launched has ended."""

    def queued_ns(self, launch: Run, times: int) -> float:
        """Device time of a launch to the compute stream, among `times` back to back that the host does not hold up."""

    def copied_ns(self, copy: Run, times: int, ahead: bool = True, beside: Beside | None = None) -> float:
        """Device time of a copy among `times` back to back.

        Unless `ahead`, the first begins at once: needed where a call blocks until its copy has been made.
        """

    def launch(self, launch: Run) -> None:
        """Launch to the compute stream as a replay does: behind an event, and with one at its end."""

    def issue(self, copy: Run) -> None:
        """Issue a copy as a replay does: on the other stream, behind an event, and with one at its end."""

    def await_last(self) -> None:
        """Wait for the event at the end of what `launch` launched last."""

    def handover_ns(self, copy: Run, launch: Run) -> float:
        """From the end of a copy until the end of a launch that waits for it."""

    def allocation_ns(self, size: int) -> float:
        """Host time of allocating so many bytes of device memory from the driver."""
