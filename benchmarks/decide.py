"""How fast are decisions made, and how often do they hit?

    python -m benchmarks.decide [--trace NAME] [--slots 77] [--batch 1] [--json]

One run of each eviction policy without prefetching, on one core; `static` knows the popularity of the same trace.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import NamedTuple

import numpy as np

from specmoe import traces
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policy import Policy
from specmoe.sim.speculate.predictor import no_predictions
from specmoe.traces.workload import Workload, build


class Figures(NamedTuple):
    """Of one policy."""

    eviction: str
    events: int
    events_per_s: float
    hit_rate: float


def figures(eviction: str, workload: Workload, slots: int) -> Figures:
    """Decide once, building the policy included."""
    popularity = np.bincount(workload.keys, minlength=workload.meta.num_layers * workload.meta.num_experts)
    context = Context(slots, workload, lambda: popularity)
    predictions = no_predictions(workload.num_events)
    start = time.perf_counter()
    table = decide(workload, predictions, Policy(eviction, "benchmark", eviction=eviction), slots, context)
    seconds = time.perf_counter() - start
    return Figures(eviction, workload.num_events, workload.num_events / seconds, table.hits / len(table.uses.key))


def main() -> None:
    """Run all, print a table or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", default="switch-mini-128/decode/train")
    parser.add_argument("--slots", type=int, default=77)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    trace = traces.open(args.trace)
    workload = build(trace.read(), trace.meta, args.batch)
    for eviction in EVICTIONS:
        row = figures(eviction, workload, args.slots)
        line = f"{row.eviction:>14} {row.events_per_s:>12,.0f} events/s {row.hit_rate:>8.1%} hits"
        sys.stdout.write((json.dumps(row._asdict()) if args.json else line) + "\n")


if __name__ == "__main__":
    main()
