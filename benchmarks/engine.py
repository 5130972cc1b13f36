"""How fast decisions are made and timed, and what a long run costs in memory: `python -m benchmarks.engine`."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

import specmoe.traces
from specmoe.sim.config import Order, RunConfig
from specmoe.sim.routing import Routing
from specmoe.sim.run import Scenario
from specmoe.sim.timing.durations import charged
from specmoe.sim.timing.engine import Engine, simulate
from specmoe.traces.schema import Block

TRACE = "switch-mini-128/decode/train"
SLOTS = 154
RUNS: tuple[tuple[str, Order], ...] = (
    ("on-demand-lru", "fifo"),
    ("transition", "fifo"),  # predicts on the host
    ("transition", "priority"),
    ("lookahead", "fifo"),  # predicts on the GPU
    ("lookahead", "priority"),
    ("pregated", "fifo"),
    ("oracle", "fifo"),
)


def main() -> None:
    """Print a table and one JSON line; with a number, only measure the memory of a run of so many steps."""
    if len(sys.argv) > 1:
        long_run(int(sys.argv[1]))
        return
    scenario = Scenario(RunConfig(TRACE, slots=SLOTS))
    rows = [measure(scenario, name, order) for name, order in RUNS]
    for steps in (100_000, 1_000_000):
        told = subprocess.run([sys.executable, "-m", "benchmarks.engine", str(steps)], capture_output=True, check=True)
        rows.append(json.loads(told.stdout))
    for row in rows:
        sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")
    sys.stdout.write(json.dumps(rows) + "\n")


def measure(scenario: Scenario, name: str, order: Order) -> dict[str, Any]:
    """(step, layer)s a second of deciding and of timing."""
    from specmoe.sim.decide.policy import POLICIES

    started = time.perf_counter()
    decisions = scenario.decide(POLICIES[name], SLOTS)
    decided = time.perf_counter()
    cost = scenario.charge(POLICIES[name])
    durations = charged(scenario.durations(decisions), cost)
    prepared = time.perf_counter()
    engine = Engine(decisions, durations, order, None)
    engine.run()
    timed = time.perf_counter()
    scheduled = next(engine.env._eid)  # SimPy numbers its events; it has no public count
    events = scenario.routed.workload.num_events
    return {
        "policy": name,
        "link": order,
        "predicts": f"{cost.mean_ns} ns on {cost.on}" if cost.ns else "for nothing",
        "events": events,
        "loads_an_event": round(len(decisions.loads.key) / events, 2),
        "simpy_events_a_step": round(scheduled / decisions.num_steps, 1),
        "decided_per_s": round(events / (decided - started)),
        "timed_per_s": round(events / (timed - prepared)),
    }


def long_run(steps: int) -> None:
    """Decide and time an LRU over a trace repeated to so many steps; print its peak memory."""
    trace = specmoe.traces.open(TRACE)
    scenario = Scenario(RunConfig(TRACE, slots=SLOTS))
    copies = -(-steps // len(trace))
    routed = scenario.routed
    block = Block._make(np.concatenate([column] * copies) for column in routed.block)
    block = block._replace(sequence=np.repeat(np.arange(copies, dtype=np.int32), len(trace)) * 10_000 + block.sequence)
    from specmoe.sim.decide.policy import POLICIES
    from specmoe.traces.workload import build

    scenario.routing = Routing(TRACE)  # one that knows nothing yet of the shorter run
    scenario.routing.routed = routed._replace(workload=build(block, trace.meta, 1, steps), block=block)
    decisions = scenario.decide(POLICIES["on-demand-lru"], SLOTS)
    timing = simulate(decisions, scenario.durations(decisions))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    row = {"steps": steps, "mean_step_us": int(timing.step_end[-1]) // steps // 1000, "peak_gib": round(peak, 2)}
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
