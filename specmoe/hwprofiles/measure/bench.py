"""Timing on a device: samples, how often they are repeated, and what is recorded of them.

Each measurement is a distribution: warm-up runs are dropped, and median and interquartile range are kept.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, cycle
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from specmoe.hwprofiles.curves import Fact, Points
from specmoe.hwprofiles.measure.layers import Run
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import Quantity
from specmoe.units import Dimension, shown

UNSTABLE = 0.1  # timings with a larger IQR / median are flagged
WARM_UPS = 2
REPEATS = 11
RATE_DIGITS = 6  # significant digits; more than any timing has
UNSTABLE_MARK = "unstable:"  # begins the warning in a reference


class Sample(NamedTuple):
    """Timings of one thing, ns, in order of measurement."""

    raw: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median, ns: the reported time."""
        return float(np.median(self.raw))

    @property
    def iqr(self) -> float:
        """Interquartile range, ns."""
        low, high = np.percentile(self.raw, (25, 75))
        return float(high - low)

    @property
    def ends(self) -> tuple[float, float]:
        """5th and 95th percentile, ns: the range that is kept."""
        low, high = np.percentile(self.raw, (5, 95))
        return float(low), float(high)

    @property
    def spread(self) -> float:
        """IQR / median; 0 if the median is 0."""
        return self.iqr / self.median if self.median else 0.0

    @property
    def unstable(self) -> bool:
        """Whether the spread is too large for a reliable number."""
        return self.spread > UNSTABLE


def sampled(once: Callable[[], float], repeats: int = REPEATS, warm_ups: int = WARM_UPS) -> Sample:
    """Call `once`, which returns ns, `repeats` times after `warm_ups` calls that do not count."""
    for _ in range(warm_ups):
        once()
    return Sample(tuple(once() for _ in range(repeats)))


Timed = Sequence[tuple[int, Sample]]
"""Pairs (amount, timings), by rising amount."""


class Records(NamedTuple):
    """Maker of quantities and points measured on one device on one day."""

    device: str
    date: str

    def time(self, sample: Sample, how: str, less: float = 0) -> Quantity:
        """Quantity of the median, ns, minus a known part `less`; at least 0."""
        value, low, high = (max(0, round(time - less)) for time in (sample.median, *sample.ends))
        return Quantity(value, "ns", "measured", self.ref(how, [(None, sample)]), low, high)

    def rate(self, amount: float, sample: Sample, unit: Dimension, how: str) -> Quantity:
        """Quantity of a rate per second: `amount` in the median time."""
        value, high, low = (rounded(amount / time * 1e9) for time in (sample.median, *sample.ends))
        return Quantity(value, unit, "measured", self.ref(how, [(None, sample)]), low, high)

    def given(self, value: float, unit: Dimension, how: str) -> Quantity:
        """Quantity that was read, or computed from measurements, and has no spread of its own."""
        return Quantity(value, unit, "measured", f"{how}; {self.date}, {self.device}")

    def points(self, timed: Timed, unit: Dimension, how: str) -> Points:
        """Points of the medians."""
        medians = tuple(max(1, round(sample.median)) for _, sample in timed)
        ref = self.ref(how, [(f"at {' '.join(shown(amount, unit))}", sample) for amount, sample in timed])
        return Points(tuple(amount for amount, _ in timed), medians, unit, "measured", ref, *factors(timed))

    def rising(self, timed: Timed, unit: Dimension, how: str) -> Points:
        """Points of the medians, each raised to at least that of smaller amounts, because no larger copy is faster."""
        points = self.points(timed, unit, how)
        rising = tuple(accumulate(points.times_ns, max))
        raised = sum(time > median for time, median in zip(rising, points.times_ns, strict=True))
        ref = f"{points.ref}; {raised} raised to the one before" if raised else points.ref
        return dataclasses.replace(points, times_ns=rising, ref=ref)

    def ref(self, how: str, samples: Sequence[tuple[str | None, Sample]]) -> str:
        """Reference: how, how often, how stable, when and where; with a warning for every unstable sample."""
        times = min(len(sample.raw) for _, sample in samples)
        widest = max(sample.spread for _, sample in samples)
        unstable = [percent(sample.spread, 0) + (f" {at}" if at else "") for at, sample in samples if sample.unstable]
        warning = f"; {UNSTABLE_MARK} IQR {', '.join(unstable)} (over {percent(UNSTABLE, 0)})" if unstable else ""
        most = "" if len(samples) == 1 else "at most "
        return f"{how}; median of {times}, IQR {most}{percent(widest)}{warning}; {self.date}, {self.device}"


def factors(timed: Timed) -> tuple[float, float]:
    """Factors of a curve's times: medians over the amounts of the ends of their samples over their medians."""
    ends = [[end / sample.median for end in sample.ends] for _, sample in timed if sample.median]
    low, high = np.median(ends, axis=0) if ends else (1.0, 1.0)
    return rounded(float(low)), rounded(float(high))


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, as text."""
    return f"{share * 100:.{digits}f} %"


def rounded(value: float) -> float:
    """Value rounded to `RATE_DIGITS` significant digits."""
    return float(f"{value:.{RATE_DIGITS}g}")


def unstable(profile: HardwareProfile) -> tuple[str, ...]:
    """Names of the numbers and points that a measured profile marks as unstable."""
    refs = {name: quantity.ref for name, quantity in profile.quantities.items()}
    refs |= {name: points.ref for name, points in profile.named_points.items()}
    return tuple(name for name, ref in refs.items() if UNSTABLE_MARK in ref)


WORD_BYTES = 8  # read at once
MAX_BUFFERS = 64  # by then the last cache holds only part of them, or hardly matters
MIN_BUFFERS = 2
MAX_LAUNCHES = 100  # per sample: a driver queues this number without blocking


class Effort(NamedTuple):
    """Duration of a measurement: device time of one sample, ns, and number of samples."""

    sample_ns: float = 1_000_000
    samples: int = REPEATS


def computing(bench: "Bench", launches: Sequence[Run], effort: Effort, beside: "Beside | None" = None) -> Sample:
    """Time of one launch on the compute stream, ns, optionally while copies are under way; the launches alternate."""
    turn = in_turn(launches)
    return _timed(lambda times: bench.queued_ns(turn, times, beside), len(launches), effort)


def computing_cold(bench: "Bench", runs: Sequence[Run], effort: Effort) -> Sample:
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
    bench: "Bench", copies: Sequence[Run], effort: Effort, ahead: bool = True, beside: "Beside | None" = None
) -> Sample:
    """Time of one copy among others back to back, ns; the copies alternate."""
    turn = in_turn(copies)
    return _timed(lambda times: bench.copied_ns(turn, times, ahead, beside), len(copies), effort)


def copying_alone(bench: "Bench", copies: Sequence[Run], effort: Effort, ahead: bool = True) -> Sample:
    """Time of one copy, ns, if the host waits for each before the next."""
    turn = in_turn(copies)
    return sampled(lambda: bench.copied_ns(turn, 1, ahead), effort.samples)


def in_turn(launches: Sequence[Run]) -> Run:
    """A launch that runs the next of the given ones each time, in a circle."""
    turn = cycle(launches)
    return lambda: next(turn)()


def buffers(size: int, bench: "Bench") -> int:
    """Number of alternating buffers of a size that exceeds the device's last cache: twice its capacity."""
    return min(max(MIN_BUFFERS, math.ceil(2 * bench.l2_bytes / size)), MAX_BUFFERS)


def _timed(queued: Callable[[int], float], launches: int, effort: Effort) -> Sample:
    """Sample a launch; a first run over all buffers sets the number of launches per sample."""
    once = max(queued(launches), 1.0)
    times = min(max(1, round(effort.sample_ns / once)), MAX_LAUNCHES)
    return sampled(lambda: queued(times), effort.samples)


class Beside(NamedTuple):
    """Launch that keeps one stream busy while something is measured on the other, and its time."""

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

    def queued_ns(self, launch: Run, times: int, beside: Beside | None = None) -> float:
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
