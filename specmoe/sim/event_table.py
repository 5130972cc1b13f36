"""What happened in a run: a table of its events, and spans for its timeline.

The table has the columns of `specmoe.results`, one row per event. Simulated and measured runs share the lanes and names
of spans: host, compute, copy, disk and cpu, for ui.perfetto.dev.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.table import CPU, DEFERRED, DROPPED, EXACT, LOW, DecisionTable, uses_on_cpu
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Timing
from specmoe.timeline import Span, write_spans
from specmoe.traces.workload import Workload

Times = NDArray[np.int64]
Move = tuple[int, int, int]  # row of loads, start, end


class Happened(NamedTuple):
    """Measured or simulated times of at least the first events of a table, ns on any clock."""

    begin: Times  # [events], the host launches the dense part and the router
    dense_launched: Times  # [events], it has launched them
    ready: Times  # [events], the host has the router's result, or goes on without it
    launched: Times  # [events], it has issued and launched all
    goes_on: Times  # [events], and goes on: until then it waited
    dense_start: Times  # [events]
    dense_end: Times  # [events]
    head_start: Times  # [steps]
    head_end: Times  # [steps], the start where there is no head
    use_start: Times  # [uses]
    use_end: Times  # [uses]
    copies: Sequence[Move]
    reads: Sequence[Move] = ()  # from the disk


def spans(table: DecisionTable, happened: Happened, events: int) -> list[Span]:
    """Spans of the first `events` events, lane after lane."""
    on_cpu = table.uses.where == CPU
    moves = (("disk", happened.reads), ("copy", happened.copies))
    return [
        *_host(table, happened, events),
        *_dense(table, happened, events),
        *_experts(table, happened, events, ~on_cpu, "compute"),
        *_experts(table, happened, events, on_cpu, "cpu"),
        *(_move(table, lane, move) for lane, rows in moves for move in rows),
    ]


def moved(table: DecisionTable, start: Times, end: Times, events: int) -> list[Move]:
    """Loads of the first `events` events that took time, in the order of their starts; `start`, `end` are [loads]."""
    rows = np.flatnonzero((table.loads.event < events) & (end > start))
    rows = rows[np.argsort(start[rows], kind="stable")]
    return list(zip(rows.tolist(), start[rows].tolist(), end[rows].tolist(), strict=True))


def _host(table: DecisionTable, happened: Happened, events: int) -> Iterator[Span]:
    for event in range(events):
        step, layer = divmod(event, table.num_layers)
        name = f"step {step} layer {layer}"
        begin, ready = int(happened.begin[event]), int(happened.ready[event])
        launched, goes_on = int(happened.launched[event]), int(happened.goes_on[event])
        waits = int(happened.dense_launched[event])
        yield Span("host", f"{name}: launch dense part and router", begin, waits, {})
        if ready > waits:
            yield Span("host", f"{name}: wait for the router", waits, ready, {})
        yield Span("host", f"{name}: decide, issue, launch", ready, launched, {})
        if goes_on > launched:
            why = "end the step" if layer == table.num_layers - 1 else "wait for experts"
            yield Span("host", f"{name}: {why}", launched, goes_on, {})


def _dense(table: DecisionTable, happened: Happened, events: int) -> Iterator[Span]:
    for event, (start, end) in enumerate(_pairs(happened.dense_start[:events], happened.dense_end[:events])):
        step, layer = divmod(event, table.num_layers)
        yield Span("compute", f"dense part and router of L{layer}", start, end, {})
        head_start, head_end = int(happened.head_start[step]), int(happened.head_end[step])
        if layer == table.num_layers - 1 and head_end > head_start:
            yield Span("compute", "head", head_start, head_end, {})


def _experts(
    table: DecisionTable, happened: Happened, events: int, here: NDArray[np.bool_], lane: str
) -> Iterator[Span]:
    """One span for each launch among the uses that are `here`: its experts start and end together."""
    uses = table.uses
    rows = np.flatnonzero((uses.event < events) & here)
    times = _pairs(happened.use_start[rows], happened.use_end[rows])
    launches: dict[tuple[int, int, int], list[int]] = {}
    for use, (start, end) in zip(rows.tolist(), times, strict=True):
        launches.setdefault((int(uses.event[use]), start, end), []).append(use)
    for (_, start, end), members in launches.items():
        hits = int(uses.hit[members].sum())
        found = "hit" if hits == len(members) else "miss" if not hits else f"{hits} of {len(members)} hit"
        args = {"tokens": int(uses.tokens[members].sum()), "found": found}
        yield Span(lane, _experts_of(table, uses.key[members].tolist()), start, end, args)


def _pairs(start: Times, end: Times) -> Iterable[tuple[int, int]]:
    return zip(start.tolist(), end.tolist(), strict=True)


def _move(table: DecisionTable, lane: str, move: Move) -> Span:
    (load, start, end), loads = move, table.loads
    why = "demand" if loads.demand[load] else "later" if loads.later[load] else "prefetch"
    fate = "useful" if loads.used[load] else "wasted"
    name = f"{_expert(table, int(loads.key[load]))} ({why}, {fate})"
    return Span(lane, name, start, end, {"slot": int(loads.slot[load])})


def _experts_of(table: DecisionTable, keys: Sequence[int]) -> str:
    """`L0 E3`, or `L0 E3 E7` for experts that share a launch; all are of one layer."""
    return " ".join([f"L{keys[0] // table.num_experts}", *(f"E{key % table.num_experts}" for key in keys)])


def _expert(table: DecisionTable, key: int) -> str:
    layer, expert = divmod(key, table.num_experts)
    return f"L{layer} E{expert}"


Column = NDArray[np.int64]


def event_table(
    workload: Workload, decisions: DecisionTable, durations: Durations, timing: Timing, copied: int | Column
) -> dict[str, Column]:
    """The columns of `specmoe.results`, [events] each; `copied` is the size of each load on the link, bytes."""
    uses, loads, layers = decisions.uses, decisions.loads, decisions.num_layers
    copies = np.array(durations.copy, np.int64)
    compute = np.array(durations.before, np.int64)
    on_cpu = uses.where == CPU
    compute += timing.slowed + summed(uses.event, np.array(durations.expert, np.int64) * ~on_cpu, len(compute))
    compute[np.unique(uses.event[on_cpu])] += durations.cpu.add_ns
    compute[layers - 1 :: layers] += np.array(durations.after, np.int64)
    return {
        **decision_columns(workload, decisions),
        **byte_columns(decisions, copies > 0, copied),
        "late_hits": late_hits(decisions, timing.landed, timing.ready),
        "begin_ns": timing.begin,
        "end_ns": ends(timing.begin, timing.step_end),
        "host_ns": timing.host,
        "compute_ns": compute,
        "stall_ns": timing.stall,
        "link_ns": summed(loads.event, copies, len(compute)),
        "cpu_ns": timing.cpu,
        "cpu_stall_ns": timing.cpu_stall,
    }


def decision_columns(workload: Workload, decisions: DecisionTable) -> dict[str, Column]:
    """The columns `DECISIONS` of `specmoe.results`, [events] each."""
    uses, loads, events = decisions.uses, decisions.loads, workload.num_events
    layers, prefetched, on_cpu = decisions.num_layers, loads.prefetch, uses.where == CPU
    return {
        "step": np.repeat(np.arange(workload.num_steps), layers),
        "layer": np.tile(np.arange(layers), workload.num_steps),
        "tokens": np.repeat(workload.step_tokens, layers),
        "demands": np.diff(workload.offsets),
        "hits": summed(uses.event, uses.hit, events),
        "demand_loads": summed(loads.event, loads.demand, events),
        "prefetch_loads": summed(loads.event, prefetched, events),
        "prefetch_useful": summed(loads.event, prefetched & loads.used, events),
        "prefetch_wasted": summed(loads.event, prefetched & ~loads.used, events),
        "cpu_uses": summed(uses.event, on_cpu, events),
        "cpu_tokens": summed(uses.event, on_cpu * uses.tokens, events),
        "later_loads": summed(loads.event, loads.later, events),
        "later_useful": summed(loads.event, loads.later & loads.used, events),
        "dropped_uses": summed(uses.event, decisions.changed(DROPPED), events),
        "low_uses": summed(uses.event, decisions.changed(LOW), events),
        "deferred_uses": summed(uses.event, decisions.changed(DEFERRED), events),
        "changed_mass": changed_mass(decisions, events),
    }


def changed_mass(decisions: DecisionTable, events: int) -> Column:
    """Router weight of the uses that an approximate policy changes, millionths of a token, [events]."""
    if decisions.changes is None:
        return np.zeros(events, np.int64)
    kind, mass = decisions.changes
    return summed(decisions.uses.event, mass * (kind != EXACT), events)


def byte_columns(decisions: DecisionTable, crosses: NDArray[np.bool_], copied: int | Column) -> dict[str, Column]:
    """Bytes of the loads that cross the link, and of those that nobody waited for or used.

    `crosses` is [loads], and so is `copied`, the size of each on the link, unless all are alike.
    """
    loads, events = decisions.loads, decisions.num_steps * decisions.num_layers
    return {
        "bytes_loaded": summed(loads.event, crosses * copied, events),
        "bytes_wasted": summed(loads.event, (crosses & ~loads.demand & ~loads.used) * copied, events),
    }


def late_hits(decisions: DecisionTable, landed: Column, ready: Column) -> Column:
    """Number of resident experts that had not landed when the router's result was known, [events]."""
    uses = decisions.uses
    landing = np.append(landed, -1)[uses.load]  # -1, the last, for what was resident from the start
    return summed(uses.event, uses.hit & (landing > ready[uses.event]), len(ready))


def ends(begin: Column, step_end: Column) -> Column:
    """Time at which the next event begins or the step ends, ns, [events]."""
    layers = len(begin) // len(step_end)
    end = np.append(begin[1:], 0)
    end[layers - 1 :: layers] = step_end
    return end


def summed(event: NDArray[Any], weights: NDArray[Any], events: int) -> Column:
    """Sum of the weights of each event, [events]."""
    return np.bincount(event, weights, minlength=events).astype(np.int64)


TIMELINE_STEPS = 200  # a size that viewers open quickly


def write_timeline(
    table: DecisionTable, durations: Durations, timing: Timing, path: Path, steps: int = TIMELINE_STEPS
) -> None:
    """Write the first `steps` steps for ui.perfetto.dev."""
    write_spans(path, {"specmoe": simulated_spans(table, durations, timing, steps)})


def simulated_spans(
    table: DecisionTable, durations: Durations, timing: Timing, steps: int = TIMELINE_STEPS
) -> list[Span]:
    """Spans of the first `steps` steps, ns from the start of the run."""
    events = min(steps, table.num_steps) * table.num_layers
    return spans(table, _happened(table, durations, timing, events), events)


def uninterrupted(moves: Iterable[Move]) -> Iterator[Move]:
    """Copies, of which one may have given way to others, cut where they did; `moves` in the order of their starts."""
    given_way: list[Move] = []
    now = 0
    for move in [*moves, None]:
        while given_way and (move is None or given_way[-1][2] <= move[1]):
            row, _, end = given_way.pop()
            if end > now:
                yield row, now, end
            now = max(now, end)
        if move is None:
            return
        if given_way and move[1] > now:
            yield given_way[-1][0], now, move[1]
        given_way.append(move)
        now = move[1]


def _happened(table: DecisionTable, durations: Durations, timing: Timing, events: int) -> Happened:
    launch_dense, sync = durations.host.launch_dense_ns, durations.host.sync_ns
    ends_step = np.arange(table.num_steps * table.num_layers) % table.num_layers == table.num_layers - 1
    goes_on = np.append(timing.begin[1:], 0)
    goes_on[ends_step] = timing.step_end
    dense_end, head_end = timing.ready - sync, timing.step_end - sync
    knows = timing.ready
    if durations.runs_ahead:  # it goes on without the router's result
        dense_end, knows = timing.ready, timing.begin + launch_dense
    joined = np.isin(np.arange(len(timing.begin)), list(uses_on_cpu(table))) * durations.cpu.join_ns  # after the CPU
    fetches = durations.read * (timing.landed > timing.started)  # what VRAM held compressed is not read
    return Happened(
        begin=timing.begin,
        dense_launched=timing.begin + launch_dense,
        ready=knows,
        launched=knows + timing.host - joined - launch_dense * (1 + ends_step),
        goes_on=goes_on,
        dense_start=dense_end - np.array(durations.before, np.int64),
        dense_end=dense_end,
        head_start=head_end - np.array(durations.after, np.int64),
        head_end=head_end,
        use_start=timing.use_start,
        use_end=timing.use_end,
        copies=list(uninterrupted(moved(table, timing.started, timing.landed, events))),
        reads=moved(table, timing.fetched - fetches, timing.fetched, events),
    )
