"""Actions: a `DecisionTable` as one stream of loads and uses whose order does not depend on any clock.

Uses come in the order in which the host launches them. A load stands right behind everything that it waits for: the
begin of its event and the last use of what its slot held; it may slow whatever is computed after it. Behind the last
use of a launch stands the release of each other slot that the launch has read. Uses on the CPU come first in their
event, behind the loads that the CPU's experts and copies under way slow (`cpu_lane`). Within an event
the host never waits once it has decided, so its clock at an action is the time of the decision plus what it has issued
and launched since (`Progress`). So one pass over the actions times everything.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, MissingExtraError
from specmoe.hwprofiles.kernels import Launching
from specmoe.sim.decide.program import numbered
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


class Progress(NamedTuple):
    """Progress of the host in an event: numbers of loads issued and of launches since it decided."""

    issues: Rows
    launches: Rows
    begins: Rows  # `EXPERT`, `COPY` or `NOTHING`


def actions_of(table: DecisionTable, predicts: bool = False, launch: Launching = "separate") -> Actions:
    """The actions of a table; `predicts` says whether predicting may take the host time.

    Raises InputError for decisions that overwrite an expert before its last use, MissingExtraError without numba.
    """
    kernel = _kernel()
    uses, loads, events = table.uses, table.loads, table.num_steps * table.num_layers
    slots = table.slots if table.part else int(loads.slot.max(initial=-1)) + 1
    many = int(np.bincount(uses.event, minlength=1).max()) + 1  # more than an event has launches
    how = (predicts or table.after_launch, table.after_launch, launch != "separate", launch == "grouped-wait")
    of_uses = np.array((uses.event, uses.slot, uses.wave, uses.hit, uses.tokens, uses.load, uses.where), np.int32)
    of_loads = np.array((loads.event, loads.slot, loads.wave, loads.demand), np.int32)
    rules = (events, slots, many, *map(int, (table.part, *how)))
    (row, predicted, progress, kind, slot), ends, of_events, opens, late = kernel.lay_down(of_uses, of_loads, rules)
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
        on_cpu=np.isin(np.arange(events), uses.event[uses.where == CPU]),
        layers=table.num_layers,
        slots=slots,
    )


def _kernel() -> Any:
    try:
        from specmoe.sim.timing import actions_kernel
    except ModuleNotFoundError:
        raise MissingExtraError("numba", "fast") from None
    return actions_kernel
