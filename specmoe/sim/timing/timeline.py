"""A run as a timeline: Chrome's trace event format, which ui.perfetto.dev opens. Lanes: host, compute, copy, disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from specmoe.files import replacing
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Timing

LANES = ("host", "compute", "copy", "disk")
Slice = dict[str, Any]
Span = tuple[int, int, int]  # row, start, end


def write_timeline(table: DecisionTable, durations: Durations, timing: Timing, path: Path, steps: int = 200) -> None:
    """Write the first `steps` steps; times are microseconds."""
    last = min(steps, table.num_steps) * table.num_layers
    events: list[Slice] = [{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "specmoe"}}]
    for number, lane in enumerate(LANES, start=1):
        events.append({"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": lane}})
    events += _host(table, durations, timing, last)
    events += _dense(table, durations, timing, last)
    events += _experts(table, timing, last)
    events += _loads(table, durations, timing, last)
    with replacing(path) as fresh:
        fresh.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}))


def uninterrupted(spans: Iterable[Span]) -> Iterator[Span]:
    """Copies, of which one may have given way to others, cut where they did; `spans` in the order of their starts."""
    given_way: list[Span] = []
    now = 0
    for span in [*spans, None]:
        while given_way and (span is None or given_way[-1][2] <= span[1]):
            row, _, end = given_way.pop()
            if end > now:
                yield row, now, end
            now = max(now, end)
        if span is None:
            return
        if given_way and span[1] > now:
            yield given_way[-1][0], now, span[1]
        given_way.append(span)
        now = span[1]


def _slice(lane: str, name: str, start: int, end: int, **args: Any) -> Slice:
    tid = LANES.index(lane) + 1
    return {"ph": "X", "pid": 1, "tid": tid, "name": name, "ts": start / 1e3, "dur": (end - start) / 1e3, "args": args}


def _host(table: DecisionTable, durations: Durations, timing: Timing, last: int) -> Iterator[Slice]:
    launch_dense = durations.host.launch_dense_ns
    for event in range(last):
        step, layer = divmod(event, table.num_layers)
        ends_step = layer == table.num_layers - 1
        begin, ready = int(timing.begin[event]), int(timing.ready[event])
        launched = ready + int(timing.host[event]) - launch_dense * (1 + ends_step)
        goes_on = int(timing.step_end[step] if ends_step else timing.begin[event + 1])
        name = f"step {step} layer {layer}"
        yield _slice("host", f"{name}: launch dense part and router", begin, begin + launch_dense)
        yield _slice("host", f"{name}: wait for the router", begin + launch_dense, ready)
        yield _slice("host", f"{name}: decide, issue, launch", ready, launched)
        if goes_on > launched:
            yield _slice("host", f"{name}: {'end the step' if ends_step else 'wait for experts'}", launched, goes_on)


def _dense(table: DecisionTable, durations: Durations, timing: Timing, last: int) -> Iterator[Slice]:
    sync = durations.host.sync_ns
    for event in range(last):
        step, layer = divmod(event, table.num_layers)
        end = int(timing.ready[event]) - sync
        yield _slice("compute", f"dense part and router of L{layer}", end - durations.before[event], end)
        if layer == table.num_layers - 1 and durations.after[step]:
            end = int(timing.step_end[step]) - sync
            yield _slice("compute", "head", end - durations.after[step], end)


def _experts(table: DecisionTable, timing: Timing, last: int) -> Iterator[Slice]:
    uses = table.uses
    for use in np.flatnonzero(uses.event < last).tolist():
        name, found = _expert(table, int(uses.key[use])), "hit" if uses.hit[use] else "miss"
        start, end = int(timing.use_start[use]), int(timing.use_end[use])
        yield _slice("compute", name, start, end, tokens=int(uses.tokens[use]), found=found)


def _loads(table: DecisionTable, durations: Durations, timing: Timing, last: int) -> Iterator[Slice]:
    loads = table.loads
    shown = np.flatnonzero((loads.event < last) & (timing.landed > timing.started))  # others were in VRAM, compressed
    for load in shown.tolist() if durations.read else []:
        fetched = int(timing.fetched[load])
        yield _slice("disk", _named(table, load), fetched - durations.read, fetched, slot=int(loads.slot[load]))
    by_start = shown[np.argsort(timing.started[shown], kind="stable")]
    spans = ((load, int(timing.started[load]), int(timing.landed[load])) for load in by_start.tolist())
    for load, start, end in uninterrupted(spans):
        yield _slice("copy", _named(table, load), start, end, slot=int(loads.slot[load]))


def _named(table: DecisionTable, load: int) -> str:
    why = "demand" if table.loads.demand[load] else "prefetch"
    fate = "useful" if table.loads.used[load] else "wasted"
    return f"{_expert(table, int(table.loads.key[load]))} ({why}, {fate})"


def _expert(table: DecisionTable, key: int) -> str:
    layer, expert = divmod(key, table.num_experts)
    return f"L{layer} E{expert}"
