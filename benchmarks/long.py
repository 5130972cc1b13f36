"""How long, and in how much memory, are traces of 10^5 to 10^8 events simulated?

    python -m benchmarks.long [--trace NAME_OR_FILE] [--events 1000000,10000000] [--long] [--slots 192]
                              [--policy on-demand-lru] [--whole 1000000] [--plot growth.png]

Draws whole sequences of a trace, with replacement, until there are so many events, writes their routing as a new trace,
and simulates it in a fresh process that may use one core: part by part (`--summary-only`), and traces of up to
`--whole` events as a whole too. `--long` adds 10^8 events, which take ten times as long as all others. Times are of
the processor; what is compiled is compiled before.

Target: 10 million tokens of 24 layers, top-4, in 2 GiB.
"""

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import specmoe.traces
from specmoe.sim.config import RunConfig
from specmoe.sim.long_run import long_scenario, run_long
from specmoe.sim.run import Scenario
from specmoe.summary import summary
from specmoe.traces.schema import ROW_GROUP, Block, TraceMeta, no_lookahead, regroup, select
from specmoe.traces.store import Trace, write_trace

HEAD = f"{'events':>11} {'how':>6} {'s':>8} {'events/s':>10} {'peak, MiB':>10} {'step, ms':>9} {'hits':>7}\n"
EVENTS, LONG = (10**5, 10**6, 10**7), 10**8


class Measured(NamedTuple):
    """Of one simulation."""

    events: int
    how: str
    seconds: float
    peak_mib: int
    step_ns: int
    hit_rate: float


def drawn(trace: Trace, tokens: int, seed: int = 0) -> tuple[TraceMeta, Iterator[Block]]:
    """Metadata and rows of a trace of so many tokens."""
    block, meta = trace.read(), trace.meta
    _, first, lengths = np.unique(block.sequence, return_index=True, return_counts=True)
    made = dataclasses.replace(
        meta,
        kind="synthetic",
        origin="synthetic",
        has_probs=False,
        has_lookahead=False,
        lookahead_depth=1,
        candidates=meta.top_k,
        notes=(*meta.notes, f"whole sequences of {trace.path.name} drawn with replacement, seed {seed}"),
    )

    def blocks() -> Iterator[Block]:
        rng, left, number = np.random.default_rng(seed), tokens, 0
        while left:
            chosen = int(rng.integers(len(first)))
            rows = slice(first[chosen], first[chosen] + min(left, lengths[chosen]))
            part = select(block, rows)
            experts = np.ascontiguousarray(part.experts[..., : meta.top_k])
            count = len(part.sequence)
            yield part._replace(
                sequence=np.full(count, number, np.int32),
                position=np.arange(count, dtype=np.int32),
                experts=experts,
                probs=np.full(experts.shape, np.nan, np.float16),
                lookahead=no_lookahead(experts),
            )
            left, number = left - count, number + 1

    return made, regroup(blocks(), ROW_GROUP)


def measured(path: Path, how: str, slots: int, policy: str) -> Measured:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.long", "--run", str(path), how, str(slots), policy]
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
    return Measured(*json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout))


def run(path: str, how: str, slots: int, policy: str) -> Measured:
    """Measure here."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    config, start = RunConfig(path, slots=slots), time.process_time()
    if how == "parts":
        scenario = long_scenario(config)
        row = run_long(scenario, policy)
    else:
        scenario = Scenario(config)
        scenario.set_bounds(scenario.slots, {})
        row = summary(scenario.run(policy).result)
    seconds = time.process_time() - start
    events = (row["steps"] + row["warm_up_steps"]) * scenario.num_layers
    return Measured(events, how, round(seconds, 1), peak_mib(), row["latency_mean_ns"], row["hit_rate"])


def peak_mib() -> int:
    """The most memory that this process had; elsewhere than on Linux, or any process before it in its place."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) // 1024


def plot(found: Sequence[Measured], path: Path) -> None:
    """Draw time and memory over the number of events."""
    import matplotlib.pyplot as plt

    figure, (memory, seconds) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for how, label in {"parts": "--summary-only", "whole": "whole run"}.items():
        rows = [row for row in found if row.how == how]
        memory.loglog([row.events for row in rows], [row.peak_mib / 1024 for row in rows], "o-", label=label)
        seconds.loglog([row.events for row in rows], [row.seconds for row in rows], "o-", label=label)
    for axes, label in ((memory, "peak memory, GiB"), (seconds, "time, s")):
        axes.set(xlabel="events", ylabel=label)
        axes.grid(alpha=0.3)
    memory.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Print a line for each number of tokens."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trace", default="decoder-mini-64/decode/train")
    parser.add_argument("--events", type=lambda text: [int(part) for part in text.split(",")], default=EVENTS)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--slots", type=int, default=192)
    parser.add_argument("--policy", default="on-demand-lru")
    parser.add_argument("--whole", type=int, default=10**6)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--run", nargs=4)
    asked = parser.parse_args()
    if asked.run:
        path, how, slots, policy = asked.run
        sys.stdout.write(json.dumps(run(path, how, int(slots), policy)))
        return
    trace, found = specmoe.traces.open(asked.trace), list[Measured]()
    sys.stdout.write(HEAD)
    run(asked.trace, "parts", asked.slots, asked.policy)
    for events in (*asked.events, *([LONG] if asked.long else [])):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "long.parquet"
            write_trace(path, *drawn(trace, -(-events // trace.meta.num_layers)))
            for how in ("parts", *(("whole",) if events <= asked.whole else ())):
                row = measured(path, how, asked.slots, asked.policy)
                found.append(row)
                rate, step = row.events / row.seconds, row.step_ns / 1e6
                sys.stdout.write(
                    f"{row.events:>11,} {row.how:>6} {row.seconds:>8.1f} {rate:>10,.0f} {row.peak_mib:>10,} "
                    f"{step:>9.3f} {row.hit_rate:>7.1%}\n"
                )
                sys.stdout.flush()
    if asked.plot:
        plot(found, asked.plot)


if __name__ == "__main__":
    main()
