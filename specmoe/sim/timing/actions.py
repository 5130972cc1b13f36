"""Actions: a `DecisionTable` as one stream of loads and uses whose order does not depend on any clock.

Uses come in the order in which the host launches them. A load stands right behind everything that it waits for: the
begin of its event and the last use of what its slot held; it may slow whatever is computed after it. Behind the last
use of a launch stands the release of each other slot that the launch has read. Uses on the CPU come first in their
event, behind the loads that the CPU's experts and copies under way slow (`cpu_lane`). Within an event
the host never waits once it has decided, so its clock at an action is the time of the decision plus what it has issued
and launched since (`Progress`). So one pass over the actions times everything.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles.kernels import Launching
from specmoe.sim.decide.program import first_rows, numbered, program_of
from specmoe.sim.decide.table import CPU, DecisionTable

# Kinds of actions; a first use waits for its load, which for a hit may have landed already.
LOAD, USE, FIRST_USE, FIRST_HIT, RELEASE, CPU_USE, LAST_CPU_USE = range(7)
Codes = NDArray[np.int32]
EXPERT, COPY, NOTHING = range(3)  # what begins at a point of the host's progress
Rows = NDArray[np.signedinteger[Any]]


class Actions(NamedTuple):
    """The actions of all events; those of event e are `ends[e - 1]:ends[e]`, from 0 on."""

    kind: NDArray[np.int8]  # [actions], `LOAD` to `LAST_CPU_USE`
    row: Codes  # [actions], of the table's loads or else uses
    slot: Codes  # [actions], that behind the last one for uses in slots that no load takes
    predicted: NDArray[np.uint8]  # [actions], whether the host has predicted by then
    progress: Codes  # [actions], a row of `host`
    ends: NDArray[np.int64]  # [events]
    event_progress: Codes  # [events], a row of `host`: all that it does in the event
    host: "Progress"  # [distinct] each
    num_loads: int
    num_uses: int
    opens: NDArray[np.bool_]  # [uses] in their order, whether a launch begins with the use
    on_cpu: NDArray[np.bool_]  # [events], whether the CPU computes any expert
    layers: int
    slots: int  # that anything is loaded into


def actions_of(table: DecisionTable, predicts: bool = False, launch: Launching = "separate") -> Actions:
    """The actions of a table; `predicts` says whether predicting may take the host time.

    Raises InputError for decisions that overwrite an expert before its last use.
    """
    order = host_order(table, predicts, launch)
    settled = _settled(table, order)
    at = _places(table, order, settled)
    slots = table.slots if table.part else int(table.loads.slot.max(initial=-1)) + 1
    of_uses = np.where(_is_loaded(table), table.uses.slot, slots)
    host, progress = distinct([issuing(table, order), launching(table, order), all_of_event(order)])
    return Actions(
        kind=at.merged(np.full(len(settled), LOAD), _kinds(table, order.uses), np.int8, RELEASE),
        row=at.merged(order.loads, order.uses, np.int32),
        slot=at.merged(table.loads.slot[order.loads], of_uses[order.uses], np.int32),
        predicted=at.merged(*_predicted(table, order), np.uint8),
        progress=at.merged(progress[0], progress[1], np.int32),
        ends=(order.first_load + order.first_use + at.released[order.first_use])[1:].astype(np.int64),
        event_progress=progress[2].astype(np.int32),
        host=host,
        num_loads=len(order.loads),
        num_uses=len(order.uses),
        opens=order.opens,
        on_cpu=np.isin(np.arange(table.num_steps * table.num_layers), table.uses.event[table.uses.where == CPU]),
        layers=table.num_layers,
        slots=slots,
    )


class _Places(NamedTuple):
    """Positions of loads, uses and releases, each in their order, among the actions."""

    loads: Rows
    uses: Rows
    releases: Rows
    released_by: Rows  # [releases], positions among the uses, of the use whose slot is released
    released: Rows  # [uses + 1], number of releases before each use and after the last

    def merged(
        self, of_loads: NDArray[Any], of_uses: NDArray[Any], kind: type[np.generic], release: int | None = None
    ) -> NDArray[Any]:
        """A column of the actions from a column of the loads and one of the uses.

        A release has the value of its use unless `release` gives one.
        """
        column = np.empty(len(self.loads) + len(self.uses) + len(self.releases), kind)
        column[self.loads], column[self.uses] = of_loads, of_uses
        column[self.releases] = of_uses[self.released_by] if release is None else release
        return column


def _places(table: DecisionTable, order: "HostOrder", settled: Rows) -> _Places:
    uses, ranks = np.arange(len(order.uses)), _rank(order.uses)
    last = ranks[order.last[order.uses]]
    early = np.flatnonzero((last > uses) & _is_loaded(table)[order.uses])
    behind = np.bincount(last[early], minlength=len(uses))  # releases behind each use
    released = np.concatenate([[0], np.cumsum(behind)])
    places = uses + np.searchsorted(settled, uses, "right") + released[:-1]
    nth = np.arange(len(early)) - released[last[early]]
    return _Places(
        loads=np.arange(len(settled)) + settled + released[settled],
        uses=places,
        releases=places[last[early]] + 1 + nth,
        released_by=early,
        released=released,
    )


def _is_loaded(table: DecisionTable) -> NDArray[np.bool_]:
    """Whether the slot of each use may take a load, before or after the use, [uses]."""
    return np.full(len(table.uses.slot), True) if table.part else np.isin(table.uses.slot, table.loads.slot)


def _settled(table: DecisionTable, order: "HostOrder") -> Rows:
    """Number of uses before each load, [loads] in their order: those of earlier events and of its slot's readers."""
    event, rank = table.loads.event[order.loads], _rank(order.uses)
    settled: Rows = np.maximum.accumulate(np.maximum(order.first_use[event], rank[order.reader] + 1))
    uses = np.flatnonzero(table.uses.load >= 0)
    awaited = _rank(order.loads)[table.uses.load[uses]]
    unsettled = awaited[settled[awaited] > rank[uses]]
    late = np.append(np.flatnonzero(settled > order.first_use[event + 1]), unsettled)
    if len(late):
        raise InputError(f"decisions: load {order.loads[late[0]]} overwrites an expert before its last use")
    return settled


def _rank(order: Rows) -> Rows:
    """The place of each row in an order; the last entry, -1, is that of no row."""
    rank = np.full(len(order) + 1, -1)
    rank[order] = np.arange(len(order))
    return rank


def _kinds(table: DecisionTable, uses: Rows) -> Rows:
    """`USE`, `FIRST_USE`, `FIRST_HIT`, `CPU_USE` or `LAST_CPU_USE`, [uses] in their order."""
    first = first_rows(table.uses.load[uses], len(table.loads.key))
    kinds = np.full(len(uses), USE)
    first = first[first >= 0]
    kinds[first] = np.where(table.uses.hit[uses[first]], FIRST_HIT, FIRST_USE)
    on_cpu, event = table.uses.where[uses] == CPU, table.uses.event[uses]
    goes_on = on_cpu[1:] & (event[1:] == event[:-1])  # the next use is on the CPU too
    kinds[on_cpu] = np.where(np.append(goes_on, False)[: len(uses)], CPU_USE, LAST_CPU_USE)[on_cpu]
    return kinds


def _predicted(table: DecisionTable, order: "HostOrder") -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each load and use is of its event's last round, at whose beginning the host predicts."""
    last = order.rounds[1:] - 1
    load_event, use_event = table.loads.event[order.loads], table.uses.event[order.uses]
    return order.load_rounds == last[load_event], order.use_rounds == last[use_event]


class HostOrder(NamedTuple):
    """The arrays of a `Program`."""

    loads: Rows  # [loads], rows of the table
    uses: Rows  # [uses], rows of the table
    rounds: Rows  # [events + 1], the first round of each event
    load_offsets: Rows  # [rounds + 1]
    use_offsets: Rows  # [rounds + 1]
    reader: Rows  # [loads] in their order, a row of uses or -1
    opens: NDArray[np.bool_]  # [uses] in their order, whether a launch begins with the use
    last: Rows  # [uses] rows, the row of the last use of the same launch

    @property
    def first_load(self) -> Rows:
        """Of each event, [events + 1], a position in `loads`."""
        return self.load_offsets[self.rounds]

    @property
    def first_use(self) -> Rows:
        """Of each event, [events + 1], a position in `uses`."""
        return self.use_offsets[self.rounds]

    @property
    def load_rounds(self) -> Rows:
        """The round of each load, [loads] in their order."""
        return np.repeat(np.arange(len(self.load_offsets) - 1), np.diff(self.load_offsets))

    @property
    def use_rounds(self) -> Rows:
        """The round of each use, [uses] in their order."""
        return np.repeat(np.arange(len(self.use_offsets) - 1), np.diff(self.use_offsets))

    @property
    def launches(self) -> Rows:
        """Number of launches before each use and after the last, [uses + 1]."""
        return np.concatenate([[0], np.cumsum(self.opens)])


class Progress(NamedTuple):
    """Progress of the host in an event: numbers of loads issued and of launches since it decided."""

    issues: Rows
    launches: Rows
    begins: Rows  # `EXPERT`, `COPY` or `NOTHING`


def host_order(table: DecisionTable, predicts: bool, launch: Launching = "separate") -> HostOrder:
    """The host's order of a table; `predicts` says whether predicting may take the host time."""
    columns = map(np.asarray, program_of(table, predicts, launch))
    rounds, loads, load_offsets, uses, use_offsets, _, reader, opens, last = columns
    return HostOrder(loads, uses, rounds, load_offsets, use_offsets, reader[loads], opens[uses] > 0, last)


def issuing(table: DecisionTable, order: HostOrder) -> Progress:
    """Progress of the host at the issue of each load, [loads] in their order."""
    event = table.loads.event[order.loads]
    issues = np.arange(len(event)) - order.first_load[event] + 1
    launches = order.launches[order.use_offsets[order.load_rounds]] - order.launches[order.first_use[event]]
    return Progress(issues, launches, np.full(len(event), COPY))


def launching(table: DecisionTable, order: HostOrder) -> Progress:
    """Progress of the host at the launch that serves each use, [uses] in their order."""
    event = table.uses.event[order.uses]
    issues = order.load_offsets[order.use_rounds + 1] - order.first_load[event]
    launches = order.launches[1:] - order.launches[order.first_use[event]]
    return Progress(issues, launches, np.full(len(event), EXPERT))


def all_of_event(order: HostOrder) -> Progress:
    """Progress of the host at the end of each event, [events]."""
    issues, launches = np.diff(order.first_load), np.diff(order.launches[order.first_use])
    return Progress(issues, launches, np.full(len(issues), NOTHING))


def distinct(parts: Sequence[Progress]) -> tuple[Progress, list[Rows]]:
    """The distinct rows of all parts, and for each part the number of each row among them."""
    issues, launches, begins = (np.concatenate(columns).astype(np.int64) for columns in zip(*parts, strict=True))
    many = int(launches.max(initial=0)) + 1
    first, code = numbered((issues * many + launches) * 3 + begins)
    cuts = np.cumsum([len(part.issues) for part in parts])[:-1]
    return Progress(issues[first], launches[first], begins[first]), np.split(code, cuts)
