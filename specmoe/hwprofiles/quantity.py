"""A quantity with value, unit, source and reference, and the schema of a profile.

Quantities are stored in base units; `specmoe.units` parses all others.

    source     meaning                                                                   evidence
    measured   measured on this machine                                                  measured
    derived    computed, as `ref` says, from numbers that were measured or published     fitted
    published  published for this device by others                                       published
    assumed    everything else: a neighbouring device's number, an expectation, a guess  assumed

The evidence `extrapolated` ranks between the last two: a curve used outside its measured or fitted range.

The schema lists every dotted name that a profile must or may have.

device.vram                     memory that a model may use
device.memory_bandwidth         bytes a second that kernels reach, reads and writes together
device.kernel_floor             least time between two kernels that depend on each other
link.generation, link.lanes     PCI Express, as built in
link.contention                 optional: factor by which pinned copies take longer in whole runs than alone
link.interference               optional: share by which kernels take longer during a copy
<copy>.latency, .bandwidth      host_to_device.pinned and .pageable, device_to_host (pinned), device_copy (inside
                                VRAM, bytes copied), allocation, nvme (read into host memory)
<copy>.points                   instead of a bandwidth: measured (bytes, time); for host_to_device.pinned, copies back
to
                                back, alone: the time of each on a saturated link
<copy>.isolated                 for comparison: one copy at a time, and the host waits for it
<copy>.busy                     for comparison: copies back to back while the GPU computes
gemm.<format>.rate              rate of large matrix products; .efficiency: the share of it that experts reach
expert_tiles.fp32...            optional: expert kernels work in tiles of rows * columns, one on each multiprocessor
                                at a time, each with its part of gemm.fp32.rate * efficiency
dense.layer_floor               least time of one layer's attention and dense feed-forward: its chain of kernels
router.floor                    the same for a router: gate, softmax, choice
dequantise.<format>.rate        expanded bytes written per second, after a kernel's floor
dequantise.<format>.points      optional, replaces the rate: measured (expanded bytes, time)
host.<set>.launch               starting one expert, and .launch_dense: everything up to the next router
host.<set>.issue                starting one copy
host.<set>.event                making one stream wait for another
host.<set>.sync                 from the router's end until the host has its result
host.<set>.bookkeeping          the policy's own work, each MoE layer
host.<set>.begin                optional: from the end of the host's call until an idle device begins what it launched
host.<set>.begin_copy           optional: likewise, until an idle link begins a copy
cpu.threads                     optional, as all of cpu: threads that compute experts, one expert at a time
cpu.read.bandwidth              bytes a second that these threads read from memory
cpu.read.by_threads             instead of it: points (threads, time of reading 10^9 bytes)
cpu.<format>.rate               weights, in bytes a second, that the format's kernel reads for one token
cpu.<format>.by_threads         instead of it: points (threads, time of 10^9 bytes)
cpu.<format>.arithmetic         operations a second of the format's kernel at many tokens
cpu.call                        starting one expert
cpu.start                       of the host thread: handing an event's experts to the CPU's threads
cpu.join                        of the host thread: from their end until it has issued the result's copy and addition
cpu.slowed_by_copy              share by which an expert on the CPU takes longer during a copy from the host's memory
cpu.slows_copy                  share by which such a copy takes longer while the CPU computes an expert
<copy or gemm>.fitted_to        points (bytes or flop, time) to which the line, or the efficiency, was fitted
<copy>.held_out                 points held out of all fits, for judging them

A quantity may have `low` and `high` in its unit, low <= value <= high: what disagreeing sources, an unknown host or
repeated measurements leave open. Points and curves may have them as factors of all their times, low <= 1 <= high.

What belongs to a device and what to its host says the table `OWNERS`. A file of a device has `usual_host`, the name of
the host whose numbers complete it; a file of a host may have `measured_with`, the device that its numbers were measured
or fitted with; a file of a whole machine, as `specmoe profile measure` writes it, has neither (see `catalogue`).

A profile also has `name` and `title`, and optionally

fitted_by                       one of SYSTEM_FITS
[machine]                       plain facts about the machine that was measured
[calibration]                   errors of a fit of host costs on whole runs: see `profile.Calibration`
[[expert_curve]]                d_model, d_ff, gated, format and points (tokens, time) of experts alone on the device,
                                out of their slots; optional `kernel` (library: torch's product, after an expansion if
                                the format is compressed, which is the default; fused: the kernel that reads packed
                                slots) and `experts`, those of the launch (default 1), each with the tokens of a point
[[dense_curve]]                 part (before: everything up to the router's result in host memory, or head), phase,
                                d_model, parameters (`ModelShape.dense_parameters` or `.head_parameters`), format,
                                context (positions attended to; 0 for a head) and points (tokens, time)
[[cpu_curve]]                   d_model, d_ff, gated, format, threads and points (tokens, time) of experts on the CPU as
                                a run meets them: out of memory, between waits for the device

A curve takes precedence over the roofline for its shape, and corrects the roofline of other shapes (`launches`).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from specmoe.errors import Place, hint
from specmoe.files import require_names
from specmoe.hwprofiles.shape import FORMATS
from specmoe.units import KIND, UNITS, WHOLE, Dimension

Source = Literal["measured", "published", "derived", "assumed"]
Evidence = Literal["measured", "fitted", "published", "extrapolated", "assumed"]
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)  # strongest first
OF_SOURCE: dict[Source, Evidence] = {
    "measured": "measured",
    "derived": "fitted",
    "published": "published",
    "assumed": "assumed",
}


Bounds = tuple[float, float]

Owner = Literal["device", "host", "either"]
OWNERS: dict[str, Owner] = {  # by the beginning of a name, the longest that fits; all others are the device's
    "link.generation": "either",  # of a machine the lower one
    "link.lanes": "either",
    "link.contention": "either",
    "host_to_device.pinned": "either",  # of a machine all numbers of the slower one
    "device_to_host": "either",
    "host_to_device.pageable": "host",
    "allocation": "host",
    "nvme": "host",
    "host": "host",
    "cpu": "host",
}
LINKS = ("host_to_device.pinned", "device_to_host")  # copies that device and host both limit

COPIES = ("host_to_device.pinned", "host_to_device.pageable", "device_to_host", "device_copy", "allocation", "nvme")
GEMMS = ("gemm.fp32", "gemm.fp16", "gemm.bf16")
EXPANSIONS = ("dequantise.int8", "dequantise.int4")
TILES = "expert_tiles.fp32"
HOST_SETS = ("graph", "eager")
HOST_COSTS = ("launch", "launch_dense", "issue", "event", "sync", "bookkeeping")
CONTENTION, INTERFERENCE = "link.contention", "link.interference"
OPTIONAL_HOST_COSTS = ("begin", "begin_copy")
CPU_TIMES = ("cpu.call", "cpu.start", "cpu.join")
SLOWED_BY_COPY, SLOWS_COPY = "cpu.slowed_by_copy", "cpu.slows_copy"
CALIBRATED = (CONTENTION, INTERFERENCE, *CPU_TIMES[1:], SLOWED_BY_COPY)  # besides costs of the host
COPY_ROLES = ("points", "isolated", "busy", "fitted_to", "held_out")
SYSTEM_FITS = ("isca24",)  # values of `fitted_by`: see `fit`
BOUNDS = ("low", "high")
SHARES = "efficiency"  # suffix of names whose values are at most 1

REQUIRED: dict[str, Dimension] = {
    "device.vram": "B",
    "device.memory_bandwidth": "B/s",
    "device.kernel_floor": "ns",
    "link.generation": "1",
    "link.lanes": "1",
    **dict.fromkeys((f"{copy}.latency" for copy in COPIES), "ns"),
    **dict.fromkeys((f"{gemm}.rate" for gemm in GEMMS), "flop/s"),
    **dict.fromkeys((f"{gemm}.efficiency" for gemm in GEMMS), "1"),
    "dense.layer_floor": "ns",
    "router.floor": "ns",
    **dict.fromkeys((f"{kind}.rate" for kind in EXPANSIONS), "B/s"),
    **dict.fromkeys((f"host.{kind}.{cost}" for kind in HOST_SETS for cost in HOST_COSTS), "ns"),
}

OPTIONAL: dict[str, Dimension] = {
    CONTENTION: "1",
    INTERFERENCE: "1",
    **dict.fromkeys((f"{copy}.bandwidth" for copy in COPIES), "B/s"),
    **dict.fromkeys((f"host.{kind}.{cost}" for kind in HOST_SETS for cost in OPTIONAL_HOST_COSTS), "ns"),
    "cpu.threads": "1",
    "cpu.read.bandwidth": "B/s",
    **dict.fromkeys((f"cpu.{held}.rate" for held in FORMATS), "B/s"),
    **dict.fromkeys((f"cpu.{held}.arithmetic" for held in FORMATS), "flop/s"),
    **dict.fromkeys(CPU_TIMES, "ns"),
    SLOWED_BY_COPY: "1",
    SLOWS_COPY: "1",
    **dict.fromkeys((f"{TILES}.{part}" for part in ("rows", "columns", "multiprocessors", "efficiency")), "1"),
}

POINTS: dict[str, Dimension] = {
    **dict.fromkeys((f"{copy}.{role}" for copy in COPIES for role in COPY_ROLES), "B"),
    **dict.fromkeys((f"{kind}.points" for kind in EXPANSIONS), "B"),
    **dict.fromkeys((f"{gemm}.fitted_to" for gemm in GEMMS), "flop"),
    **dict.fromkeys((f"cpu.{kind}.by_threads" for kind in ("read", *FORMATS)), "1"),
}

QUANTITIES: dict[str, Dimension] = {**REQUIRED, **OPTIONAL}


@dataclass(frozen=True)
class Quantity:
    """One number of a profile; `value` is in the base unit `unit` and whole for a time."""

    value: float
    unit: Dimension
    source: Source
    ref: str
    low: float | None = None  # in the base unit; None if no range is known
    high: float | None = None

    @property
    def range(self) -> Bounds | None:
        """Least and largest plausible value, in the base unit; None if no range is known."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def at(self, value: float) -> "Quantity":
        """The quantity with a value out of its range, and no range any more."""
        return replace(self, value=round(value) if self.unit in WHOLE else value, low=None, high=None)

    @property
    def evidence(self) -> Evidence:
        """Evidence of a result that uses this number."""
        return OF_SOURCE[self.source]


def owner_of(name: str) -> Owner:
    """Whose a quantity is: the device's, the host's, or that of either, which limit each other."""
    return next((OWNERS[start] for start in _beginnings(name) if start in OWNERS), "device")


def _beginnings(name: str) -> Iterator[str]:
    """The name and what is left of it without its last parts."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def weakest(evidence: Iterable[Evidence]) -> Evidence:
    """Weakest of several kinds of evidence; `measured` if there are none."""
    return max(evidence, key=EVIDENCE.index, default="measured")


def read_quantity(place: Place, table: object, dimension: Dimension) -> Quantity:
    """Read a quantity of the given dimension from {value, unit, source, ref}; raises InputError for anything else."""
    fields = require_names(place, table, ("value", "unit", "source", "ref"), BOUNDS)
    scale = read_scale(place / "unit", fields["unit"], dimension)
    read_bounds(place, fields, fields["value"])
    numbers = {
        name: in_base(place / name, read_number(place / name, fields[name], dimension), scale, dimension)
        for name in ("value", *BOUNDS)
        if name in fields
    }
    source, ref = read_origin(place, fields)
    return Quantity(numbers.pop("value"), dimension, source, ref, **numbers)


def read_bounds(place: Place, fields: dict[str, Any], value: float) -> tuple[float | None, float | None]:
    """Read `low` and `high` of a table, both or neither, around a value; raises InputError for anything else."""
    given = [name for name in BOUNDS if name in fields]
    if not given:
        return None, None
    if len(given) == 1:
        raise place.wrong(f"{given[0]} alone: both low and high, or neither, expected")
    low, high = (read_number(place / name, fields[name], "ns") for name in BOUNDS)
    if not low <= read_number(place / "value", value, "ns") <= high:
        raise place.wrong(f"low {low:g}, value {value:g}, high {high:g}: low <= value <= high expected")
    return low, high


def read_origin(place: Place, fields: dict[str, Any]) -> tuple[Source, str]:
    """Read `source` and `ref` of a table; raises InputError for an unknown source or an empty reference."""
    source, ref = fields["source"], fields["ref"]
    if source not in get_args(Source):
        raise (place / "source").wrong(f"{source!r}: {hint(str(source), get_args(Source))}")
    if not isinstance(ref, str) or not ref.strip():
        raise (place / "ref").wrong(f"{ref!r}: a text that says who, where, when or how expected")
    return cast(Source, source), ref


def read_scale(place: Place, unit: object, dimension: Dimension) -> float:
    """Number of base units in one `unit`; raises InputError if it is unknown or of another dimension."""
    fitting = [name for name, known in UNITS.items() if known.dimension == dimension]
    if not isinstance(unit, str) or unit not in UNITS:
        raise place.wrong(f"{unit!r}: unknown unit: {hint(str(unit), fitting)}")
    if unit not in fitting:
        raise place.wrong(f"{unit!r} is not {KIND[dimension]}: one of {', '.join(fitting)} expected")
    return UNITS[unit].scale


def read_number(place: Place, value: object, dimension: Dimension) -> float:
    """Read a finite number above 0 (a time may be 0); raises InputError for anything else."""
    least = "0 or more" if dimension == "ns" else "more than 0"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise place.wrong(f"{value!r}: a number expected")
    if not math.isfinite(value) or value < 0 or (value == 0 and dimension != "ns"):
        raise place.wrong(f"{value}: a finite number, {least}, expected")
    return value


def in_base(place: Place, value: float, scale: float, dimension: Dimension) -> float:
    """Value in base units; times, bytes and tokens are rounded. Raises InputError if a positive value becomes 0."""
    base = value * scale
    if dimension not in WHOLE:
        return base
    if value and not round(base):
        raise place.wrong(f"{value}: at least 1 {dimension} expected")
    return round(base)
