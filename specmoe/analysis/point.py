"""One run as figures see it: what was run, the means of its steps, and what sets runs apart.

A point comes from a row of `specmoe.summary`, that of a sweep or of a single result.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any

from specmoe.errors import InputError
from specmoe.hwprofiles.quantity import OPTIONAL, REQUIRED
from specmoe.results import RunResult
from specmoe.summary import BOUNDS, CHOICES, SCALE, SET, SPREAD, summary
from specmoe.uncertainty import Lead, Timed, band, fits, is_drawn, lead_of, machines_of, timed

DIMENSIONS = REQUIRED | OPTIONAL
UNITS = {"B/s": ("GB/s", 1e9), "B": ("GiB", 2**30), "ns": ("us", 1e3), "flop/s": ("TFLOP/s", 1e12)}


def changes(row: Mapping[str, Any]) -> tuple[str, ...]:
    """name=value for each choice that is not the usual one, each value that is set and each that is scaled."""
    choices = {name: known(row[name]) or usual for name, usual in CHOICES.items()}
    chosen = [f"{name.replace('_', '-')}={choices[name]}" for name, usual in CHOICES.items() if choices[name] != usual]
    varied = [name for name in row if name.startswith((SET, SCALE)) and known(row[name]) is not None]
    return (*chosen, *(shown(name, row[name]) for name in varied if not (name.startswith(SCALE) and row[name] == 1)))


def known(value: Any) -> Any:
    """The value, or None where a cell is empty."""
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def shown(column: str, value: Any) -> str:
    """`host_to_device.pinned.bandwidth=12 GB/s` for a column `set.*`, `dense.layer_floor x 0.8` for one `scale.*`."""
    if column.startswith(SCALE):
        return f"{column.removeprefix(SCALE)} x {value:.4g}"
    name = column.removeprefix(SET)
    if isinstance(value, str):
        return f"{name}={value}"
    unit, size = unit_of(name)
    return f"{name}={value / size:.4g}{unit and f' {unit}'}"


def of_machine(column: str) -> bool:
    """Whether a column `set.*` or `scale.*` changes a number of the profile, so that it bears on every policy."""
    return column.startswith(SCALE) or column.removeprefix(SET) in DIMENSIONS


def unit_of(name: str) -> tuple[str, float]:
    """The unit that a value of a profile is shown in, and how many base units it is; none for other names."""
    return UNITS.get(DIMENSIONS.get(name, ""), ("", 1.0))


GIB = 2**30  # bytes
COPIED = ("policy", "trace", "trace_kind", "phase", "profile", "shape", "format", "style", "semantics", "evidence")
DRAWN = ("policy", "profile", "yardstick", "latency_mean_ns", "expected_error", "validated", *SPREAD)
COUNTED = ("slots", "batch", "num_layers", "expert_bytes", "vram_peak_bytes")


@dataclass(frozen=True)
class About:
    """What was run; the fields bear the names that `Manifest` gives them."""

    policy: str
    trace: str
    trace_kind: str
    phase: str
    profile: str
    shape: str
    format: str
    semantics: str
    evidence: str
    slots: int
    batch: int
    num_layers: int
    expert_bytes: int  # in its slot
    vram_peak_bytes: int
    yardstick: bool  # no runtime could do this with the model
    all_resident: bool  # no slots were shared, as every expert had one
    warnings: tuple[str, ...] = ()
    cliff_slots: int | None = None  # up to which an LRU over all layers hits nothing, where it is told
    style: str = ""  # in which experts are multiplied and launched; empty where it is not known
    changed: tuple[str, ...] = ()  # values that are not the profile's or the policy's own: name=value
    bounds: Mapping[str, float] = field(default_factory=dict)  # mean step, ns, by `BOUNDS`
    fits: str = ""  # what is said where every expert has a slot
    band: str = ""  # the expected error and its basis, where they are known


@dataclass(frozen=True)
class Tail:
    """Percentiles of a step's time, ns."""

    p50: float
    p95: float
    p99: float
    max: float


UNKNOWN = Tail(math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Point:
    """One run: mean times of a step in ns, shares from 0 to 1."""

    about: About
    steps: int
    compute_ns: float
    stall_ns: float
    idle_ns: float
    hit_rate: float
    useful_share: float  # of the bytes loaded, those of experts that were then used; 1 if nothing was loaded
    prefetches: bool
    precision: float | None = None  # share of the prefetched experts that were used; None if none was prefetched
    tokens_per_second: float = math.nan
    bytes_loaded: float = math.nan  # in a step
    tail: Tail = UNKNOWN
    sem_ns: float = 0.0  # standard error of the mean step
    error: float = 0.0  # expected, of the ratio to another policy's mean step: a share
    drawn: Mapping[str, Any] = field(default_factory=dict)  # `DRAWN` of a row that has a spread over drawn machines

    @property
    def latency_ns(self) -> float:
        """Mean time of a step."""
        return self.compute_ns + self.stall_ns + self.idle_ns

    @property
    def range_ns(self) -> tuple[float, float]:
        """Mean step on the faster and the slower end of 90 % of the drawn machines; twice the mean where none were."""
        if not self.drawn:
            return self.latency_ns, self.latency_ns
        return float(self.drawn["step_p5_ns"]), float(self.drawn["step_p95_ns"])

    def rate_at(self, step_ns: float) -> float:
        """Tokens per second if a mean step took another time."""
        return self.tokens_per_second * self.latency_ns / step_ns

    @property
    def vram_gib(self) -> float:
        """VRAM for experts."""
        return self.about.slots * self.about.expert_bytes / GIB

    @property
    def peak_gib(self) -> float:
        """VRAM for all weights."""
        return self.about.vram_peak_bytes / GIB

    @property
    def all_resident(self) -> bool:
        """Whether no slots were shared, as every expert had one."""
        return self.about.all_resident

    @property
    def holds_all(self) -> bool:
        """Whether every expert was in VRAM, in slots that the configuration has or in slots of the policy's own."""
        return self.all_resident or (self.about.fits != "" and self.bytes_loaded == 0)

    @property
    def timed(self) -> Timed:
        """The mean step and what is not known of it."""
        return Timed(self.about.policy, self.latency_ns, self.sem_ns, self.error)

    @property
    def yardstick(self) -> bool:
        """Whether no runtime could do this with the model: it holds every expert, knows what is to come (if only
        partly), or needs a model trained for it (pre-gated)."""
        return self.about.yardstick

    def bound_ns(self, name: str) -> float:
        """Mean step of floor, oracle, ceiling or link; nan if the result does not tell."""
        return float(self.about.bounds.get(f"{name}_ns", math.nan))


def point(result: RunResult) -> Point:
    """What a result of at least one step says of its policy."""
    row = summary(result)
    return point_of_row(row | {name: math.nan for name in BOUNDS if row[name] is None})


def point_of_row(row: Mapping[str, Any]) -> Point:
    """What a row of a sweep says, one that has figures."""
    copied: dict[str, Any] = {name: str(row[name]) for name in COPIED} | {name: int(row[name]) for name in COUNTED}
    subject = About(
        **copied,
        yardstick=bool(row["yardstick"]),
        all_resident=bool(row["yardstick"]) and row["bytes_loaded"] == 0,  # whoever shares slots has to load
        warnings=tuple(row["warnings"]),
        cliff_slots=int(row["cliff_slots"]),
        changed=changes(row),
        bounds={name: float(row[name]) for name in BOUNDS},
        fits=fits(row),
        band=band(row),
    )
    judged = timed(row)
    steps, loaded = int(row["steps"]), int(row["bytes_loaded"])
    loads = int(row["prefetch_loads"]) + int(row["demand_loads"])
    prefetched, compute, stall = int(row["prefetch_loads"]), row["compute_ns"] / steps, row["stall_ns"] / steps
    return Point(
        about=subject,
        steps=steps,
        compute_ns=compute,
        stall_ns=stall,
        idle_ns=float(row["latency_mean_ns"]) - compute - stall,
        hit_rate=float(row["hit_rate"]),
        useful_share=1 - int(row["prefetch_wasted"]) / loads if loads else 1.0,
        prefetches=prefetched > 0,
        precision=float(row["precision"]) if prefetched else None,
        tokens_per_second=float(row["tokens_per_second"]),
        bytes_loaded=loaded / steps,
        tail=Tail(*(float(row[f"latency_{name}_ns"]) for name in ("p50", "p95", "p99", "max"))),
        sem_ns=judged.sem_ns,
        error=judged.error,
        drawn={name: row[name] for name in DRAWN} if is_drawn(row) else {},
    )


BOUND_LINES = ("floor", "oracle", "ceiling")
FAR = 3  # times the median: what is slower does not set the scale of an axis
MS = 1e6  # ns

GB = 1e9  # bytes
SAME = ("trace", "trace_kind", "phase", "batch", "profile", "shape", "format", "semantics", "num_layers")
SHOWN = 3  # values that a caption tells one by one


def ranked(points: Sequence[Point]) -> list[Point]:
    """Fastest first; ties go by the policy's name."""
    return sorted(points, key=lambda point: (point.latency_ns, point.about.policy))


def winner(points: Sequence[Point]) -> Point | None:
    """The fastest that is no yardstick."""
    return next((point for point in ranked(points) if not point.yardstick), None)


def lead(points: Sequence[Point]) -> Lead | None:
    """The fastest that is no yardstick, and who is level with it; None if all are yardsticks."""
    real = [point.timed for point in points if not point.yardstick]
    return lead_of(real) if real else None


def visible_limit(values: Sequence[float]) -> float:
    """The largest of the values, those `FAR` times the median aside (of an even number, the lower median)."""
    known = [value for value in values if not math.isnan(value)]
    most = FAR * median_low(known)
    return max(value for value in known if value <= most)


def bounds_of(points: Sequence[Point]) -> dict[str, float]:
    """`BOUNDS`, ns, of the slots that the points share: a point without slots may have been run with any."""
    told = next((point for point in points if not point.all_resident), points[0])
    return {name: told.bound_ns(name) for name in BOUND_LINES}


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
    styles = ", ".join(sorted({point.about.style for point in points if not point.all_resident} - {""}))
    changed = ", ".join(filter(None, [_shared([point.about.changed for point in points]), *_own_changes(points)]))
    warnings = _shared([point.about.warnings for point in points])
    return (
        f"Routing: {told['trace']} ({told['trace_kind']}), {told['phase']}, {_span([point.steps for point in points])} "
        f"steps of batch {told['batch']}; replay {first.semantics}.\n"
        f"Timing: {told['shape']} in {told['format']}{styles and f' ({styles})'}{slots and f', {slots} slots'}, "
        f"on {told['profile']} "
        f"(evidence: {evidence}){changed and f', changed: {changed}'}."
        + (f"\nWarning: {warnings}." if warnings else "")
    )


def whiskers(points: Sequence[Point]) -> str:
    """What the whiskers of a figure are, as a line of its caption; empty where no machines were drawn."""
    drawn = [point.drawn for point in points if point.drawn]
    if not drawn:
        return ""
    machines = ", ".join(sorted({machines_of(row) for row in drawn}))
    return f"\nWhiskers: 90 % of {machines}. The timing model's own error is not in them."


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
