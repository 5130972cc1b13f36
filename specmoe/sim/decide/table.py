"""The decisions of one policy on one workload: every later stage, simulated or real, executes this table.

A decision table is two tables of parallel arrays, uses and loads. A key names an expert of a layer:
`layer * num_experts + expert`. An event is one (step, layer): `step * num_layers + layer`. Within an event, loads are
issued in the order of their rows, demand loads of the first wave first; uses run in the order of their rows. Prefetches
are predicted and issued before the experts of the event's last wave are launched or, with `after_launch`, behind them.

An expert is used where its weights are: in a slot of the GPU, or on the CPU, which reads them from host memory. A use
on the CPU has no slot (-1) and no load (-1), is no hit, and belongs to the first wave. An expert that the CPU computed
may be loaded for later events (`later`): no use of its own event waits for such a load, and no prediction asked for it.
It is issued in the last round of its event, ahead of the prefetches.

VRAM may hold compressed experts in a second tier behind the slots (`found_compressed`). Every load from the host leaves
a compressed copy there, the least recently loaded copy is dropped first, and a load that finds its expert there only
expands it. Decisions of the first tier do not depend on the second, which is a pure function of the loads.
"""

from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.summary import cliff_slots

Ints = NDArray[np.int32]
GPU, CPU, NOWHERE = range(3)  # where an expert is used
EXACT, LOW, DEFERRED, DROPPED = range(4)  # what changes: nothing, a copy of few bits, a layer later, no use at all


class Uses(NamedTuple):
    """The uses: one row for every demanded expert of an event."""

    event: Ints
    key: Ints
    tokens: Ints  # tokens the expert serves
    slot: Ints  # that its weights are in; -1 on the CPU
    load: Ints  # row of `Loads` that brought it there; -1 if it was there from the start, and on the CPU
    hit: NDArray[np.bool_]  # resident when asked for, landed or not
    wave: Ints  # 0, unless the demand did not fit the slots at once
    where: NDArray[np.int8]  # `GPU` or `CPU`; `NOWHERE` if an approximate policy drops the use


class Loads(NamedTuple):
    """The loads: one row for every demand load and prefetch."""

    event: Ints  # during which it is issued
    key: Ints
    slot: Ints
    evicted: Ints  # the key that left the slot; -1 if it was free
    demand: NDArray[np.bool_]  # asked for by the router and waited for
    used: NDArray[np.bool_]  # before it was evicted
    wave: Ints  # of the uses it is issued for; others come after the last
    later: NDArray[np.bool_]  # asked for by the router, computed on the CPU and kept for later events

    @property
    def prefetch(self) -> NDArray[np.bool_]:
        """Whether a prediction asked for the load, [loads]."""
        return ~(self.demand | self.later)


class Changes(NamedTuple):
    """What an approximate policy changes, and the weight that routers give to each use."""

    kind: NDArray[np.int8]  # [uses], `EXACT` to `DROPPED`
    mass: NDArray[np.int64]  # [uses], of all tokens of the expert, millionths of a token


class First(NamedTuple):
    """The first rows of a step and of all later ones: what a figure without the warm-up begins with."""

    step: int = 0
    event: int = 0
    use: int = 0
    load: int = 0


class Counted(NamedTuple):
    """What warnings about decisions go by."""

    slots: int
    steps: int
    demands: int
    cliff_slots: int
    prefetch_loads: int
    prefetch_useful: int


class DecisionTable(NamedTuple):
    """All decisions, with the shape of the workload they belong to."""

    uses: Uses
    loads: Loads
    num_steps: int
    num_layers: int
    num_experts: int
    slots: int
    after_launch: bool = False
    all_resident: bool = False  # every expert has its slot from the start: nothing is ever loaded
    changes: Changes | None = None  # of an approximate policy
    part: bool = False  # of a longer run, whose other parts may load into any slot

    @property
    def cliff_slots(self) -> int:
        """Number of slots up to which an LRU over all layers has no hits (see `results.cliff_slots`)."""
        return cliff_slots(len(self.uses.key), self.num_steps, self.num_layers)

    @property
    def counted(self) -> Counted:
        """What warnings about these decisions go by."""
        counts = self.num_steps, len(self.uses.key), self.cliff_slots, self.prefetch_loads, self.prefetch_useful
        return Counted(self.slots, *counts)

    def first(self, step: int) -> First:
        """The first rows of a step."""
        event = step * self.num_layers
        return First(step, event, *(int(np.searchsorted(rows.event, event)) for rows in (self.uses, self.loads)))

    def since(self, step: int) -> "DecisionTable":
        """The decisions of a step and of all later ones, to be counted: numbers of events and loads stay the same."""
        first = self.first(step)
        uses = Uses._make(column[first.use :] for column in self.uses)
        loads = Loads._make(column[first.load :] for column in self.loads)
        changes = self.changes and Changes._make(column[first.use :] for column in self.changes)
        return self._replace(uses=uses, loads=loads, num_steps=self.num_steps - step, changes=changes)

    def until(self, step: int) -> "DecisionTable":
        """The decisions of the steps before a step."""
        end = self.first(step)
        uses = Uses._make(column[: end.use] for column in self.uses)
        loads = Loads._make(column[: end.load] for column in self.loads)
        changes = self.changes and Changes._make(column[: end.use] for column in self.changes)
        return self._replace(uses=uses, loads=loads, num_steps=step, changes=changes)

    @property
    def hits(self) -> int:
        """Number of demanded experts that were resident."""
        return int(self.uses.hit.sum())

    @property
    def cpu_uses(self) -> int:
        """Number of demanded experts that the CPU computes; with hits and demand loads they are all demands."""
        return int((self.uses.where == CPU).sum())

    @property
    def cpu_tokens(self) -> int:
        """Number of tokens of these experts."""
        return int(self.uses.tokens[self.uses.where == CPU].sum())

    @property
    def demand_loads(self) -> int:
        """Number of loads that a router demanded and waits for."""
        return int(self.loads.demand.sum())

    @property
    def prefetch_loads(self) -> int:
        """Number of prefetches."""
        return int(self.loads.prefetch.sum())

    @property
    def prefetch_useful(self) -> int:
        """Number of prefetched experts that were used before they were evicted."""
        return int((self.loads.used & self.loads.prefetch).sum())

    @property
    def later_loads(self) -> int:
        """Number of loads of experts that the CPU computed, for later events."""
        return int(self.loads.later.sum())

    @property
    def later_useful(self) -> int:
        """Number of these experts that were used before they were evicted."""
        return int((self.loads.used & self.loads.later).sum())

    @property
    def dropped_uses(self) -> int:
        """Number of demanded experts that nobody computes; with hits, demand loads and uses on the CPU, all demands."""
        return int(self.changed(DROPPED).sum())

    @property
    def low_uses(self) -> int:
        """Number of uses of copies of few bits."""
        return int(self.changed(LOW).sum())

    @property
    def deferred_uses(self) -> int:
        """Number of uses whose results are joined a layer later."""
        return int(self.changed(DEFERRED).sum())

    @property
    def changed_mass(self) -> int:
        """Router weight of all these uses, millionths of a token."""
        return int(self.changes.mass[self.changes.kind != EXACT].sum()) if self.changes else 0

    def changed(self, kind: int) -> NDArray[np.bool_]:
        """Which uses are changed so, [uses]."""
        return self.changes.kind == kind if self.changes else np.zeros(len(self.uses.key), np.bool_)


class Use(NamedTuple):
    """One row of `Uses`, without its event."""

    key: int
    tokens: int
    slot: int
    load: int
    hit: bool
    wave: int
    where: int


class Load(NamedTuple):
    """One row of `Loads` with what a runtime needs of it."""

    row: int
    key: int
    slot: int
    demand: bool
    wave: int


USE_FIELDS, LOAD_FIELDS = 8, 7


class Recorder:
    """Collects the rows of a decision table while decisions are made."""

    def __init__(self) -> None:
        self._uses = array("i")
        self._loads = array("i")
        self._used = bytearray()

    @property
    def num_loads(self) -> int:
        """Number of loads so far."""
        return len(self._used)

    def use(
        self, event: int, key: int, tokens: int, slot: int, load: int, hit: bool, wave: int, where: int = GPU
    ) -> None:
        """Add a use, and mark its load as used."""
        self._uses.extend((event, key, tokens, slot, load, hit, wave, where))
        if load >= 0:
            self._used[load] = True

    def load(self, event: int, key: int, slot: int, evicted: int, demand: bool, wave: int, later: bool = False) -> int:
        """Add a load and return its row."""
        self._loads.extend((event, key, slot, evicted, demand, wave, later))
        self._used.append(False)
        return len(self._used) - 1

    @property
    def num_uses(self) -> int:
        """Number of uses so far."""
        return len(self._uses) // USE_FIELDS

    def uses_since(self, row: int) -> Iterator[Use]:
        """Uses from a row on."""
        rows = self._uses[row * USE_FIELDS :]
        for at in range(0, len(rows), USE_FIELDS):
            _, key, tokens, slot, load, hit, wave, where = rows[at : at + USE_FIELDS]
            yield Use(key, tokens, slot, load, bool(hit), wave, where)

    def loads_since(self, row: int) -> Iterator[Load]:
        """Loads from a row on."""
        rows = self._loads[row * LOAD_FIELDS :]
        for at in range(0, len(rows), LOAD_FIELDS):
            _, key, slot, _, demand, wave, _ = rows[at : at + LOAD_FIELDS]
            yield Load(row + at // LOAD_FIELDS, key, slot, bool(demand), wave)

    def table(
        self,
        num_steps: int,
        num_layers: int,
        num_experts: int,
        slots: int,
        after_launch: bool = False,
        all_resident: bool = False,
    ) -> DecisionTable:
        """The decision table of all rows added."""
        event, key, tokens, slot, load, hit, wave, where = _columns(self._uses, USE_FIELDS)
        uses = Uses(event, key, tokens, slot, load, hit.astype(np.bool_), wave, where.astype(np.int8))
        event, key, slot, evicted, demand, wave, later = _columns(self._loads, LOAD_FIELDS)
        used = np.array(self._used, np.bool_)
        loads = Loads(event, key, slot, evicted, demand.astype(np.bool_), used, wave, later.astype(np.bool_))
        return DecisionTable(uses, loads, num_steps, num_layers, num_experts, slots, after_launch, all_resident)


def _columns(rows: "array[int]", width: int) -> list[Ints]:
    return list(np.array(rows, np.int32).reshape(-1, width).T.copy())


def uses_on_cpu(table: DecisionTable) -> dict[int, list[int]]:
    """Rows of the uses on the CPU, by event."""
    rows = np.flatnonzero(table.uses.where == CPU)
    events, first = np.unique(table.uses.event[rows], return_index=True)
    return dict(zip(events.tolist(), [part.tolist() for part in np.split(rows, first[1:])], strict=False))


def all_on_cpu(table: DecisionTable) -> DecisionTable:
    """The same demand with every expert computed on the CPU."""
    uses = table.uses
    nowhere, hit = np.full_like(uses.slot, -1), np.zeros_like(uses.hit)
    on_cpu = uses._replace(slot=nowhere, load=nowhere, hit=hit, wave=0 * uses.wave, where=np.full_like(uses.where, CPU))
    loads = Loads._make(column[:0] for column in table.loads)
    return table._replace(uses=on_cpu, loads=loads, slots=0, after_launch=False, all_resident=False)


def packed(values: NDArray[Any]) -> "array[int]":
    """The same integers as an `array` of 8 bytes each, for times; Python loops read it faster than numpy."""
    return array("q", np.ascontiguousarray(values, np.int64).tobytes())


def packed_rows(values: NDArray[Any]) -> "array[int]":
    """The same integers as an `array` of 4 bytes each, for numbers of rows."""
    return array("i", np.ascontiguousarray(values, np.int32).tobytes())


def column(length: int, value: int = 0) -> "array[int]":
    """An `array` of `length` equal values."""
    return packed(np.full(length, value))


def unpacked(values: "array[int]") -> NDArray[np.int64]:
    """The same integers as a numpy array that shares their memory."""
    return np.frombuffer(values, np.int64) if values else np.zeros(0, np.int64)


def found_compressed(table: DecisionTable, slots: int) -> NDArray[np.bool_]:
    """Whether each load finds its expert among `slots` compressed experts in VRAM, [loads]."""
    found = np.zeros(len(table.loads.key), np.bool_)
    copies: dict[int, None] = {}  # least recently loaded first
    if not slots:
        return found
    for row, key in enumerate(table.loads.key.tolist()):
        if key in copies:
            found[row] = True
            del copies[key]
        elif len(copies) == slots:
            del copies[next(iter(copies))]
        copies[key] = None
    return found
