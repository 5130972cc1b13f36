"""The re-timer: the same decisions timed on many machines in one pass, with integers equal to the engine's.

Decisions do not depend on a clock, nor does the order of events on the compute stream and a FIFO link. So that order is
laid down once (`Actions`, by `actions_kernel`), written as a `Script` whose numbers are rows of clocks and costs, and
walked by a compiled loop with arrays of clocks, a lane for each machine (`retimer_kernel`). In the other orders of
copies the order of events depends on the machine, so the engine times them.

Actions are one stream of loads and uses. Uses come in the order in which the host launches them. A load stands right
behind everything that it waits for: the begin of its event and the last use of what its slot held; it may slow whatever
is computed after it. Behind the last use of a launch stands the release of each other slot that the launch has read.
Uses on the CPU come first in their event, behind the loads that the CPU's experts and copies under way slow
(`cpu_lane`). Within an event the host never waits once it has decided, so its clock at an action is the time of the
decision plus what it has issued and launched since (`Progress`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, MissingExtraError
from specmoe.hwprofiles.costs import HostCosts
from specmoe.hwprofiles.kernels import Launching
from specmoe.sim.config import Order
from specmoe.sim.decide import table as tables
from specmoe.sim.decide.program import numbered
from specmoe.sim.decide.table import DecisionTable, First
from specmoe.sim.timing.bounds import NONE
from specmoe.sim.timing.cpu_lane import CpuCosts
from specmoe.sim.timing.durations import Durations, require_at_hand
from specmoe.sim.timing.variants import Variants, variants_of

# Kinds of actions; a first use waits for its load, which for a hit may have landed already.
LOAD, USE, FIRST_USE, FIRST_HIT, RELEASE, CPU_USE, LAST_CPU_USE = range(7)
EXPERT, COPY, NOTHING = range(3)  # what begins at a point of the host's progress
# Rows of the clocks, and from `FREE` on one for each slot: when its expert has landed or, once used, was last used.
HOST, START, COMPUTE, READY, DECIDED, PREDICTED, LINK, DISK = range(8)
CPU_WORK, CPU_BEGIN, CPU_FROM, CPU_END = range(8, 12)  # work and begin of an event's experts; when they were computed
STALL, SLOWED, LATE, CPU, CPU_STALL, FREE = range(12, 18)
# Rows of the costs; the coded ones follow. The kernel is compiled with these numbers.
DENSE, HANDOVER, SYNC, BOOKKEEPING, READ, SYNC_EACH_LAYER, LAUNCH_DENSE = range(7)
CPU_START, CPU_JOIN, CPU_ADD, SLOWED_BY_COPY, SLOWS_COPY, RESULT = range(7, 13)
Times = NDArray[np.int64]
Rows = NDArray[np.int32]
ROOM = 64  # initial capacity of a ring of copies; a power of two
LANES = 64  # machines per pass: enough for vector instructions, few enough for their clocks to stay in the cache


class Actions(NamedTuple):
    """The actions of all events; those of event e are `ends[e - 1]:ends[e]`, from 0 on."""

    kind: NDArray[np.int8]  # [actions], `LOAD` to `LAST_CPU_USE`
    row: Rows  # [actions], of the table's loads or else uses
    slot: Rows  # [actions], that behind the last one for uses in slots that no load takes
    predicted: NDArray[np.uint8]  # [actions], whether the host has predicted by then
    progress: Rows  # [actions], a row of `host`
    ends: NDArray[np.int64]  # [events]
    event_progress: Rows  # [events], a row of `host`: all that it does in the event
    host: "Progress"  # [distinct] each
    num_loads: int
    num_uses: int
    opens: NDArray[np.bool_]  # [uses] in their order, whether a launch begins with the use
    on_cpu: NDArray[np.bool_]  # [events], whether the CPU computes any expert
    layers: int
    slots: int  # that anything is loaded into


class Progress(NamedTuple):
    """Progress of the host in an event: numbers of loads issued and of launches since it decided."""

    issues: NDArray[np.signedinteger]
    launches: NDArray[np.signedinteger]
    begins: NDArray[np.signedinteger]  # `EXPERT`, `COPY` or `NOTHING`


def actions_of(table: DecisionTable, predicts: bool = False, launch: Launching = "separate") -> Actions:
    """The actions of a table; `predicts` says whether predicting may take the host time.

    Raises InputError for decisions that overwrite an expert before its last use, MissingExtraError without numba.
    """
    laid_down, _ = _kernels()
    uses, loads, events = table.uses, table.loads, table.num_steps * table.num_layers
    slots = table.slots if table.part else int(loads.slot.max(initial=-1)) + 1
    many = int(np.bincount(uses.event, minlength=1).max()) + 1  # more than an event has launches
    how = (predicts or table.after_launch, table.after_launch, launch != "separate", launch == "grouped-wait")
    of_uses = np.array((uses.event, uses.slot, uses.wave, uses.hit, uses.tokens, uses.load, uses.where), np.int32)
    of_loads = np.array((loads.event, loads.slot, loads.wave, loads.demand), np.int32)
    rules = (events, slots, many, *map(int, (table.part, *how)))
    (row, predicted, progress, kind, slot), ends, of_events, opens, late = laid_down(of_uses, of_loads, rules)
    if late >= 0:
        raise InputError(f"decisions: load {late} overwrites an expert before its last use")
    every = np.append(progress, of_events)
    first, code = numbered(every)
    return Actions(
        kind=kind.astype(np.int8),
        row=row,
        slot=slot,
        predicted=predicted.astype(np.uint8),
        progress=code[: len(kind)].astype(np.int32),
        ends=ends.astype(np.int64),
        event_progress=code[len(kind) :].astype(np.int32),
        host=Progress(every[first] // 3 // many, every[first] // 3 % many, every[first] % 3),
        num_loads=len(loads.key),
        num_uses=len(uses.key),
        opens=opens > 0,
        on_cpu=np.isin(np.arange(events), uses.event[uses.where == tables.CPU]),
        layers=table.num_layers,
        slots=slots,
    )


class Retimed(NamedTuple):
    """Times of each variant that summaries need, ns: `step_end`, and sums over the steps after the warm-up."""

    step_end: Times  # [variants, steps], the host knows that the step has ended; from the start of the run
    host: Times  # [variants], the host thread works
    compute: Times  # [variants], the compute stream works
    stall: Times  # [variants], the compute stream waits for loads
    slowed: Times  # [variants], the part of `compute` that is due to copies under way
    link: Times  # [variants], copying, if nothing slows it
    late_hits: Times  # [variants], number of experts that were resident and had not landed when they were asked for
    cpu: Times  # [variants], the CPU computes experts
    cpu_stall: Times  # [variants], the compute stream waits for their result

    @property
    def latencies(self) -> Times:
        """Time of each step, ns, [variants, steps]."""
        return np.diff(self.step_end, axis=1, prepend=0)


def retime(table: DecisionTable, variants: Sequence[Durations] | Variants, order: Order = "fifo") -> Retimed:
    """Time decisions with the durations of every variant.

    Raises InputError for a link that is not FIFO, for durations of other decisions, and for decisions that overwrite
    an expert before its last use; MissingExtraError without numba.
    """
    if order != "fifo":
        raise InputError(f"link order {order}: not supported by the re-timer: fifo expected")
    coded = variants if isinstance(variants, Variants) else variants_of(variants)
    return timed(actions_of(table, bool(coded.predict.values.any()), coded.launching), coded)


class Clocks:
    """Clocks of machines, which stand at 0 and go on from one part of a run to the next; they count its stalls."""

    def __init__(self, slots: int, lanes: int) -> None:
        self._clocks = np.zeros((FREE + slots + 1, lanes), np.int64)
        self._rings = np.empty((4, lanes, ROOM), np.int64)
        self._numbers = np.zeros((2, lanes), np.int64)

    def walk(self, script: "Script", costs: Times, slows: NDArray[np.float64], step_end: Times, *how: Any) -> Times:
        """Walk a script; sums of stall, slowing, late hits, the CPU and the wait for it so far, [5, lanes]."""
        _, walk = _kernels()
        self._rings = walk(*script, self._clocks, costs, slows, step_end, *how, self._rings, self._numbers)
        sums: Times = self._clocks[[STALL, SLOWED, LATE, CPU, CPU_STALL]]
        return sums


def timed(actions: Actions, variants: Variants, first: First = NONE, clocks: Clocks | None = None) -> Retimed:
    """Time the actions of a table; they must be made with `predicts` if predicting takes time in any variant.

    Sums begin with the rows `first`. With `clocks` that stand where an earlier part of the run ended, sums of stalls
    include that part's.
    """
    count, steps = len(variants.read), len(actions.ends) // actions.layers
    step_end, sums = np.empty((count, steps), np.int64), np.empty((5, count), np.int64)
    if not count:
        return Retimed(step_end, *np.empty((8, 0), np.int64))
    _require_same_rows(actions, variants)
    if actions.on_cpu.any():
        _require_at_hand(variants)
    _walk(actions, variants, step_end, sums, first.step, clocks)
    stall, slowed, late_hits, cpu, cpu_stall = sums
    link = variants.copy.since(first.load)
    compute = variants.before.since(first.event) + variants.expert.since(first.use) + slowed
    compute += variants.after.since(first.step) + _added(actions, variants, first)
    return Retimed(step_end, _host(actions, variants, first), compute, stall, slowed, link, late_hits, cpu, cpu_stall)


def _walk(
    actions: Actions, variants: Variants, step_end: Times, sums: Times, warm_up: int, clocks: Clocks | None
) -> None:
    script, costs = script_of(actions, variants)
    for first in range(0, len(step_end), LANES):
        lanes = slice(first, first + LANES)
        some = (np.ascontiguousarray(costs[:, lanes]), variants.interference[lanes], step_end[lanes])
        on = clocks or Clocks(actions.slots, len(step_end[lanes]))
        sums[:, lanes] = on.walk(script, *some, warm_up, variants.runs_ahead, actions.on_cpu)


def _kernels() -> tuple[Callable[..., Any], Callable[..., Times]]:
    """What lays actions down, and what walks them; raises MissingExtraError without numba."""
    try:
        from specmoe.sim.timing.actions_kernel import laid_down
        from specmoe.sim.timing.retimer_kernel import walk
    except ModuleNotFoundError:
        raise MissingExtraError("numba", "fast") from None
    return laid_down, walk


def _require_same_rows(actions: Actions, variants: Variants) -> None:
    events = len(actions.ends)
    steps = events // actions.layers
    rows = {"before": events, "expert": actions.num_uses, "after": steps, "to_host": steps, "to_device": steps}
    for name, expected in {**rows, "copy": actions.num_loads, "predict": events}.items():
        found = len(getattr(variants, name).codes)
        if found != expected:
            raise InputError(f"durations of other decisions: {name} has {found} rows: {expected} expected")


def _require_at_hand(variants: Variants) -> None:
    """Raise InputError if the CPU cannot compute experts because they are not at hand in host memory."""
    copies = variants.copy.values[np.unique(variants.copy.codes)]
    for read, copied in zip(variants.read.tolist(), copies.T.tolist(), strict=True):
        require_at_hand(read, copied)


def _added(actions: Actions, variants: Variants, first: First) -> Times:
    """Time of the compute stream that adding what the CPU computed takes, less what copies slow, ns, [variants].

    The times of the CPU's own experts are no time of that stream: they are taken off.
    """
    added = int(actions.on_cpu[first.event :].sum()) * CpuCosts(*variants.cpu).add_ns
    rows = actions.row[(actions.kind == CPU_USE) | (actions.kind == LAST_CPU_USE)]
    experts = np.bincount(variants.expert.codes[rows[rows >= first.use]], minlength=len(variants.expert.values))
    total: Times = added - experts @ variants.expert.values
    return total


def _host(actions: Actions, variants: Variants, first: First) -> Times:
    """Time that the host works, ns, [variants]."""
    host, events = HostCosts(*variants.host), len(actions.ends) - first.event
    loads, launches = actions.num_loads - first.load, int(actions.opens[first.use :].sum())
    dense = (events + events // actions.layers) * host.launch_dense_ns
    cpu, on_cpu = CpuCosts(*variants.cpu), int(actions.on_cpu[first.event :].sum())
    decided = 0 if variants.runs_ahead else events * host.bookkeeping_ns
    rest = decided + on_cpu * (cpu.start_ns + cpu.join_ns) + loads * host.issue_ns + launches * host.launch_ns
    total: Times = dense + rest + variants.predict.since(first.event)
    return total


class Script(NamedTuple):
    """The part of the kernel's input that all variants share."""

    actions: Rows  # [actions, 5]: kind; rows of: slot, clock from which the host begins, cost from there, own cost
    ends: Times  # [events], among the actions
    events: Rows  # [events, 5], rows of the costs: of the dense part, of predicting, of all that the host then does;
    # of the hidden state's copy to the host, of the result's copy back
    heads: Rows  # [steps], rows of the costs


def script_of(actions: Actions, variants: Variants) -> tuple[Script, Times]:
    """The script, and the table of costs, ns, [costs, variants]."""
    columns = [variants.before, variants.predict, variants.after, variants.copy, variants.expert]
    columns += [variants.to_host, variants.to_device]
    tables = [_fixed(variants), _progress(actions, variants), *(column.values for column in columns)]
    progress, *starts = np.cumsum([len(table) for table in tables])[:-1].tolist()
    rows = (column.codes + start for column, start in zip(columns, starts, strict=True))
    before, predict, after, copy, expert, *small = rows
    is_load = actions.kind == LOAD
    cost = np.empty(len(is_load), np.int32)
    cost[is_load] = copy[actions.row[is_load]]
    cost[~is_load] = expert[actions.row[~is_load]]  # a release's is not read
    decided = np.where(actions.predicted, PREDICTED, DECIDED)
    walked = (actions.kind, actions.slot + FREE, decided, actions.progress + progress, cost)
    small_copies = (np.repeat(column, actions.layers) for column in small)
    events = (before, predict, actions.event_progress + progress, *small_copies)
    return Script(_table(walked), actions.ends, _table(events), after), np.concatenate(tables)


def _table(columns: tuple[NDArray[np.signedinteger], ...]) -> Rows:
    table = np.empty((len(columns[0]), len(columns)), np.int32)
    for place, column in enumerate(columns):
        table[:, place] = column
    return table


def _fixed(variants: Variants) -> Times:
    """The rows of costs with a name of their own, [13, variants]."""
    host = HostCosts(*variants.host)
    dense = host.launch_dense_ns + host.begin_ns  # from the host's launch to the device's begin
    waits = (host.event_ns, host.sync_ns, host.bookkeeping_ns, variants.read, variants.sync_each_layer)
    result = host.begin_copy_ns + host.event_ns  # from the host's call until the compute stream knows of a small copy
    return np.stack([dense, *waits, host.launch_dense_ns, *variants.cpu, result])


def _progress(actions: Actions, variants: Variants) -> Times:
    """Time from the host's decision to the begin of what it issues or launches, ns, [distinct, variants]."""
    host = HostCosts(*variants.host)
    issues, launches, begins = (column[:, None] for column in actions.host)
    begin = np.where(begins == COPY, host.begin_copy_ns, np.where(begins == EXPERT, host.begin_ns, 0))
    progress: Times = issues * host.issue_ns + launches * host.launch_ns + begin
    return progress
