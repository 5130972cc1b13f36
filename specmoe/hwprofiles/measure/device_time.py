"""Device time of launches, back to back and over different memory in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import NamedTuple

import torch

from specmoe.hwprofiles.measure.bench import Bench, Beside
from specmoe.hwprofiles.measure.layers import Run
from specmoe.hwprofiles.measure.sample import REPEATS, Sample, sampled

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
