"""What sets policies apart, read from their results: a `Point` for each, and what may be drawn together.

A step's mean latency is the sum of three parts, of the compute stream's time: `compute_ns`, it works; `stall_ns`, it
waits for a load; `idle_ns`, it waits for the host thread (which launches, decides and synchronises; what the host does
while the compute stream works costs nothing and is in no part).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median_low

from specmoe.analysis.point import Point
from specmoe.errors import InputError

BOUNDS = ("floor", "oracle", "ceiling")
FAR = 3  # times the median: what is slower does not set the scale of an axis
MS = 1e6  # ns
GIB = 2**30  # bytes
GB = 1e9  # bytes
SAME = ("trace", "trace_kind", "phase", "batch", "profile", "shape", "format", "semantics", "num_layers")
SHOWN = 3  # values that a caption tells one by one


def ranked(points: Sequence[Point]) -> list[Point]:
    """Fastest first; ties go by the policy's name."""
    return sorted(points, key=lambda point: (point.latency_ns, point.about.policy))


def winner(points: Sequence[Point]) -> Point | None:
    """The fastest that is no yardstick."""
    return next((point for point in ranked(points) if not point.yardstick), None)


def visible_limit(values: Sequence[float]) -> float:
    """The largest of the values, those `FAR` times the median aside (of an even number, the lower median)."""
    known = [value for value in values if not math.isnan(value)]
    most = FAR * median_low(known)
    return max(value for value in known if value <= most)


def bounds_of(points: Sequence[Point]) -> dict[str, float]:
    """`BOUNDS`, ns, of the slots that the points share: a point without slots may have been run with any."""
    told = next((point for point in points if not point.all_resident), points[0])
    return {name: told.bound_ns(name) for name in BOUNDS}


def parts_within(point: Point, limit: float) -> tuple[float, float, float]:
    """What is seen of compute, stall and idle, laid end to end in this order, up to a limit, ns."""
    compute = min(point.compute_ns, limit)
    stall = min(point.stall_ns, limit - compute)
    return compute, stall, min(point.idle_ns, limit - compute - stall)


def caption(points: Sequence[Point], across: Sequence[str] = ()) -> str:
    """What was run, on what, and how good the evidence is, with the warnings that hold for all.

    Raises InputError unless all points share each of `SAME` that is not among those that the figure goes `across`.
    """
    if not points:
        raise InputError("no results: there is nothing to draw")
    first = points[0].about
    told = {name: _told(points, name, name in across) for name in SAME}
    evidence = ", ".join(sorted({point.about.evidence for point in points}))
    slots = _span([point.about.slots for point in points if not point.all_resident])
    changed = ", ".join(filter(None, [_shared([point.about.changed for point in points]), *_own_changes(points)]))
    warnings = _shared([point.about.warnings for point in points])
    return (
        f"Routing: {told['trace']} ({told['trace_kind']}), {told['phase']}, {_span([point.steps for point in points])} "
        f"steps of batch {told['batch']}; replay {first.semantics}.\n"
        f"Timing: {told['shape']} in {told['format']}{slots and f', {slots} slots'}, on {told['profile']} "
        f"(evidence: {evidence}){changed and f', changed: {changed}'}."
        + (f"\nWarning: {warnings}." if warnings else "")
    )


def three_digits(value: float) -> str:
    """A positive number to three significant digits, or to the unit: 0.0123, 1.94, 463, 12345."""
    decimals = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, decimals)}f}"


def _told(points: Sequence[Point], name: str, varies: bool) -> str:
    """The value that points share, or where it may vary all of them."""
    values = {getattr(point.about, name) for point in points}
    if len(values) > 1 and not varies:
        found = ", ".join(sorted(map(str, values)))
        raise InputError(f"results that differ in {name} ({found}) cannot be drawn together")
    if all(isinstance(value, int) for value in values):
        return _span(list(values))
    return ", ".join(sorted(values)) if len(values) <= SHOWN else f"{len(values)} of them"


def _own_changes(points: Sequence[Point]) -> list[str]:
    """What is changed for one policy only, as of a predictor; for a few policies at most."""
    everywhere = set.intersection(*(set(point.about.changed) for point in points))
    names = sorted({point.about.policy for point in points if set(point.about.changed) > everywhere})
    own = [(p.about.policy, [item for item in p.about.changed if item not in everywhere]) for p in points]
    shared = {name: _shared([items for policy, items in own if policy == name]) for name in names}
    return [f"{changed} ({name})" for name, changed in shared.items() if changed and len(names) <= SHOWN]


def _shared(lists: Sequence[Sequence[str]]) -> str:
    """What is in every list, in the order of the first."""
    return ", ".join(item for item in lists[0] if all(item in other for other in lists))


def _span(values: Sequence[int]) -> str:
    ends = sorted({min(values), max(values)}) if values else []
    return " to ".join(map(str, ends))
