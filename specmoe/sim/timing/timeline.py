"""A run as a timeline: Chrome's trace event format, which ui.perfetto.dev opens. Lanes: host, compute, copy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from specmoe.files import replacing
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.timing.engine import Timing

LANES = ("host", "compute", "copy", "disk")


def write_timeline(table: DecisionTable, timing: Timing, path: Path, steps: int = 200) -> None:
    """Write the first `steps` steps; times are microseconds."""
    events = [{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "specmoe"}}]
    for number, lane in enumerate(LANES, start=1):
        events.append({"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": lane}})
    last = min(steps, table.num_steps) * table.num_layers
    events += [*_host(timing, table, last), *_compute(table, timing, last), *_copies(table, timing, last)]
    with replacing(path) as fresh:
        fresh.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}))


def _slice(lane: str, name: str, start: int, end: int, **args: Any) -> dict[str, Any]:
    tid = LANES.index(lane) + 1
    return {"ph": "X", "pid": 1, "tid": tid, "name": name, "ts": start / 1e3, "dur": (end - start) / 1e3, "args": args}


def _host(timing: Timing, table: DecisionTable, last: int) -> Iterator[dict[str, Any]]:
    for event in range(last):
        name = f"step {event // table.num_layers} layer {event % table.num_layers}"
        begin, ready, worked = int(timing.begin[event]), int(timing.ready[event]), int(timing.host[event])
        yield _slice("host", f"{name}: wait for the router", begin, ready)
        yield _slice("host", f"{name}: decide, issue, launch", ready, ready + worked)


def _compute(table: DecisionTable, timing: Timing, last: int) -> Iterator[dict[str, Any]]:
    uses = table.uses
    for use in np.flatnonzero(uses.event < last).tolist():
        found = "hit" if uses.hit[use] else "miss"
        start, end = int(timing.use_start[use]), int(timing.use_end[use])
        yield _slice(
            "compute", _expert(table, int(uses.key[use])), start, end, tokens=int(uses.tokens[use]), found=found
        )


def _copies(table: DecisionTable, timing: Timing, last: int) -> Iterator[dict[str, Any]]:
    loads = table.loads
    for load in np.flatnonzero(loads.event < last).tolist():
        why = "demand" if loads.demand[load] else "prefetch"
        fate = "useful" if loads.used[load] else "wasted"
        name = f"{_expert(table, int(loads.key[load]))} ({why}, {fate})"
        yield _slice("copy", name, int(timing.started[load]), int(timing.landed[load]), slot=int(loads.slot[load]))


def _expert(table: DecisionTable, key: int) -> str:
    layer, expert = divmod(key, table.num_experts)
    return f"L{layer} E{expert}"
