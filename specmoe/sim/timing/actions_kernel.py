"""The kernel that lays down actions: rounds, launches and loads as in `program`, in one order, compiled by numba.

Four passes: the order of uses and loads within each event (`_order`), the place of each load among the uses
(`_settle`), what each of them is (`_mark`), and the actions themselves (`_emit`). A place is a position in the order of
launches. Every array is a table [columns, rows] of one type, since numba compiles few types soonest.
Import this module only where it is used, since it needs numba.
"""

from typing import Any

import numpy as np

from specmoe.sim.decide import table as tables
from specmoe.sim.kernels import inlined, jit, version_of
from specmoe.sim.timing import retimer as kinds

SOURCES = (tables, kinds)
EVENT, SLOT, WAVE, HIT, TOKENS, LOAD, WHERE = range(7)  # of `uses`; of `loads` the first three and DEMAND
DEMAND = HIT
EVENTS, SLOTS, MANY, PART, APART, AFTER_LAUNCH, GROUPED, WAITS = range(8)  # of the rules
# Of uses and loads by place; END is the place of the last use of the same launch, SETTLED the number of uses before.
ROW, PREDICTED, PROGRESS, KIND, OPENS, END, TAKES = range(7)
SETTLED, PLACE, SERVED, IS_USED = KIND, OPENS, END, TAKES  # of loads; the last three by row
FIRST_USE, FIRST_LOAD, ROUNDS, OF_EVENT, ENDS = range(5)  # of events; OF_EVENT is their progress
HOLDS, FIRST, TAKEN = range(3)  # of slots: a load or -1; the last use of the first expert; whether any load takes it
NONE = -1


def laid_down(uses: Any, loads: Any, rules: Any) -> Any:
    """The actions, [KIND .. PROGRESS, slot], the ends of events and their progress, and what opens a launch, [uses].

    A progress is `(loads issued * many + launches) * 3` and what begins. Last comes the first load that overwrites an
    expert before its last use, else -1.
    """
    slots = 1 + max(uses[SLOT].max(initial=NONE), loads[SLOT].max(initial=NONE))
    by_use, by_load = np.zeros((7, uses.shape[1]), np.int32), np.zeros((7, loads.shape[1]), np.int32)
    events, by_slot = np.zeros((5, rules[EVENTS] + 1), np.int32), np.zeros((3, slots), np.int32)
    actions = np.empty((5, loads.shape[1] + uses.shape[1] * (1 + rules[GROUPED])), np.int32)
    late, count = lay_down(uses, loads, rules, by_use, by_load, by_slot, events, actions)
    return actions[:, :count], events[ENDS, :-1], events[OF_EVENT, :-1], by_use[OPENS], late


def _lay_down(version: int) -> Any:
    @jit(cache=True, nogil=True, _nrt=False)
    def lay_down(
        uses: Any, loads: Any, rules: Any, by_use: Any, by_load: Any, by_slot: Any, events: Any, actions: Any
    ) -> Any:
        """Fill in all tables; the first load that comes too soon, or -1, and the number of actions."""
        version  # noqa: B018
        _order(uses, loads, rules, by_use, by_load, events)
        late = _settle(uses, loads, by_use, by_load, by_slot, events)
        _mark(uses, loads, rules, by_use, by_load, events)
        return late, _emit(uses, loads, rules, by_use, by_load, by_slot, events, actions)

    return lay_down


lay_down = _lay_down(version_of(SOURCES))


@inlined
def _order(uses: Any, loads: Any, rules: Any, by_use: Any, by_load: Any, events: Any) -> None:
    """Order the uses and loads of every event, and say which uses each launch serves."""
    use, load = 0, 0
    for event in range(rules[EVENTS]):
        first, first_load, waves = use, load, 1
        while use < uses.shape[1] and uses[EVENT, use] == event:
            waves = max(waves, uses[WAVE, use] + 1)
            _insert(uses, by_use, first, use)
            use += 1
        while load < loads.shape[1] and loads[EVENT, load] == event:
            load += 1
        events[ROUNDS, event] = waves + rules[APART]
        events[FIRST_USE, event + 1], events[FIRST_LOAD, event + 1] = use, load
        _launch(uses, rules, by_use, first, use)
        place = first_load
        for number in range(events[ROUNDS, event]):
            for row in range(first_load, load):
                if _round(loads, events, event, row) == number:
                    by_load[ROW, place] = row
                    place += 1


@inlined
def _insert(uses: Any, by_use: Any, first: int, row: int) -> None:
    """Insert a use behind those of its event, from place `first` on, that come before it."""
    place = row
    while place > first and _comes_before(uses, row, by_use[ROW, place - 1]):
        by_use[ROW, place] = by_use[ROW, place - 1]
        place -= 1
    by_use[ROW, place] = row


@inlined
def _comes_before(uses: Any, one: int, other: int) -> Any:
    """Those on the CPU come first, then lower waves, hits before others, and hits with the most tokens."""
    if uses[WHERE, one] != uses[WHERE, other]:
        return uses[WHERE, one] > uses[WHERE, other]
    if uses[WAVE, one] != uses[WAVE, other]:
        return uses[WAVE, one] < uses[WAVE, other]
    if uses[HIT, one] != uses[HIT, other]:
        return uses[HIT, one] > uses[HIT, other]
    return uses[HIT, one] > 0 and uses[TOKENS, one] > uses[TOKENS, other]


@inlined
def _launch(uses: Any, rules: Any, by_use: Any, first: int, end: int) -> None:
    begin = first
    for place in range(first, end):
        row, before = by_use[ROW, place], by_use[ROW, max(first, place - 1)]
        on_cpu = uses[WHERE, row] == tables.CPU
        opens = place == first or not rules[GROUPED] or on_cpu or uses[WHERE, before] == tables.CPU
        opens = opens or uses[WAVE, row] != uses[WAVE, before]
        opens = opens or (not rules[WAITS] and uses[HIT, row] != uses[HIT, before])
        begin = place if opens else begin
        by_use[OPENS, place] = opens and not on_cpu
        by_use[END, begin : place + 1] = place


@inlined
def _round(loads: Any, events: Any, event: int, row: int) -> Any:
    """The round of a load in its event."""
    return loads[WAVE, row] if loads[DEMAND, row] else events[ROUNDS, event] - 1


@inlined
def _round_of_use(uses: Any, rules: Any, events: Any, event: int, row: int) -> Any:
    """The round of a use in its event."""
    last = rules[APART] and not rules[AFTER_LAUNCH] and uses[WAVE, row] == events[ROUNDS, event] - 2
    return uses[WAVE, row] + (last and uses[WHERE, row] != tables.CPU)


@inlined
def _settle(uses: Any, loads: Any, by_use: Any, by_load: Any, by_slot: Any, events: Any) -> Any:
    """Count the uses before each load: those of earlier events, and those of what its slot held."""
    by_load[SERVED], by_slot[HOLDS], by_slot[FIRST] = NONE, NONE, NONE
    for place in range(uses.shape[1]):
        row = by_use[ROW, place]
        if uses[LOAD, row] >= 0:
            by_load[SERVED, uses[LOAD, row]] = place
        elif uses[SLOT, row] >= 0:
            by_slot[FIRST, uses[SLOT, row]] = place
    late, before = NONE, 0
    for place in range(loads.shape[1]):
        row = by_load[ROW, place]
        by_load[PLACE, row] = place
        slot = loads[SLOT, row]
        held = by_slot[HOLDS, slot]
        reader = by_load[SERVED, held] if held >= 0 else by_slot[FIRST, slot]
        by_slot[HOLDS, slot] = row
        before = max(before, events[FIRST_USE, loads[EVENT, row]])
        if reader >= 0:
            before = max(before, by_use[END, reader] + 1)
        by_load[SETTLED, place] = before
        if late < 0 and before > events[FIRST_USE, loads[EVENT, row] + 1]:
            late = row
    for place in range(uses.shape[1]):
        load = uses[LOAD, by_use[ROW, place]]
        if late < 0 and load >= 0 and by_load[SETTLED, by_load[PLACE, load]] > place:
            late = load
    return late


@inlined
def _mark(uses: Any, loads: Any, rules: Any, by_use: Any, by_load: Any, events: Any) -> None:
    for event in range(rules[EVENTS]):
        _mark_uses(uses, loads, rules, by_use, by_load, events, event)
        _mark_loads(uses, loads, rules, by_use, by_load, events, event)
        for place in range(events[FIRST_USE, event], events[FIRST_USE, event + 1]):
            row = by_use[ROW, place]
            load = uses[LOAD, row]
            if uses[WHERE, row] == tables.CPU:
                after = by_use[ROW, min(place + 1, uses.shape[1] - 1)]
                goes_on = place + 1 < events[FIRST_USE, event + 1] and uses[WHERE, after] == tables.CPU
                by_use[KIND, place] = kinds.CPU_USE if goes_on else kinds.LAST_CPU_USE
            elif load < 0 or by_load[IS_USED, load]:
                by_use[KIND, place] = kinds.USE
            else:
                by_load[IS_USED, load] = 1
                by_use[KIND, place] = kinds.FIRST_HIT if uses[HIT, row] else kinds.FIRST_USE


@inlined
def _mark_uses(uses: Any, loads: Any, rules: Any, by_use: Any, by_load: Any, events: Any, event: int) -> None:
    """Progress of the uses of an event, which has issued the loads of their rounds, and its own."""
    first, last = events[FIRST_LOAD, event], events[FIRST_LOAD, event + 1]
    issued, launches = first, 0
    for place in range(events[FIRST_USE, event], events[FIRST_USE, event + 1]):
        number = _round_of_use(uses, rules, events, event, by_use[ROW, place])
        while issued < last and _round(loads, events, event, by_load[ROW, issued]) <= number:
            issued += 1
        launches += by_use[OPENS, place]
        by_use[PREDICTED, place] = number == events[ROUNDS, event] - 1
        by_use[PROGRESS, place] = ((issued - first) * rules[MANY] + launches) * 3 + kinds.EXPERT
    events[OF_EVENT, event] = ((last - first) * rules[MANY] + launches) * 3 + kinds.NOTHING


@inlined
def _mark_loads(uses: Any, loads: Any, rules: Any, by_use: Any, by_load: Any, events: Any, event: int) -> None:
    """Progress of the loads of an event, which has launched the uses of earlier rounds."""
    first, end = events[FIRST_LOAD, event], events[FIRST_USE, event + 1]
    place, launches = events[FIRST_USE, event], 0
    for load in range(first, events[FIRST_LOAD, event + 1]):
        number = _round(loads, events, event, by_load[ROW, load])
        while place < end and _round_of_use(uses, rules, events, event, by_use[ROW, place]) < number:
            launches += by_use[OPENS, place]
            place += 1
        by_load[PREDICTED, load] = number == events[ROUNDS, event] - 1
        by_load[PROGRESS, load] = ((load - first + 1) * rules[MANY] + launches) * 3 + kinds.COPY


@inlined
def _emit(uses: Any, loads: Any, rules: Any, by_use: Any, by_load: Any, by_slot: Any, events: Any, actions: Any) -> Any:
    """Write down the actions, and where each event ends."""
    _take(uses, loads, rules, by_use, by_slot)
    at = 0
    for event in range(rules[EVENTS]):
        load, last = events[FIRST_LOAD, event], events[FIRST_LOAD, event + 1]
        first, end = events[FIRST_USE, event], events[FIRST_USE, event + 1]
        for place in range(first, end + 1):
            while load < last and (place == end or by_load[SETTLED, load] <= place):
                at = _put(actions, at, kinds.LOAD, loads[SLOT, by_load[ROW, load]], by_load, load)
                load += 1
            if place == end:
                break
            at = _put(actions, at, by_use[KIND, place], by_use[TAKES, by_use[ROW, place]], by_use, place)
            begin = place
            while begin > first and by_use[END, begin - 1] == place:
                begin -= 1
            for early in range(begin, place):
                if by_use[TAKES, by_use[ROW, early]] < rules[SLOTS]:
                    at = _put(actions, at, kinds.RELEASE, by_use[TAKES, by_use[ROW, early]], by_use, early)
        events[ENDS, event] = at
    return at


@inlined
def _take(uses: Any, loads: Any, rules: Any, by_use: Any, by_slot: Any) -> None:
    """By row, the slot of each use if any load takes it, before or after the use; else that behind the last one."""
    by_slot[TAKEN] = rules[PART]
    for load in range(loads.shape[1]):
        by_slot[TAKEN, loads[SLOT, load]] = 1
    for row in range(uses.shape[1]):
        slot = uses[SLOT, row]
        by_use[TAKES, row] = slot if slot >= 0 and by_slot[TAKEN, slot] else rules[SLOTS]


@inlined
def _put(actions: Any, at: int, kind: int, slot: int, marks: Any, place: int) -> Any:
    """Write an action, whose row, prediction and progress are those of a use or load."""
    actions[KIND, at], actions[END - 1, at] = kind, slot
    for column in (ROW, PREDICTED, PROGRESS):
        actions[column, at] = marks[column, place]
    return at + 1
