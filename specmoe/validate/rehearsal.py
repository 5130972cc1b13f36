"""What a live model's decode steps are foretold from: a run with every expert resident on this machine.

Policies decide beside that run as they would in one of their own, and nobody obeys them: their decisions and the time
that these take are known, and so is the host's own time between layers. Now and then a load is issued into the slot
that no expert uses. A second run holds the device until the host is far ahead, so that the device's own times of dense
parts and experts show. The link's time of a load is that of a profile, or of loads in a row.
"""

from array import array
from collections.abc import Sequence
from statistics import mean, median
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.hwprofiles.basis import CURVE_OF
from specmoe.hwprofiles.measure.layers import expand
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.decide.policy import Policy, policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.foretold import Foretold, LiveCosts, foretold
from specmoe.sim.stream import Stream
from specmoe.traces.schema import Block
from specmoe.validate.experts import CudaLink, Home, HostLink, Slots
from specmoe.validate.live import Generated, Offloaded, source_of
from specmoe.validate.writing import Ask

WARM_UP = 3  # decode steps whose times are left out, measured and foretold
LEAST_TOKENS = 8  # of a text whose steps are foretold
EVERY = 4  # events between two loads that are tried
TRIED = -1  # the slot that no expert uses
ROUNDS, LOADS = 5, 32  # loads in a row, to measure one
HELD_STEPS = 16

Times = NDArray[np.int64]


class Cell(NamedTuple):
    """A policy and its number of slots."""

    policy: Policy
    slots: int


class Trial:
    """Streams of decisions that are asked beside a run, each first in turn: its code is cold then, as in a live run."""

    def __init__(self, model: Offloaded, cells: Sequence[Cell], depth: int) -> None:
        meta, stack = model.meta("decode", depth), model.stacks["decode"]
        sources = [source_of(meta, cell.policy, cell.slots, None) for cell in cells]
        self.streams = [source for source in sources if isinstance(source, Stream)]
        self._times = [array("q") for _ in self.streams]  # ns, of all decisions of each
        self._first = array("q")  # ns, of those of all streams that were asked first
        self.issue = array("q")  # ns, of a load
        self._home, self._loads, self._events = stack.home, meta.top_k, 0
        self._warm_up = WARM_UP * meta.num_layers

    def event(self, block: Block, slots: Slots) -> None:
        """Ask all streams, and try loads at every fourth event."""
        count, event = len(self.streams), self._events
        self._events += 1
        for place in range(count):
            number = (event + place) % count
            begin = perf_counter_ns()
            self.streams[number].event(block)
            if event >= self._warm_up:
                self._times[number].append(perf_counter_ns() - begin)
                if place == 0:
                    self._first.append(self._times[number][-1])
        if event % EVERY == 0:
            begin = perf_counter_ns()
            for load in range(self._loads):
                slots.load(self._home, (event + load) % len(self._home), TRIED)
            if event >= self._warm_up:
                self.issue.append((perf_counter_ns() - begin) // self._loads)

    def decide_ns(self) -> list[int]:
        """The host's mean time for a layer's decisions of each stream, as if it were always asked first."""
        cold = mean(self._first) / mean(map(mean, self._times))
        return [round(cold * mean(times)) for times in self._times]


class Rehearsed(NamedTuple):
    """Costs of a resident run, and what each cell's mean step is foretold to be."""

    costs: LiveCosts
    tables: list[DecisionTable]  # [cells]
    decide_ns: list[int]  # [cells], the host's, of a layer's decisions
    foretold: list[Foretold]  # [cells]


def rehearse(
    model: Offloaded, ask: Ask, cells: Sequence[Cell], depth: int, machine: HardwareProfile | None = None
) -> Rehearsed:
    """Foretell cells whose policies need a look-ahead of `depth` layers; `machine` has the link, else it is timed.

    A text of at least `LEAST_TOKENS` is needed.
    """
    trial, resident = Trial(model, cells, depth), policy("gpu-only")
    made = model.generate(ask, resident, 1, depth=depth, beside=trial)
    parts, home = _parts(made), model.stacks["decode"].home
    costs = LiveCosts(
        lead=_means(parts.lead),
        dense=(0,) * parts.lead.shape[1],
        head=round(parts.head.mean()),
        head_dense=0,
        sync=0,
        launch=round(parts.launched.mean() / made.traces["decode"][0].top_k),
        expert=0,
        issue=round(mean(trial.issue)),
        copy=0,
    )
    if model.device.type == "cuda":
        hold_ns = round(2 * float(parts.lead.mean() + parts.launched.mean()))
        held = ask._replace(tokens=min(ask.tokens, HELD_STEPS), on_text=None)
        costs = _of_device(costs, model.generate(held, resident, 1, depth=depth, traced=True, hold_ns=hold_ns))
        costs = _of_link(costs, model, home, machine)
    decide_ns, tables = trial.decide_ns(), [stream.table() for stream in trial.streams]
    rows = zip(tables, decide_ns, strict=True)
    return Rehearsed(costs, tables, decide_ns, [foretold(costs, table, ns, WARM_UP) for table, ns in rows])


def step_ns(made: Generated) -> float:
    """Mean time of a text's decode steps after the warm-up, ns."""
    return float(np.diff(_ends(made)[WARM_UP - 1 :]).mean())


class _Parts(NamedTuple):
    lead: Times  # [steps, layers]
    launched: Times  # [steps, layers]
    head: Times  # [steps]


def _ends(made: Generated) -> Times:
    """When the token of each decode step was known, [steps]."""
    return np.array(made.at[-len(made.runs["decode"].steps) :])


def _parts(made: Generated) -> _Parts:
    """The host's times of each (step, layer) after the warm-up."""
    run, ends = made.runs["decode"], _ends(made)
    events = np.array(run.events).reshape(len(ends), -1, 4)[WARM_UP:]
    _, known, done, left = events.transpose(2, 0, 1)
    before = np.concatenate([ends[WARM_UP - 1 : -1, None], left[:, :-1]], axis=1)
    return _Parts(known - before, left - done, ends[WARM_UP:] - left[:, -1])


def _of_device(costs: LiveCosts, made: Generated) -> LiveCosts:
    """Costs with the device's own times, from a run in which the device was held."""
    run, (meta, _), ends = made.runs["decode"], made.traces["decode"], _ends(made)
    marks, times, shape = run.marks, made.slots.link.times, (len(ends), meta.num_layers)
    assert marks is not None
    count = len(ends) * meta.num_layers
    dense_end, goes_on = (times(some[:count]).reshape(shape) for some in (marks.dense_end, marks.goes_on))
    starts = times([marks.uses[row][0] for row in range(count * meta.top_k)]).reshape(*shape, -1)[:, :, 0]
    known = np.array(run.events).reshape(*shape, 4)[:, :, 1]
    dense = np.median((dense_end[:, 1:] - goes_on[:, :-1])[WARM_UP:], axis=0)
    sync = float(np.median((known - dense_end)[WARM_UP:, 1:]))
    first = float(np.median(dense)) if len(dense) else 0.0  # the host's own work between steps hides the first one's
    return costs._replace(
        dense=_whole([first, *dense]),
        head_dense=max(0, round(float(np.median((ends - goes_on[:, -1])[WARM_UP:])) - sync)),
        sync=max(0, round(sync)),
        expert=round(float(np.median((goes_on - starts)[WARM_UP:])) / meta.top_k),
    )


def _of_link(costs: LiveCosts, model: Offloaded, home: Home, machine: HardwareProfile | None) -> LiveCosts:
    """Costs with the time of a load on the link, of a profile's machine or timed, and of its expansion."""
    copy, expansion = _loading(model, home)
    if machine is None:
        return costs._replace(copy=round(copy), expand=round(expansion))
    event = machine.ns("host.eager.event") if "host.eager.event" in machine else 0
    return costs._replace(
        copy=machine.curve(CURVE_OF["host-pinned"])(home.copied), event=event, expand=round(expansion)
    )


def _loading(model: Offloaded, home: Home) -> tuple[float, float]:
    """The link's time to copy an expert, in a row of loads, and the device's to expand it, ns."""
    link = CudaLink(model.device) if model.device.type == "cuda" else HostLink()
    slots = Slots([home], LOADS, model.device, link)
    copies, expansions = [], []
    for _ in range(ROUNDS):
        link.copies = []
        for slot in range(LOADS):
            slots.load(home, slot % len(home), slot)
        times = link.times([mark for pair in link.copies for mark in pair])
        copies.append((times[-1] - times[0]) / LOADS)
        if home.expands:
            begin = link.mark()
            for slot in range(LOADS):
                expand(slots.landed(home, slot), home.held, home.code.parameters, slots.arena[slot][: home.size])
            start, end = link.times([begin, link.mark()])
            expansions.append((end - start) / LOADS)
    return median(copies), median(expansions or [0.0])


def _means(times: Times) -> tuple[int, ...]:
    return _whole(times.mean(axis=0))


def _whole(values: Sequence[float] | NDArray[np.floating]) -> tuple[int, ...]:
    return tuple(round(float(value)) for value in values)
