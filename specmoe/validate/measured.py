"""Replays as results: step times, columns as in `specmoe.results`, and spans of a timeline.

Decisions are counted from what was executed. `measured_spans` is the twin of `specmoe.sim.event_table`, with the
same lanes and words.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.results import DECISIONS, OF_MISSES, RunResult, Table, latencies, same_decisions
from specmoe.sim.decide.table import CPU
from specmoe.sim.event_table import Happened, byte_columns, decision_columns, ends, late_hits, moved, spans, summed
from specmoe.timeline import Span
from specmoe.traces.workload import Workload
from specmoe.validate.replayer import Recording, Times, Work
from specmoe.validation_table import HostState

StepTimes = NDArray[np.int64]


class Steps(NamedTuple):
    """Step times of all repeats, ns, [repeats, steps] each; a simulation has one repeat."""

    latency: StepTimes
    compute: StepTimes  # part in which the compute stream works
    stall: StepTimes  # part in which it waits for loads
    decisions: str  # SHA-256 of the decisions that were executed
    host: HostState | None = None  # of a replay

    @property
    def typical(self) -> NDArray[np.float64]:
        """Median latency over the repeats, [steps]."""
        typical: NDArray[np.float64] = np.median(self.latency, axis=0)
        return typical


def steps_of(runs: Sequence[RunResult]) -> Steps:
    """Step times of one or more runs of the same decisions; raises InputError if decisions differ."""
    for run in runs[1:]:
        same_decisions(runs[0], run)
    latency = np.stack([latencies(run) for run in runs])
    return Steps(latency, _summed(runs, "compute_ns"), _summed(runs, "stall_ns"), hash_of_decisions(runs[0].table))


def host_state(work: Work, recordings: Sequence[Recording]) -> HostState:
    """What the calls of the host thread took in some replays of a work.

    Where the thread also predicts, only launches of dense parts are known.
    """
    dense = _median([seen.dense_launched - seen.begin for seen in recordings])
    if work.predict:
        return HostState(dense, 0, 0)
    loads, uses = np.array(work.program.loads, np.int64), np.array(work.program.uses, np.int64)
    launches = uses[np.array(work.program.opens, np.bool_)[uses]]
    calls = [(seen.handed, seen.called[launches], seen.issued[loads]) for seen in recordings]
    taken = [_since_the_last(np.concatenate(each)) for each in calls]
    ends = len(recordings[0].handed), len(recordings[0].handed) + len(launches)
    return HostState(
        dense, _median([one[ends[0] : ends[1]] for one in taken]), _median([one[ends[1] :] for one in taken])
    )


def _since_the_last(returned: Times) -> Times:
    """Time since the thread's last return before each, ns."""
    order = np.argsort(returned, kind="stable")
    taken = np.empty_like(returned)
    taken[order] = np.diff(returned[order], prepend=returned[order[:1]])
    return taken


def _median(times: Sequence[Times]) -> int:
    together = np.concatenate(times)
    return round(float(np.median(together))) if len(together) else 0


def hash_of_decisions(table: Table) -> str:
    """SHA-256 of the columns that comparable runs share, without those of experts on the CPU where there are none."""
    names = [name for name in DECISIONS if name not in OF_MISSES or table[name].any()]
    columns = [np.ascontiguousarray(table[name], "<i8").tobytes() for name in names]
    return hashlib.sha256(b"".join(columns)).hexdigest()


def _summed(runs: Sequence[RunResult], column: str) -> StepTimes:
    """A column summed over the layers of each step, [repeats, steps]."""
    return np.stack([run.table[column].reshape(-1, run.manifest.num_layers).sum(axis=1) for run in runs])


DENSE, EXPERT, ADDITION, HEAD = range(4)


class Computed(NamedTuple):
    """Work on the compute stream in order, [n]: its time, and how long it waited for its load or for the CPU."""

    event: NDArray[np.int64]
    busy: Times
    stall: Times
    cpu_stall: Times


def measured_table(workload: Workload, work: Work, recording: Recording, copied: int) -> Table:
    """Table with a row per event; `copied` is the bytes of an expert on the link."""
    loads, order, events = work.table.loads, np.array(work.program.loads, np.int64), len(recording.begin)
    executed = work.table._replace(loads=loads._replace(event=recording.order.astype(np.int32)))
    uses, device, landed = work.table.uses, recording.device, recording.device.landed
    on_cpu = uses.where == CPU
    copying = landed[order] - np.maximum(recording.issued[order], np.append(0, landed[order][:-1]))
    computed = computed_by(work, recording)
    return {
        **decision_columns(workload, executed),
        **byte_columns(executed, np.ones(len(order), np.bool_), copied),
        "late_hits": late_hits(executed, landed, recording.ready),
        "begin_ns": recording.begin,
        "end_ns": ends(recording.begin, recording.step_end),
        "host_ns": host_ns(work, recording),
        "compute_ns": summed(computed.event, computed.busy, events),
        "stall_ns": summed(computed.event, computed.stall, events),
        "link_ns": summed(executed.loads.event[order], copying, events),
        "cpu_ns": summed(uses.event[on_cpu], (device.use_end - device.use_start)[on_cpu], events),
        "cpu_stall_ns": summed(computed.event, computed.cpu_stall, events),
    }


def host_ns(work: Work, recording: Recording) -> Times:
    """Working time of the host thread, [events], counted as in the engine.

    Waits for the router's result, for the CPU and for the end of a step are excluded. Launching everything after the
    last MoE layer belongs to a step's last event.
    """
    uses, device = work.table.uses, recording.device
    goes_on = recording.launched.copy()
    np.maximum.at(goes_on, uses.event[uses.where == CPU], device.use_end[uses.where == CPU])
    worked = recording.dense_launched - recording.begin + recording.launched - recording.ready
    worked += recording.joined - goes_on
    last = slice(len(worked) // len(recording.step_end) - 1, None, len(worked) // len(recording.step_end))
    worked[last] += recording.head_launched - recording.joined[last]
    return worked


def computed_by(work: Work, recording: Recording) -> Computed:
    """Work of the compute stream.

    Work can begin once the host has launched it and the stream is free; from then until its load lands is stall. An
    addition waits for the CPU from the end of the work before it until the CPU's result is on the device.
    """
    table, layers, device = work.table, work.table.num_layers, recording.device
    uses = np.array(work.program.uses, np.int64)
    uses = uses[table.uses.where[uses] != CPU]
    events = np.arange(len(recording.begin))
    joins, last = np.unique(table.uses.event[table.uses.where == CPU]), events[layers - 1 :: layers]
    kinds = np.repeat((DENSE, EXPERT, ADDITION, HEAD), (len(events), len(uses), len(joins), len(last)))
    event = np.concatenate([events, table.uses.event[uses], joins, last])
    called = np.concatenate([recording.begin, recording.called[uses], device.copied[joins], recording.joined[last]])
    landed = _of_groups(np.append(device.landed, 0)[table.uses.load[uses]], np.array(work.program.opens)[uses])
    landed = np.concatenate([np.zeros(len(events), np.int64), landed, np.zeros(len(joins) + len(last), np.int64)])
    ended = np.concatenate([device.dense_end, device.use_end[uses], device.added[joins], device.head_end])
    order = np.lexsort((kinds, event))  # stable: experts stay in the program's order
    kinds, event, called, landed, ended = (column[order] for column in (kinds, event, called, landed, ended))
    before = np.append(0, ended[:-1])
    could = np.maximum(called, before)
    stall = np.maximum(landed - could, 0)
    cpu_stall = np.where(kinds == ADDITION, np.maximum(called - before, 0), 0)
    return Computed(event, np.maximum(ended - could - stall, 0), stall, cpu_stall)


def _of_groups(landed: Times, opens: Times) -> Times:
    """The time at which the last load of each use's group has landed, [uses] in the order of launches."""
    first = np.flatnonzero(opens)
    latest: Times = np.maximum.reduceat(landed, first) if len(first) else landed
    return np.repeat(latest, np.diff(np.append(first, len(landed))))


DEFAULT_SPAN_STEPS = 200  # more steps make a timeline slow to open


def measured_spans(work: Work, recording: Recording, steps: int = DEFAULT_SPAN_STEPS) -> list[Span]:
    """Spans of the first `steps` steps of a traced run, ns on the device's clock.

    Raises InputError if the run was not traced, because start times are then unknown.
    """
    events = min(steps, work.table.num_steps) * work.table.num_layers
    return spans(work.table, _happened(work, recording, events), events)


def _happened(work: Work, recording: Recording, events: int) -> Happened:
    table, device = work.table, recording.device
    if any((starts < 0).any() for starts in (device.dense_start, device.use_start, device.started, device.head_start)):
        raise InputError("this run has no start times: a traced run expected")
    goes_on = recording.joined.copy()
    goes_on[table.num_layers - 1 :: table.num_layers] = recording.step_end
    return Happened(
        begin=recording.begin,
        dense_launched=recording.dense_launched,
        ready=recording.ready,
        launched=recording.launched,
        goes_on=goes_on,
        dense_start=device.dense_start,
        dense_end=device.dense_end,
        head_start=device.head_start,
        head_end=device.head_end,
        use_start=device.use_start,
        use_end=device.use_end,
        copies=moved(table, device.started, device.landed, events),
    )
