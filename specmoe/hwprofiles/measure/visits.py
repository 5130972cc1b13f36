"""One profile of several measurements of a machine, minutes apart, and how far they disagree.

A machine's host changes between one process and the next, and its clocks between one minute and the next, by more than
the samples of one measurement show. Values are medians over the visits; ranges hold all of them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.measure.bench import rounded
from specmoe.hwprofiles.profile import HardwareProfile, Timed, curve_name
from specmoe.hwprofiles.quantity import Quantity
from specmoe.units import WHOLE


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
