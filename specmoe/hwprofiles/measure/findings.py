"""The plan of a measurement, its results on their way to a profile, and one profile of several measurements.

A machine's host changes between one process and the next, and its clocks between one minute and the next, by more than
one measurement shows: profiles of several visits, minutes apart, hold how far they disagree.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from specmoe.hwprofiles.curves import CpuCurve, DenseCurve, ExpertCurve, Fact, Points, Timed, curve_name
from specmoe.hwprofiles.measure.bench import Bench, Effort, Records, Sample, rounded
from specmoe.hwprofiles.measure.copies import DISK_SIZES, SIZES
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import POINTS, QUANTITIES, Quantity
from specmoe.hwprofiles.shape import Phase
from specmoe.units import WHOLE

USUAL = Effort()
SHAPES = ("switch-base-128", "mixtral-8x7b")


def _powers(least: int, most: int) -> tuple[int, ...]:
    """Powers of two, ends included."""
    return tuple(1 << power for power in range(least.bit_length() - 1, most.bit_length()))


def _tokens() -> dict[Phase, tuple[int, ...]]:
    return {"decode": _powers(1, 64), "encode": _powers(16, 4096)}


def _contexts() -> dict[Phase, tuple[int, ...]]:
    return {"decode": (32, 256), "encode": (32, 256, 512)}


@dataclass(frozen=True)
class Plan:
    """Sizes at which points are measured: bytes, tokens, positions; all rising."""

    copies: tuple[int, ...] = SIZES
    reads: tuple[int, ...] = DISK_SIZES
    expansions: tuple[int, ...] = tuple(1 << power for power in range(20, 30, 2))  # 1 MiB .. 256 MiB
    expert_tokens: tuple[int, ...] = _powers(1, 1024)
    group_experts: tuple[int, ...] = _powers(1, 32)
    group_tokens: tuple[int, ...] = (1, 16, 32, 64)
    cpu_tokens: tuple[int, ...] = (1, 4, 16, 64)
    cpu_bytes: int = 1 << 30  # more than any cache of a CPU: what is read, and what experts are held in
    cpu_copy: int = 1 << 24  # size of the copies beside experts on the CPU
    dense_tokens: Mapping[Phase, tuple[int, ...]] = field(default_factory=_tokens)
    contexts: Mapping[Phase, tuple[int, ...]] = field(default_factory=_contexts)
    product: int = 8192  # rows and columns of the large matrices
    effort: Effort = USUAL


class Findings:
    """Measured numbers, points and curves by their names in a profile."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.quantities: dict[str, Quantity] = {}
        self.points: dict[str, Points] = {}
        self.experts: list[ExpertCurve] = []
        self.dense: list[DenseCurve] = []
        self.slower: dict[str, tuple[float, float]] = {}  # shares of kernels and copies beside each other, by model
        self.cpu: list[CpuCurve] = []

    def time(self, name: str, sample: Sample, how: str, less: float = 0) -> None:
        """Store a time; `less` is a known part to subtract."""
        self.quantities[name] = self.records.time(sample, how, less)

    def rate(self, name: str, amount: float, sample: Sample, how: str) -> None:
        """Store a rate per second: `amount` in the median time."""
        self.quantities[name] = self.records.rate(amount, sample, QUANTITIES[name], how)

    def given(self, name: str, value: float, how: str) -> None:
        """Store a number that was read, or computed from measurements."""
        self.quantities[name] = self.records.given(value, QUANTITIES[name], how)

    def share(self, name: str, value: float, sample: Sample, how: str) -> None:
        """Store a share, at most 1, that is inversely proportional to a time."""
        times = (sample.median, *reversed(sample.ends))
        shares = [rounded(min(1.0, value * sample.median / time)) for time in times]
        ref = self.records.ref(how, [(None, sample)])
        self.quantities[name] = Quantity(shares[0], "1", "measured", ref, *shares[1:])

    def longer(self, name: str, shares: Sequence[float], how: str) -> None:
        """Store a share by which something takes longer: the usual one, the least and the most."""
        usual, low, high = map(rounded, shares)
        ref = self.records.given(usual, "1", how).ref
        self.quantities[name] = Quantity(usual, "1", "measured", ref, min(low, usual), max(high, usual))

    def guessed(self, name: str, value: float, why: str) -> None:
        """Store an assumed number that could not be measured."""
        self.quantities[name] = Quantity(value, QUANTITIES[name], "assumed", f"not measured: {why}")

    def curve(self, name: str, timed: Sequence[tuple[int, Sample]], how: str) -> None:
        """Store points of copies or expansions."""
        self.points[name] = self.records.rising(timed, POINTS[name], how)

    def latency(self, group: str, sample: Sample, how: str) -> None:
        """Store the latency of a group with points: at most the first of them, because no curve falls."""
        self.time(f"{group}.latency", sample, f"the least amount: {how}")
        first = self.points[f"{group}.points"].times_ns[0]
        quantity = self.quantities[f"{group}.latency"]
        if quantity.value > first:
            lowered = f"{quantity.ref}; lowered to the first point"
            low = min(first, quantity.low or 0)
            self.quantities[f"{group}.latency"] = replace(quantity, value=first, ref=lowered, low=low, high=first)

    def profile(self, name: str, title: str, machine: Mapping[str, Fact]) -> HardwareProfile:
        """Profile of all results, with quantities in the order of `quantity.QUANTITIES`."""
        quantities = {name: self.quantities[name] for name in QUANTITIES if name in self.quantities}
        return HardwareProfile(
            name,
            title,
            quantities,
            self.points,
            tuple(self.experts),
            dense_curves=tuple(self.dense),
            machine=dict(machine),
            cpu_curves=tuple(self.cpu),
        )


class Context(NamedTuple):
    """Context of every task: the device, the plan, the results so far, and a callback for skipped parts."""

    bench: Bench
    plan: Plan
    found: Findings
    skip: Callable[[str], object]  # called with a skipped part and the reason


def over_visits(
    visit: Callable[[], HardwareProfile], visits: int, apart: float, sleep: Callable[[float], object] = time.sleep
) -> HardwareProfile:
    """Measure several times, with `apart` seconds between one measurement and the next, as one profile."""
    seen = [visit()]
    for _ in range(visits - 1):
        sleep(apart)
        seen.append(visit())
    return merged(seen)


def merged(visits: Sequence[HardwareProfile]) -> HardwareProfile:
    """Profile of medians over visits, with ranges that hold all visits; what the first lacks is left out."""
    first = visits[0]
    if len(visits) == 1:
        return first
    quantities = {name: _quantity([one.quantities[name] for one in visits if name in one]) for name in first.quantities}
    curves = [one.named_points for one in visits]
    points = {name: _points([known[name] for known in curves if name in known]) for name in first.named_points}

    def timed(curve: Timed) -> Timed:
        return replace(curve, points=points[curve_name(curve)])

    return replace(
        first,
        quantities=quantities,
        points={name: points[name] for name in first.points},
        expert_curves=tuple(map(timed, first.expert_curves)),
        dense_curves=tuple(map(timed, first.dense_curves)),
        cpu_curves=tuple(map(timed, first.cpu_curves)),
    )


def _quantity(seen: Sequence[Quantity]) -> Quantity:
    first, value = seen[0], float(np.median([one.value for one in seen]))
    ends = [end for one in seen for end in (one.range or (one.value,))]
    if min(ends) == max(ends) and first.range is None:
        return first
    whole = round(value) if first.unit in WHOLE else value
    return replace(first, value=whole, ref=_ref(first.ref, seen), low=min(ends), high=max(ends))


def _points(seen: Sequence[Points]) -> Points:
    alike = [one for one in seen if one.amounts == seen[0].amounts]
    times = np.array([one.times_ns for one in alike], dtype=np.float64)
    middle = np.maximum(1, np.round(np.median(times, axis=0)))
    shifts = np.median(times / middle, axis=1)
    ends = [shift * end for shift, one in zip(shifts, alike, strict=True) for end in (one.factors or (1.0, 1.0))]
    low, high = (rounded(float(end)) for end in (min(1.0, *ends), max(1.0, *ends)))
    return replace(seen[0], times_ns=tuple(map(int, middle)), ref=_ref(seen[0].ref, alike), low=low, high=high)


def _ref(ref: str, seen: Sequence[object]) -> str:
    return f"{ref}; the median of {len(seen)} visits, this being of the first"
