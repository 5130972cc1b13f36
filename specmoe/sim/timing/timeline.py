"""The timeline of a simulated run, with the lanes host, compute, copy, disk and cpu, for ui.perfetto.dev."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from specmoe.sim.decide.table import DecisionTable, uses_on_cpu
from specmoe.sim.event_table import Happened, Move, moved, spans
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Timing
from specmoe.timeline import Span, write_spans

STEPS = 200  # a size that viewers open quickly


def write_timeline(table: DecisionTable, durations: Durations, timing: Timing, path: Path, steps: int = STEPS) -> None:
    """Write the first `steps` steps for ui.perfetto.dev."""
    write_spans(path, {"specmoe": simulated_spans(table, durations, timing, steps)})


def simulated_spans(table: DecisionTable, durations: Durations, timing: Timing, steps: int = STEPS) -> list[Span]:
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
