"""What a long run adds up part by part: counts, sums, a histogram of its steps, and a row of each step in a file."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specmoe.files import make_directory, replacing
from specmoe.sim.decide.table import CPU, DecisionTable, First
from specmoe.sim.timing.retimer import Retimed
from specmoe.summary import Counts, Latencies, Sums
from specmoe.traces.parts import Part
from specmoe.traces.workload import Ints

DIGITS = 11  # binary ones that the histogram keeps of a latency
STEPS = ("step", "tokens", "latency_ns", "demands", "hits", "demand_loads", "prefetch_loads")  # columns of the file


class Paid(NamedTuple):
    """Times of a part, ns: of a copy of an expert of each layer, and of all predictions."""

    copies: Ints
    predicted: int


class Tally:
    """Counts and sums of the steps after the warm-up; `size` is that of an expert of each layer on the link, bytes.

    By default it is empty, for others to be merged into it.
    """

    def __init__(self, warm_up: int = 0, keys: int = 0, size: Ints | None = None) -> None:
        self._counts, self._times = dict.fromkeys(Counts._fields, 0), dict[str, int]()
        self._cold, self._warm_up, self._end = 0, warm_up, 0
        self._counted = np.zeros(keys, np.bool_)  # whether the last load of a key was issued after the warm-up
        self._steps = Histogram()
        self._size, self._loaded, self._wasted = np.zeros(0, np.int64) if size is None else size, 0, 0  # bytes
        self.prefetching_ns = self._predicted = 0

    def add(
        self, part: Part, table: DecisionTable, timed: Retimed, paid: Paid, first: First
    ) -> dict[str, NDArray[Any]]:
        """Add a part; the columns of its steps."""
        uses, loads, layers = table.uses, table.loads, table.num_layers
        latencies = np.diff(timed.step_end[0], prepend=self._end)
        self._end = int(timed.step_end[0, -1])
        self._cold += int(latencies[: first.step].sum())
        self._steps.add(latencies[first.step :])
        fresh = np.arange(len(loads.key)) >= first.load
        before = np.where(loads.event < 0, self._counted[loads.key], fresh)
        self._counted[loads.key] = before
        ahead, used = fresh & ~loads.demand, before & ~loads.demand & loads.used
        prefetched, on_cpu = fresh & loads.prefetch, uses.where[first.use :] == CPU
        layer = loads.key // table.num_experts
        self.prefetching_ns += int(paid.copies[layer[prefetched]].sum())
        self._loaded += int(self._size[layer[fresh]].sum())
        self._wasted += int(self._size[layer[ahead]].sum() - self._size[layer[used]].sum())
        self._predicted += paid.predicted
        counts = {
            "steps": table.num_steps - first.step,
            "events": table.num_steps * layers - first.event,
            "tokens": int(part.workload.step_tokens[first.step :].sum()),
            "demands": len(uses.key) - first.use,
            "hits": int(uses.hit[first.use :].sum()),
            "demand_loads": int(loads.demand[first.load :].sum()),
            "prefetch_loads": int(prefetched.sum()),
            "prefetch_useful": int((used & loads.prefetch).sum()),
            "cpu_uses": int(on_cpu.sum()),
            "cpu_tokens": int(uses.tokens[first.use :][on_cpu].sum()),
            "later_loads": int((fresh & loads.later).sum()),
            "later_useful": int((used & loads.later).sum()),
        }
        for name, count in counts.items():
            self._counts[name] += count
        sums = {"link": timed.link, "host": timed.host, "compute": timed.compute - timed.slowed}
        self._times |= {name: self._times.get(name, 0) + int(sum_[0]) for name, sum_ in sums.items()}
        so_far = {"slowed": timed.slowed, "stall": timed.stall, "late_hits": timed.late_hits}
        so_far |= {"cpu": timed.cpu, "cpu_stall": timed.cpu_stall}
        self._times |= {name: int(sum_[0]) for name, sum_ in so_far.items()}
        return self._columns(part, table, latencies)

    def _columns(self, part: Part, table: DecisionTable, latencies: Ints) -> dict[str, NDArray[Any]]:
        uses, loads, layers, steps = table.uses, table.loads, table.num_layers, table.num_steps
        own = loads.event >= 0
        of_use, of_load = uses.event // layers, loads.event[own] // layers
        columns = (
            part.first + np.arange(steps),
            part.workload.step_tokens,
            latencies,
            np.bincount(of_use, minlength=steps),
            np.bincount(of_use[uses.hit], minlength=steps),
            np.bincount(of_load[loads.demand[own]], minlength=steps),
            np.bincount(of_load[loads.prefetch[own]], minlength=steps),
        )
        return dict(zip(STEPS, columns, strict=True))

    def merge(self, other: "Tally") -> None:
        """Add the counts and sums of another piece of the trace."""
        for name, count in other._counts.items():
            self._counts[name] += count
        self._times = {name: self._times.get(name, 0) + time for name, time in other._times.items()}
        self._cold, self._warm_up = self._cold + other._cold, self._warm_up + other._warm_up
        self._loaded, self._wasted = self._loaded + other._loaded, self._wasted + other._wasted
        self.prefetching_ns += other.prefetching_ns
        self._predicted += other._predicted
        self._steps.merge(other._steps)

    def figures(self) -> tuple[Counts, Sums]:
        """Of the whole run."""
        counts, times = Counts(**self._counts), self._times
        sums = Sums(
            cold_steps=self._warm_up,
            cold_ns=self._cold,
            latencies=self._steps.latencies(),
            late_hits=times["late_hits"],
            bytes_loaded=self._loaded,
            bytes_wasted=self._wasted,
            predict_ns=round(self._predicted / counts.events),
            compute_ns=times["compute"] + times["slowed"],
            stall_ns=times["stall"],
            host_ns=times["host"],
            link_busy_ns=times["link"],
            cpu_ns=times["cpu"],
            cpu_stall_ns=times["cpu_stall"],
        )
        return counts, sums


class Histogram:
    """Latencies of steps, ns, counted by their first `DIGITS` binary digits; their sum and largest are exact."""

    def __init__(self) -> None:
        self._counts = np.zeros(64 << DIGITS, np.int64)
        self._steps, self._total, self._longest = 0, 0, 0
        self._mean, self._squares = 0.0, 0.0  # squares of differences from the mean (Chan, Golub & LeVeque 1983)

    def add(self, latencies: Ints) -> None:
        """Count some more."""
        if not len(latencies):
            return
        more = Histogram()
        more._counts = np.bincount(_bucket(latencies), minlength=len(self._counts))
        more._steps, more._total, more._longest = len(latencies), int(latencies.sum()), int(latencies.max())
        more._mean, more._squares = float(latencies.mean()), float(latencies.var()) * len(latencies)
        self.merge(more)

    def merge(self, other: "Histogram") -> None:
        """Count what another one counts."""
        every = max(1, self._steps + other._steps)
        apart = other._mean - self._mean
        self._counts = self._counts + other._counts
        self._squares += other._squares + apart**2 * self._steps * other._steps / every
        self._mean += apart * other._steps / every
        self._steps, self._total = self._steps + other._steps, self._total + other._total
        self._longest = max(self._longest, other._longest)

    def latencies(self) -> Latencies:
        """Of all that were counted."""
        deviation = (self._squares / (self._steps - 1)) ** 0.5 if self._steps > 1 else 0.0
        p50, p95, p99 = (self._percentile(share) for share in (0.50, 0.95, 0.99))
        return Latencies(self._steps, self._total, p50, p95, p99, self._longest, deviation)

    def _percentile(self, share: float) -> int:
        rank = share * (self._steps - 1)
        ends = np.cumsum(self._counts)
        low, high = (_middle(int(np.searchsorted(ends, int(place), "right"))) for place in (rank, np.ceil(rank)))
        return min(self._longest, int(low + (high - low) * (rank - int(rank))))


def _bucket(latencies: Ints) -> Ints:
    """The number of the histogram's column that counts each."""
    beyond = np.maximum(np.frexp(latencies.astype(np.float64))[1].astype(np.int64) - DIGITS - 1, 0)
    return (beyond << DIGITS) + (latencies >> beyond)


def _middle(bucket: int) -> int:
    """The latency in the middle of those that a column counts."""
    beyond = max(0, (bucket >> DIGITS) - 1)
    return (bucket - (beyond << DIGITS) << beyond) + (1 << beyond) // 2


class StepsFile:
    """A Parquet file with a row for each step, written as a run goes; it appears when the `with` block ends."""

    def __init__(self, out: Path, name: str) -> None:
        make_directory(out)
        self._path, self._exits = out / f"{name}.steps.parquet", ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            fresh = exits.enter_context(replacing(self._path))
            schema = pa.schema([(name, pa.int64()) for name in STEPS])
            self._writer = exits.enter_context(pq.ParquetWriter(fresh, schema, compression="zstd"))
            self._exits = exits.pop_all()
        return self

    def write(self, columns: dict[str, NDArray[Any]]) -> None:
        """Append the rows of some steps."""
        self._writer.write_table(pa.table(columns))

    def __exit__(self, *exception: Any) -> None:
        self._exits.__exit__(*exception)
