"""How fast are decisions made, and how often do they hit?

    python -m benchmarks.decide [--trace NAME] [--slots 77] [--batch 1] [--json]

One run of each eviction policy without prefetching, and of an LRU with one prefetch a layer, on one core: by the
director in Python, by its compiled twin, and by libcachesim where that is installed (`pip install libcachesim`; it is a
test tool here, and nothing depends on it). libcachesim replays the same requests from a file, with its own clock of one
request an event, so it is asked at batch 1 of top-1 routing, for the evictions that mean the same there: its misses
must be equal. `static` knows the popularity of the same trace; predictions are made beforehand.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from specmoe import traces
from specmoe.sim.decide import compiled
from specmoe.sim.decide.director import Director
from specmoe.sim.decide.eviction import NEVER, Context
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policy import Policy, Prefetch
from specmoe.sim.speculate.predictor import PredictionTable, Routed, no_predictions
from specmoe.sim.speculate.predictors import PREDICTORS
from specmoe.traces.workload import Workload, build

TIMED = 3
PEERS = {"lru": "LRU", "fifo": "FIFO", "sieve": "Sieve", "arc": "ARC", "lfu": "LFU", "belady": "Belady"}
REQUEST = np.dtype([("time", "<u4"), ("key", "<u8"), ("size", "<u4"), ("next", "<i8")])  # of its "oracleGeneral" files
HEAD = f"{'eviction':>16} {'Python, events/s':>17} {'compiled':>12} {'libcachesim':>12} {'hits':>7}\n"


class Figures(NamedTuple):
    """Of one policy."""

    eviction: str
    events: int
    events_per_s: float
    compiled_events_per_s: float | None
    libcachesim_events_per_s: float | None
    hit_rate: float

    @property
    def line(self) -> str:
        """A line under `HEAD`."""
        twin, peer = (f"{rate:>12,.0f}" if rate else f"{'-':>12}" for rate in self[3:5])
        return f"{self.eviction:>16} {self.events_per_s:>17,.0f} {twin} {peer} {self.hit_rate:>7.1%}"


def figures(policy: Policy, workload: Workload, predictions: PredictionTable, slots: int) -> Figures:
    """Decide once in Python and `TIMED` times by the twin, whose best counts, in processor time.

    Building the policy and its proposals is included, loading the kernel not.
    """
    popularity = np.bincount(workload.keys, minlength=workload.meta.num_layers * workload.meta.num_experts)
    context = Context(slots, workload, lambda: popularity)
    events, start = workload.num_events, time.process_time()
    table = Director(workload, predictions, policy, slots, context).run()
    seconds, taken = time.process_time() - start, list[float]()
    for _ in range(1 + TIMED):  # the first one loads the kernel
        start = time.process_time()
        made = Director(workload, predictions, policy, slots, context).start()
        if made is not None and compiled.takes(made):
            compiled.decided(made)
            taken.append(time.process_time() - start)
    twin = events / min(taken[1:]) if taken else None
    demands = len(table.uses.key)
    peer = by_libcachesim(policy, workload, slots, demands - table.hits)
    return Figures(policy.name, events, events / seconds, twin, peer, table.hits / demands)


def by_libcachesim(policy: Policy, workload: Workload, slots: int, misses: int) -> float | None:
    """Requests a second of libcachesim, the best of `TIMED`, in processor time; None where it is not comparable.

    Raises ValueError unless it misses as often.
    """
    alike = workload.meta.top_k == 1 and workload.batch == 1 and policy.prefetch is None
    if not (alike and policy.eviction in PEERS and find_spec("libcachesim")):
        return None
    import libcachesim

    requests = len(workload.keys)
    rows = np.zeros(requests, REQUEST)
    following = compiled.next_uses(workload)
    rows["time"], rows["key"], rows["size"] = np.arange(requests), workload.keys + 1, 1
    rows["next"] = np.where(following < NEVER, following, -1)
    with tempfile.NamedTemporaryFile(suffix=".oracleGeneral") as file:
        rows.tofile(Path(file.name))
        missed, taken = zip(*(replayed(libcachesim, policy, file.name, slots) for _ in range(TIMED)), strict=True)
    if {round(share * requests) for share in missed} != {misses}:
        raise ValueError(f"{policy.eviction}: {misses} misses, by libcachesim {missed[0] * requests:.0f}")
    return requests / min(taken)


def replayed(libcachesim: Any, policy: Policy, file: str, slots: int) -> tuple[float, float]:
    """Share of a file's requests that libcachesim misses, and the time that it takes once the file is open, s."""
    parameters = libcachesim.ReaderInitParam(ignore_obj_size=True)
    kind = libcachesim.TraceType.ORACLE_GENERAL_TRACE
    reader = libcachesim.TraceReader(trace=file, trace_type=kind, reader_init_params=parameters)
    cache, start = getattr(libcachesim, PEERS[policy.eviction])(cache_size=slots), time.process_time()
    missed, _ = cache.process_trace(reader)
    return float(missed), time.process_time() - start


def main() -> None:
    """Run all, print a table or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", default="switch-mini-128/decode/train")
    parser.add_argument("--slots", type=int, default=77)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    trace = traces.open(args.trace)
    block = trace.read()
    workload = build(block, trace.meta, args.batch)
    asked = [(Policy(name, "benchmark", eviction=name), no_predictions(workload.num_events)) for name in EVICTIONS]
    if trace.meta.has_lookahead:
        predictions = PREDICTORS["lookahead"]().predict(Routed(workload, block))
        asked.append((Policy("lru + 1 prefetch", "benchmark", predictor="lookahead", prefetch=Prefetch()), predictions))
    if not args.json:
        sys.stdout.write(HEAD if find_spec("libcachesim") else f"{HEAD}libcachesim: not installed\n")
    for policy, predictions in asked:
        row = figures(policy, workload, predictions, args.slots)
        sys.stdout.write((json.dumps(row._asdict()) if args.json else row.line) + "\n")


if __name__ == "__main__":
    main()
