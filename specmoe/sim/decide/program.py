"""The program: a `DecisionTable` in the order in which the host executes it.

An event is one or more rounds, one for each wave of its demand. In a round the host first issues loads: the wave's
demand loads and, in the last round, the prefetches. Then it launches the wave's experts: resident ones first, those
with the most tokens first (no other order ends sooner when the host launches slowly), then the others as they land.

A launch serves a group of experts that follow each other in this order (`groups_of`): one expert, or the resident
experts of a round and then its others, or all experts of a round. Experts on the CPU come first in their event, which
hands them over before it issues or launches anything; each is a group of its own that needs no launch.

Where predicting takes the host time, or comes after the launch, every event has one more round, at whose beginning the
host predicts:

    before the launch   ..., demand loads of the last wave | predict, prefetches, experts of the last wave
    after the launch    ..., demand loads and experts of the last wave | predict, prefetches
"""

from array import array
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.hwprofiles.kernels import Launching
from specmoe.sim.decide.table import CPU, DecisionTable, Use, packed_rows

Rows = NDArray[np.signedinteger[Any]]


class Program(NamedTuple):
    """Rounds of event e: `rounds[e]:rounds[e + 1]`. Of round r: `loads[load_offsets[r]:load_offsets[r + 1]]`, rows of
    `DecisionTable.loads`, and `uses` likewise.

    A load waits for two things in its slot: that the load before it, `previous`, has landed, and that `reader`, the
    last use of what the slot held (what that load brought, or what was there from the start), has ended; of a group it
    is the group's last use. Either is -1 where there is no such thing.
    """

    rounds: "array[int]"
    loads: "array[int]"
    load_offsets: "array[int]"
    uses: "array[int]"
    use_offsets: "array[int]"
    previous: "array[int]"  # [loads], a row of loads
    reader: "array[int]"  # [loads], a row of uses
    opens: "array[int]"  # [uses], whether a launch begins with this use
    last: "array[int]"  # [uses], the row of the last use of the same launch


class Groups(NamedTuple):
    """Groups of uses, each served by one launch. Neither time nor predictions change them."""

    order: Rows  # [uses], rows in the order of launches
    number: Rows  # [uses] in that order, the number of each use's group, rising from 0
    opens: NDArray[np.bool_]  # [uses] in that order, whether it is the first of its group
    on_cpu: NDArray[np.bool_]  # [uses] in that order

    @property
    def launches(self) -> int:
        """Number of launches."""
        return self.launches_since(0)

    def launches_since(self, first: int) -> int:
        """Number of launches that serve the uses from row `first` on, which begins an event."""
        return int(self.launched[first:].sum())

    @property
    def launched(self) -> NDArray[np.bool_]:
        """Whether a launch begins with each use, [uses] in their order."""
        return self.opens & ~self.on_cpu

    @property
    def ends(self) -> Rows:
        """The row of each group's last use, [groups]."""
        return self.order[np.flatnonzero(np.append(self.opens[1:], True)[: len(self.order)])]

    @property
    def last(self) -> Rows:
        """The row of the last use of each use's group, [uses] rows."""
        last = np.empty(len(self.order), np.int64)
        last[self.order] = self.ends[self.number]
        return last


def groups_of(table: DecisionTable, launching: Launching = "separate") -> Groups:
    """Which uses a launch serves."""
    uses = table.uses
    weight = np.where(uses.hit, -uses.tokens, 0)
    order = np.lexsort((weight, ~uses.hit, uses.wave, -uses.where, uses.event))  # stable: else in the rows' order
    on_cpu = uses.where[order] == CPU
    opens = np.ones(len(order), np.bool_)
    if launching != "separate" and len(order):
        columns = [uses.event, uses.wave, *((uses.hit,) if launching == "grouped" else ())]
        opens[1:] = np.any([np.diff(column[order].astype(np.int64)) != 0 for column in columns], axis=0)
        opens[1:] |= on_cpu[1:] | on_cpu[:-1]
    return Groups(order, np.cumsum(opens) - 1, opens, on_cpu)


def launch_order(uses: Iterable[Use]) -> list[Use]:
    """Uses of one event on the GPU in the order of launches, as in `groups_of`."""
    return sorted(uses, key=lambda use: (use.wave, not use.hit, -use.tokens if use.hit else 0))


def program_of(table: DecisionTable, predicts: bool = False, launching: Launching = "separate") -> Program:
    """Order the rows of a table; `predicts` says whether predicting takes the host time."""
    uses, loads = table.uses, table.loads
    waves = np.ones(table.num_steps * table.num_layers, np.int64)
    later = uses.wave > 0
    np.maximum.at(waves, uses.event[later], uses.wave[later] + 1)
    apart = predicts or table.after_launch
    rounds = np.concatenate([[0], np.cumsum(waves + apart)])
    load_round = np.where(loads.demand, rounds[loads.event] + loads.wave, rounds[1:][loads.event] - 1)
    load_order = np.argsort(load_round, kind="stable")
    use_round = rounds[uses.event] + uses.wave
    if apart and not table.after_launch:
        use_round += (uses.wave == waves[uses.event] - 1) & (uses.where != CPU)
    groups = groups_of(table, launching)
    opens = np.empty(len(groups.order), np.bool_)
    opens[groups.order] = groups.launched
    last = np.append(groups.last, -1)
    previous = _previous(loads.slot, load_order)
    readers = last[_readers(table, groups.order, previous)]
    return Program(
        packed_rows(rounds),
        packed_rows(load_order),
        _offsets(load_round, int(rounds[-1])),
        packed_rows(groups.order),
        _offsets(use_round, int(rounds[-1])),
        packed_rows(previous),
        packed_rows(readers),
        packed_rows(opens),
        packed_rows(last[:-1]),
    )


def _previous(slot: Rows, order: Rows) -> NDArray[np.int64]:
    """The previous load into the same slot, [loads]; -1 if there is none."""
    by_slot = order[np.argsort(slot[order], kind="stable")]
    same = slot[by_slot[1:]] == slot[by_slot[:-1]]
    previous = np.full(len(slot), -1, np.int64)
    previous[by_slot[1:][same]] = by_slot[:-1][same]
    return previous


def _readers(table: DecisionTable, order: Rows, previous: Rows) -> NDArray[np.int64]:
    """The last use of what the slot of each load held before it, [loads]; -1 if there is none."""
    uses, loads = table.uses, table.loads
    at_first = len(loads.slot) + 1  # number of what slot 0 held at first; before it are the loads, and what is in RAM
    last = np.full(at_first + 1 + max(uses.slot.max(initial=-1), loads.slot.max(initial=-1)), -1, np.int64)
    last[np.where(uses.load < 0, at_first + uses.slot, uses.load)[order]] = order
    return last[np.where(previous < 0, at_first + loads.slot, previous)]


def _offsets(group: Rows, groups: int) -> "array[int]":
    return packed_rows(np.concatenate([[0], np.cumsum(np.bincount(group, minlength=groups))]))


def numbered(values: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first row of each distinct value of 0 or more, the values rising, and the place of each row's value."""
    many = int(values.max(initial=-1)) + 1
    if many > 4 * len(values):
        _, first, place = np.unique(values, return_index=True, return_inverse=True)
        return first, place
    first = first_rows(values, many)
    there = first >= 0
    return first[there], (np.cumsum(there) - 1)[values]


def first_rows(values: Rows, many: int) -> NDArray[np.int64]:
    """The first row of each value from 0 to below `many`; -1 where there is none. Values below 0 are left out."""
    first = np.full(many + 1, -1)
    first[np.where(values < 0, many, values)[::-1]] = np.arange(len(values))[::-1]  # of several, the last one stays
    return first[:-1]
