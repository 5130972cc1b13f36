"""Timings as distributions: the first dropped, all others kept, a median and how far they spread.

From timings to numbers of a profile: source `measured`, and a reference that says how, how steady and when.
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

UNSTABLE = 0.1  # IQR / median from which on a timing is flagged
WARM_UPS = 2
REPEATS = 11


class Sample(NamedTuple):
    """Timings of one thing, ns, in the order in which they were taken."""

    raw: tuple[float, ...]

    @property
    def median(self) -> float:
        """The time that is reported."""
        return float(np.median(self.raw))

    @property
    def iqr(self) -> float:
        """Between the quartiles."""
        low, high = np.percentile(self.raw, (25, 75))
        return float(high - low)

    @property
    def spread(self) -> float:
        """IQR / median; 0 of what takes no time."""
        return self.iqr / self.median if self.median else 0.0

    @property
    def unstable(self) -> bool:
        """Whether it spreads too far to be relied on."""
        return self.spread > UNSTABLE


def sampled(once: Callable[[], float], repeats: int = REPEATS, warm_ups: int = WARM_UPS) -> Sample:
    """`once`, which gives ns, again and again; the first `warm_ups` do not count."""
    for _ in range(warm_ups):
        once()
    return Sample(tuple(once() for _ in range(repeats)))


DIGITS = 6  # of a rate: more than any timing has
MARK = "unstable:"  # begins the part of a reference that warns

Timed = Sequence[tuple[int, Sample]]
"""(amount, timings), by rising amount."""


class Records(NamedTuple):
    """Makes quantities and points that were measured on one device on one day."""

    device: str
    date: str

    def time(self, sample: Sample, how: str, less: float = 0) -> Quantity:
        """The median, ns; `less` is what is known to be no part of it. What is left is 0 or more."""
        return Quantity(max(0, round(sample.median - less)), "ns", "measured", self.ref(how, [(None, sample)]))

    def rate(self, amount: float, sample: Sample, unit: Dimension, how: str) -> Quantity:
        """`amount` in the median time, a second."""
        return Quantity(rounded(amount / sample.median * 1e9), unit, "measured", self.ref(how, [(None, sample)]))

    def given(self, value: float, unit: Dimension, how: str) -> Quantity:
        """A number that was read, or worked out of what was measured, and has no spread of its own."""
        return Quantity(value, unit, "measured", f"{how}; {self.date}, {self.device}")

    def points(self, timed: Timed, unit: Dimension, how: str) -> Points:
        """Medians."""
        medians = tuple(max(1, round(sample.median)) for _, sample in timed)
        ref = self.ref(how, [(f"at {' '.join(shown(amount, unit))}", sample) for amount, sample in timed])
        return Points(tuple(amount for amount, _ in timed), medians, unit, "measured", ref)

    def rising(self, timed: Timed, unit: Dimension, how: str) -> Points:
        """Medians; one below that of a smaller amount is raised to it, for no larger copy is faster."""
        points = self.points(timed, unit, how)
        rising = tuple(accumulate(points.times_ns, max))
        raised = sum(time > median for time, median in zip(rising, points.times_ns, strict=True))
        told = f"{points.ref}; {raised} raised to the one before" if raised else points.ref
        return dataclasses.replace(points, times_ns=rising, ref=told)

    def ref(self, how: str, samples: Sequence[tuple[str | None, Sample]]) -> str:
        """How, how often, how steady, when and where; warns of every unstable sample by its name."""
        times = min(len(sample.raw) for _, sample in samples)
        widest = max(sample.spread for _, sample in samples)
        unstable = [percent(sample.spread, 0) + (f" {at}" if at else "") for at, sample in samples if sample.unstable]
        warning = f"; {MARK} IQR {', '.join(unstable)} (over {percent(UNSTABLE, 0)})" if unstable else ""
        most = "" if len(samples) == 1 else "at most "
        return f"{how}; median of {times}, IQR {most}{percent(widest)}{warning}; {self.date}, {self.device}"


def percent(share: float, digits: int = 1) -> str:
    """A share as people write it."""
    return f"{share * 100:.{digits}f} %"


def rounded(value: float) -> float:
    """To as many digits as a timing may have."""
    return float(f"{value:.{DIGITS}g}")


def unstable(profile: HardwareProfile) -> tuple[str, ...]:
    """Names of what a measured profile itself calls unstable; curves by what they are of."""
    refs = {name: quantity.ref for name, quantity in profile.quantities.items()}
    refs |= {name: points.ref for name, points in named_points(profile).items()}
    return tuple(name for name, ref in refs.items() if MARK in ref)


def named_points(profile: HardwareProfile) -> dict[str, Points]:
    """All points of a profile, those of curves by what they are of."""
    curves: list[ExpertCurve | DenseCurve] = [*profile.expert_curves, *profile.dense_curves]
    return dict(profile.points) | {curve_name(curve): curve.points for curve in curves}


def curve_name(curve: ExpertCurve | DenseCurve) -> str:
    """`expert_curve 768 3072 fp16`: what a curve is of, without its points."""
    kind = "expert_curve" if isinstance(curve, ExpertCurve) else "dense_curve"
    facts = (value for name, value in vars(curve).items() if name not in ("points", "gated"))
    return " ".join([kind, *map(str, facts)])
