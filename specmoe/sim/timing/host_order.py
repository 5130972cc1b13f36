"""What the host does in what order, as arrays, and how far it is in an event when it comes to something.

Within an event the host never waits once it has decided, so that its clock is the time of the decision and of what it
has issued and launched since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.program import program_of
from specmoe.sim.decide.table import DecisionTable

EXPERT, COPY, NOTHING = range(3)  # what begins when the host has got so far
Rows = NDArray[np.signedinteger[Any]]


class HostOrder(NamedTuple):
    """The arrays of a `Program`."""

    loads: Rows  # [loads], rows of the table
    uses: Rows  # [uses], rows of the table
    rounds: Rows  # [events + 1], the first round of each event
    load_offsets: Rows  # [rounds + 1]
    use_offsets: Rows  # [rounds + 1]
    reader: Rows  # [loads] in their order, a row of uses or -1

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


class Progress(NamedTuple):
    """How far the host is in an event: what it has issued and launched since it decided."""

    issues: Rows
    launches: Rows
    begins: Rows  # `EXPERT`, `COPY` or `NOTHING`


def host_order(table: DecisionTable, predicts: bool) -> HostOrder:
    """The order of a table; `predicts` if predicting may take the host time."""
    rounds, loads, load_offsets, uses, use_offsets, _, reader = map(np.asarray, program_of(table, predicts))
    return HostOrder(loads, uses, rounds, load_offsets, use_offsets, reader[loads])


def issuing(table: DecisionTable, order: HostOrder) -> Progress:
    """When the host has issued each load, [loads] in their order."""
    event = table.loads.event[order.loads]
    issues = np.arange(len(event)) - order.first_load[event] + 1
    launches = order.use_offsets[order.load_rounds] - order.first_use[event]
    return Progress(issues, launches, np.full(len(event), COPY))


def launching(table: DecisionTable, order: HostOrder) -> Progress:
    """When the host has launched each use, [uses] in their order."""
    event = table.uses.event[order.uses]
    issues = order.load_offsets[order.use_rounds + 1] - order.first_load[event]
    launches = np.arange(len(event)) - order.first_use[event] + 1
    return Progress(issues, launches, np.full(len(event), EXPERT))


def all_of_event(order: HostOrder) -> Progress:
    """When the host is done with each event, [events]."""
    issues, launches = np.diff(order.first_load), np.diff(order.first_use)
    return Progress(issues, launches, np.full(len(issues), NOTHING))


def distinct(parts: Sequence[Progress]) -> tuple[Progress, list[Rows]]:
    """All that differ, and for each part which of them its rows are."""
    issues, launches, begins = (np.concatenate(columns).astype(np.int64) for columns in zip(*parts, strict=True))
    many = int(launches.max(initial=0)) + 1
    _, first, code = np.unique((issues * many + launches) * 3 + begins, return_index=True, return_inverse=True)
    cuts = np.cumsum([len(part.issues) for part in parts])[:-1]
    return Progress(issues[first], launches[first], begins[first]), np.split(code, cuts)
