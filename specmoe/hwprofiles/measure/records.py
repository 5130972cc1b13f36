"""Timings as distributions, and the quantities and points of a profile made of them.

Warm-ups are dropped and all other samples kept; median and interquartile range (IQR) are reported. The source of every
number is `measured`; its reference says how it was measured, how often, how stable it was, and when.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.profile import DenseCurve, ExpertCurve, HardwareProfile
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
        return Quantity(max(0, round(sample.median - less)), "ns", "measured", self.ref(how, [(None, sample)]))

    def rate(self, amount: float, sample: Sample, unit: Dimension, how: str) -> Quantity:
        """Quantity of a rate per second: `amount` in the median time."""
        return Quantity(rounded(amount / sample.median * 1e9), unit, "measured", self.ref(how, [(None, sample)]))

    def given(self, value: float, unit: Dimension, how: str) -> Quantity:
        """Quantity that was read, or computed from measurements, and has no spread of its own."""
        return Quantity(value, unit, "measured", f"{how}; {self.date}, {self.device}")

    def points(self, timed: Timed, unit: Dimension, how: str) -> Points:
        """Points of the medians."""
        medians = tuple(max(1, round(sample.median)) for _, sample in timed)
        ref = self.ref(how, [(f"at {' '.join(shown(amount, unit))}", sample) for amount, sample in timed])
        return Points(tuple(amount for amount, _ in timed), medians, unit, "measured", ref)

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


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, as text."""
    return f"{share * 100:.{digits}f} %"


def rounded(value: float) -> float:
    """Value rounded to `RATE_DIGITS` significant digits."""
    return float(f"{value:.{RATE_DIGITS}g}")


def unstable(profile: HardwareProfile) -> tuple[str, ...]:
    """Names of the numbers and points that a measured profile marks as unstable."""
    refs = {name: quantity.ref for name, quantity in profile.quantities.items()}
    refs |= {name: points.ref for name, points in named_points(profile).items()}
    return tuple(name for name, ref in refs.items() if UNSTABLE_MARK in ref)


def named_points(profile: HardwareProfile) -> dict[str, Points]:
    """All points of a profile by name; those of curves under `curve_name`."""
    curves: list[ExpertCurve | DenseCurve] = [*profile.expert_curves, *profile.dense_curves]
    return dict(profile.points) | {curve_name(curve): curve.points for curve in curves}


def curve_name(curve: ExpertCurve | DenseCurve) -> str:
    """Name of a curve from its fields, e.g. `expert_curve 768 3072 fp16`."""
    kind = "expert_curve" if isinstance(curve, ExpertCurve) else "dense_curve"
    facts = (value for name, value in vars(curve).items() if name not in ("points", "gated"))
    return " ".join([kind, *map(str, facts)])
