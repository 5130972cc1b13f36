"""What sets policies apart, read from their results: a `Point` for each, and what may be drawn together.

A step's mean latency is the sum of three parts, of the compute stream's time: `compute_ns`, it works; `stall_ns`, it
waits for a load; `idle_ns`, it waits for the host thread (which launches, decides and synchronises; what the host does
while the compute stream works costs nothing and is in no part).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from specmoe.errors import InputError
from specmoe.results import Manifest, RunResult, latencies

BOUNDS = ("floor", "oracle", "ceiling")
FAR = 3  # times the median: what is slower does not set the scale of an axis
MS = 1e6  # ns
GIB = 2**30  # bytes
SAME = ("trace", "trace_kind", "phase", "batch", "profile", "shape", "format", "semantics", "num_layers")


@dataclass(frozen=True)
class Point:
    """One run: mean times of a step in ns, shares from 0 to 1."""

    manifest: Manifest
    steps: int
    compute_ns: float
    stall_ns: float
    idle_ns: float
    hit_rate: float
    useful_share: float  # of the bytes loaded, those of experts that were then used; 1 if nothing was loaded
    prefetches: bool

    @property
    def latency_ns(self) -> float:
        """Mean time of a step."""
        return self.compute_ns + self.stall_ns + self.idle_ns

    @property
    def vram_gib(self) -> float:
        """VRAM for experts."""
        return self.manifest.slots * self.manifest.expert_bytes / GIB

    @property
    def all_resident(self) -> bool:
        """Whether no slots were shared, as every expert had one."""
        return self.manifest.parameters.get("sharing") == "all-resident"

    @property
    def yardstick(self) -> bool:
        """Whether no runtime could do this with the model: it holds every expert, knows what is to come (if only
        partly), or needs a model trained for it (pre-gated)."""
        chosen = self.manifest.parameters
        knows = chosen.get("predictor") in ("oracle", "noisy_oracle", "pregated")
        return self.all_resident or knows or str(chosen.get("eviction")).startswith("belady")

    def bound_ns(self, name: str) -> float:
        """Mean step of one of `BOUNDS`; nan if the result does not tell."""
        return float(self.manifest.bounds.get(f"{name}_ns", math.nan))


def point(result: RunResult) -> Point:
    """What a result of at least one step says of its policy."""
    total = {name: int(column.sum()) for name, column in result.table.items()}
    steps = latencies(result)
    loads = total["demand_loads"] + total["prefetch_loads"]
    return Point(
        manifest=result.manifest,
        steps=len(steps),
        compute_ns=total["compute_ns"] / len(steps),
        stall_ns=total["stall_ns"] / len(steps),
        idle_ns=(int(steps.sum()) - total["compute_ns"] - total["stall_ns"]) / len(steps),
        hit_rate=total["hits"] / total["demands"] if total["demands"] else 1.0,
        useful_share=1 - total["prefetch_wasted"] / loads if loads else 1.0,
        prefetches=total["prefetch_loads"] > 0,
    )


def ranked(points: Sequence[Point]) -> list[Point]:
    """Fastest first; ties go by the policy's name."""
    return sorted(points, key=lambda point: (point.latency_ns, point.manifest.policy))


def winner(points: Sequence[Point]) -> Point | None:
    """The fastest that is no yardstick."""
    return next((point for point in ranked(points) if not point.yardstick), None)


def visible_limit(values: Sequence[float]) -> float:
    """The largest of the values, those `FAR` times the median aside (of an even number, the lower median)."""
    known = [value for value in values if not math.isnan(value)]
    most = FAR * median_low(known)
    return max(value for value in known if value <= most)


def parts_within(point: Point, limit: float) -> tuple[float, float, float]:
    """What is seen of compute, stall and idle, laid end to end in this order, up to a limit, ns."""
    compute = min(point.compute_ns, limit)
    stall = min(point.stall_ns, limit - compute)
    return compute, stall, min(point.idle_ns, limit - compute - stall)


def caption(points: Sequence[Point]) -> str:
    """What was run, on what, and how good the evidence is; raises InputError unless all points share it."""
    if not points:
        raise InputError("no results: there is nothing to draw")
    first = points[0].manifest
    for name in SAME:
        values = sorted({str(getattr(point.manifest, name)) for point in points})
        if len(values) > 1:
            raise InputError(f"results that differ in {name} ({', '.join(values)}) cannot be drawn together")
    evidence = ", ".join(sorted({point.manifest.evidence for point in points}))
    slots = _span([point.manifest.slots for point in points if not point.all_resident])
    changed = ", ".join(first.parameters.get("set", ()))
    return (
        f"Routing: {first.trace} ({first.trace_kind}), {first.phase}, {_span([point.steps for point in points])} steps "
        f"of batch {first.batch}; replay {first.semantics}.\n"
        f"Timing: {first.shape} in {first.format}{slots and f', {slots} slots'}, on {first.profile} "
        f"(evidence: {evidence}){changed and f', changed: {changed}'}."
    )


def three_digits(value: float) -> str:
    """A positive number to three significant digits, or to the unit: 0.0123, 1.94, 463, 12345."""
    decimals = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, decimals)}f}"


def _span(values: Sequence[int]) -> str:
    ends = sorted({min(values), max(values)}) if values else []
    return " to ".join(map(str, ends))
