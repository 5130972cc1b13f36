"""A `DecisionTable` as one stream of actions of the compute stream and the link, in an order that no clock changes.

What the host does has an order of its own (`specmoe.sim.decide.program`), and its clock within an event depends on the
event's begin alone: so many issues and launches after it. That number goes with each action, and then one pass in the
order of the compute stream times everything. A load stands where all that it waits for is behind it: as early as that
allows, for copies slow what computes beside them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.decide.program import Program, program_of
from specmoe.sim.decide.table import DecisionTable

LOAD, USE, FIRST_USE, FIRST_USE_HIT = range(4)  # a first use is that of what a load brought: it waits for it
Ints = NDArray[np.int64]


class Offsets(NamedTuple):
    """How far the host is behind its decision, as distinct combinations: each [codes]."""

    issues: Ints  # loads issued
    launches: Ints  # experts launched
    begins: Ints  # and what begins then: `NOTHING`, `EXPERT` or `COPY`


NOTHING, EXPERT, COPY = range(3)


class Actions(NamedTuple):
    """Actions of event e: `ends[e - 1]:ends[e]`, from 0 on."""

    kind: NDArray[np.int8]  # [actions], `LOAD` to `FIRST_USE_HIT`
    row: NDArray[np.int32]  # [actions], of the table's loads or uses
    slot: NDArray[np.int32]  # [actions], the one behind the last where nobody ever waits for it
    offset: NDArray[np.int32]  # [actions], a row of `offsets`
    predicted: NDArray[np.uint8]  # [actions], whether the host has predicted before it
    ends: NDArray[np.int64]  # [events]
    event_offset: NDArray[np.int32]  # [events], a row of `offsets`: all that the host does in the event
    offsets: Offsets
    layers: int
    slots: int


class _Behind(NamedTuple):
    """What the host has done in an event when it comes to some row, itself included; each [rows], or [events]."""

    issues: Ints
    launches: Ints
    predicted: NDArray[np.bool_]


def actions_of(table: DecisionTable, predicts: bool = False) -> Actions:
    """The actions of a table; `predicts` if predicting takes the host time.

    Raises InputError for decisions that overwrite an expert which is still wanted.
    """
    program = program_of(table, predicts)
    rounds, load_ends, use_ends = (_array(column) for column in (program.rounds, program.load_offsets, program.use_offsets))
    loads, uses = _array(program.loads), _array(program.uses)
    first_load, first_use = load_ends[rounds], use_ends[rounds]  # [events + 1], of each event
    load_event, use_event = table.loads.event[loads], table.uses.event[uses]
    settled = _settled(table, program, loads, uses, first_use)
    place = np.arange(len(loads)) + settled  # of each load among the actions
    use_place = np.arange(len(uses)) + np.searchsorted(settled, np.arange(len(uses)), "right")
    raise NotImplementedError
