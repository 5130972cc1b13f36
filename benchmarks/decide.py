"""How fast are decisions made, and how often do they hit?

    python -m benchmarks.decide [--trace NAME] [--slots 77] [--batch 1] [--json]

One run of each eviction policy without prefetching, on one core, by the director in Python and by its compiled twin;
`static` knows the popularity of the same trace.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import NamedTuple

import numpy as np

from specmoe import traces
from specmoe.sim.decide import compiled
from specmoe.sim.decide.director import Director
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policy import Policy
from specmoe.sim.speculate.predictor import no_predictions
from specmoe.traces.workload import Workload, build

TIMED = 3


class Figures(NamedTuple):
    """Of one policy."""

    eviction: str
    events: int
    events_per_s: float
    compiled_events_per_s: float | None
    hit_rate: float


def figures(eviction: str, workload: Workload, slots: int) -> Figures:
    """Decide once in Python and `TIMED` times by the twin, whose best counts, in processor time.

    Building the policy is included, loading the kernel not.
    """
    popularity = np.bincount(workload.keys, minlength=workload.meta.num_layers * workload.meta.num_experts)
    context = Context(slots, workload, lambda: popularity)
    policy, predictions = Policy(eviction, "benchmark", eviction=eviction), no_predictions(workload.num_events)
    events, start = workload.num_events, time.process_time()
    table = Director(workload, predictions, policy, slots, context).run()
    seconds, compiled_events_per_s = time.process_time() - start, None
    taken = []
    for _ in range(1 + TIMED):  # the first one loads the kernel
        start = time.process_time()
        made = Director(workload, predictions, policy, slots, context).start()
        if made is not None and compiled.takes(made):
            compiled.decided(made)
            taken.append(time.process_time() - start)
    if taken:
        compiled_events_per_s = events / min(taken[1:])
    return Figures(eviction, events, events / seconds, compiled_events_per_s, table.hits / len(table.uses.key))


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
        twin = f"{row.compiled_events_per_s:>12,.0f}" if row.compiled_events_per_s else f"{'-':>12}"
        line = f"{row.eviction:>14} {row.events_per_s:>12,.0f} events/s, compiled {twin} {row.hit_rate:>8.1%} hits"
        sys.stdout.write((json.dumps(row._asdict()) if args.json else line) + "\n")


if __name__ == "__main__":
    main()
