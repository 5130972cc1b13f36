"""What a run gives: one row per (step, layer) and a manifest; `specmoe.summary` makes one row of the two.

Decision columns (`DECISIONS`) do not depend on hardware; two runs of the same decisions, simulated or real, must agree
in them exactly. Timing columns (`TIMES`) are integer nanoseconds.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import parsing, replacing, require_regular

OF_MISSES = (
    "cpu_uses",  # demanded experts that the CPU computes
    "cpu_tokens",  # of these experts
    "later_loads",  # of experts that the CPU computed, for later events, and of those
    "later_useful",
    "dropped_uses",  # demanded experts that an approximate policy leaves out,
    "low_uses",  # computes from copies of few bits,
    "deferred_uses",  # or joins a layer later
    "changed_mass",  # router weight of these uses, millionths of a token
)
DECISIONS = (
    "step",
    "layer",
    "tokens",  # that run in the step
    "demands",  # distinct experts
    "hits",  # of them resident, landed or not
    "demand_loads",
    "prefetch_loads",  # issued in this event, and of those
    "prefetch_useful",
    "prefetch_wasted",
    *OF_MISSES,  # all 0 where every miss is loaded
)
OF_CPU = (
    "cpu_ns",  # the CPU computes experts
    "cpu_stall_ns",  # the compute stream waits for their result
)
TIMES = (
    "begin_ns",  # the host launches the dense part
    "end_ns",  # the next event begins
    "host_ns",  # the host thread works
    "compute_ns",  # the compute stream works
    "stall_ns",  # the compute stream waits for loads
    "link_ns",  # copying of the loads issued in this event, if nothing slows it
    *OF_CPU,  # all 0 where the CPU computes no expert
)
OTHERS = (
    "late_hits",  # resident, but had not landed
    "bytes_loaded",  # over the link, by the loads issued in this event, and of those
    "bytes_wasted",  # by loads that nobody waited for or used
)
COLUMNS = (*DECISIONS, *OTHERS, *TIMES)
METADATA_KEY = b"specmoe"
Table = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Manifest:
    """Everything a result depends on, and how good the evidence is."""

    trace: str
    trace_kind: str
    phase: str
    policy: str
    parameters: dict[str, Any]
    profile: str
    shape: str
    format: str
    semantics: str
    slots: int
    batch: int
    num_layers: int
    expert_bytes: int  # in its slot
    vram_peak_bytes: int
    evidence: str
    yardstick: bool  # no runtime could follow it: it peeks, needs a model made for it, or holds more than fits
    assumed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    warm_up_steps: int = 0  # the first steps, which figures and bounds leave out
    staggered: bool = False  # a batch of decode sequences started at spread positions
    bounds: dict[str, int] = field(default_factory=dict)  # mean step latency, ns
    break_even_precision: float | None = None  # of one expert ahead, where it was asked for and there is one
    hashes: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    style: str = ""  # of expert kernels; empty in a file of version 0.1.0
    dense_format: str = ""  # of weights that are no experts; likewise
    host: str = ""  # that the device stands in; empty of a profile of a whole machine
    fits: bool = False  # every expert has a slot
    expected_error: float | None = None  # of the mean step, a share; None in a file of version 0.1.0
    validated: bool = False  # whether that bounds most runs, or is a lower bound
    error_basis: str = ""
    domains: tuple[str, ...] = ()  # text domains whose tokens ran; empty in a file of version 0.1.0
    ratio_error: float | None = None  # expected, of the ratio of two policies' mean steps, a share; likewise
    kept_tokens: int | None = None  # of those after the warm-up, where drafted ones are verified
    prefill_steps: tuple[int, ...] | None = None  # steps that are prefills, where the run is sessions
    spread: dict[str, Any] = field(default_factory=dict)  # over drawn machines: `summary.SPREAD`, where there were any
    budget: dict[str, int] = field(default_factory=dict)  # lines of the VRAM's budget, bytes


@dataclass(frozen=True)
class RunResult:
    """A table of `COLUMNS`, [events] each, and its manifest."""

    table: Table
    manifest: Manifest

    def save(self, path: Path) -> None:
        """Write one Parquet file, whole or not at all."""
        described = json.dumps(dataclasses.asdict(self.manifest), sort_keys=True).encode()
        table = pa.table(self.table).replace_schema_metadata({METADATA_KEY: described})
        with replacing(path) as fresh:
            pq.write_table(table, fresh, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "RunResult":
        """Read what `save` wrote; raises InputError for anything else."""
        require_regular(path, "a result of specmoe")
        with parsing(path, "a result of specmoe"):
            table = pq.read_table(path)
            raw: dict[str, Any] = json.loads((table.schema.metadata or {})[METADATA_KEY])
            columns = {name: _column(table, name) for name in COLUMNS}
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
            fields.setdefault("yardstick", _was_yardstick(fields["parameters"]))
            for name in ("bounds", "budget"):
                fields[name] = {line: int(value) for line, value in raw.get(name, {}).items()}
            return cls(columns, Manifest(**fields))


def _column(table: pa.Table, name: str) -> NDArray[np.int64]:
    """A column; 0 throughout where a file of version 0.1.0, whose misses are all loaded, lacks it."""
    if name in (*OF_MISSES, *OF_CPU) and name not in table.column_names:
        return np.zeros(len(table), np.int64)
    column: NDArray[np.int64] = table[name].to_numpy().astype(np.int64, casting="safe")
    return column


def _was_yardstick(parameters: dict[str, Any]) -> bool:
    """The manifest's `yardstick`, of a file from before it was kept there (version 0.1.0)."""
    knows = parameters.get("predictor") in ("oracle", "noisy_oracle", "pregated")
    peeks = str(parameters.get("eviction")).startswith("belady")
    return knows or peeks or parameters.get("sharing") == "all-resident"


def same_decisions(one: RunResult, other: RunResult) -> None:
    """Raise InputError, naming the first difference, unless both made the same decisions."""
    for name in DECISIONS:
        if not np.array_equal(one.table[name], other.table[name]):
            raise InputError(f"decisions differ in {name}: such results cannot be compared")


def latencies(result: RunResult) -> NDArray[np.int64]:
    """Time of every step, ns, [steps]."""
    layers = result.manifest.num_layers
    ends, begins = result.table["end_ns"][layers - 1 :: layers], result.table["begin_ns"][::layers]
    steps: NDArray[np.int64] = ends - begins
    return steps
