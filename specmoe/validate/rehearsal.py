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
from specmoe.sim.stream import Stream, source_of
from specmoe.traces.schema import Block, join
from specmoe.validate.experts import CudaLink, Home, HostLink, Slots
from specmoe.validate.live import Generated, Offloaded
from specmoe.validate.writing import Ask

WARM_UP = 3  # decode steps whose times are left out, measured and foretold
LEAST_TOKENS = 8  # of a text whose steps are foretold
TRIES = 4  # loads in a row, at an event
TRIED = -1  # the slot that no expert uses
ROUNDS, LOADS = 5, 32  # loads in a row, to measure one
HELD_STEPS = 16

Times = NDArray[np.int64]


class Cell(NamedTuple):
    """A policy and its number of slots."""

    policy: Policy
    slots: int


class Trial:
    """Streams of decisions that are asked beside a run: one in each step as in a live run, the others at its end."""

    def __init__(self, model: Offloaded, cells: Sequence[Cell], depth: int) -> None:
        meta, stack = model.meta("decode", depth), model.stacks["decode"]
        sources = [source_of(meta, cell.policy, cell.slots) for cell in cells]
        self.streams = [source for source in sources if isinstance(source, Stream)]
        self._decided = [array("q") for _ in self.streams]  # ns, of the decisions of each in its steps
        self._issued: tuple[array[int], array[int]] = array("q"), array("q")  # ns, of first loads, and of the next
        self._home, self._layers, self._events = stack.home, meta.num_layers, 0
        self._blocks: list[Block] = []  # of this step's events

    def event(self, block: Block, slots: Slots) -> None:
        """Ask the stream whose step it is, and try loads at every second event."""
        step, layer = divmod(self._events, self._layers)
        self._events += 1
        number = step % len(self.streams)
        begin = perf_counter_ns()
        self.streams[number].event(block)
        if step >= WARM_UP:
            self._decided[number].append(perf_counter_ns() - begin)
        self._blocks.append(join([block]))
        if layer == self._layers - 1:
            self._catch_up(number)
        if (step + layer) % 2:
            return
        for load in range(TRIES):
            begin = perf_counter_ns()
            slots.load(self._home, (self._events + load) % len(self._home), TRIED)
            if step >= WARM_UP:
                self._issued[load > 0].append(perf_counter_ns() - begin)

    def _catch_up(self, asked: int) -> None:
        """Ask the other streams about the step's events."""
        for stream in (stream for number, stream in enumerate(self.streams) if number != asked):
            for block in self._blocks:
                stream.event(block)
        self._blocks = []

    def decide_ns(self) -> list[int]:
        """The host's mean time for a layer's decisions of each stream."""
        return [round(mean(times)) for times in self._decided]

    def issue_ns(self) -> list[int]:
        """The host's mean times of a first load, and of one behind it."""
        return [round(mean(times)) for times in self._issued]


class Rehearsed(NamedTuple):
    """Costs of a resident run, and what each cell's mean step is foretold to be."""

    costs: LiveCosts
    tables: list[DecisionTable]  # [cells]
    decide_ns: list[int]  # [cells], the host's, of a layer's decisions
    foretold: list[Foretold]  # [cells]


class Rehearsal:
    """Foretells cells; `machine` has the link, else it is timed. A text of at least `LEAST_TOKENS` is needed."""

    def __init__(self, model: Offloaded, ask: Ask, machine: HardwareProfile | None = None) -> None:
        self._model, self._ask, self._machine = model, ask, machine
        self._of_device: dict[int, LiveCosts] = {}  # by depth

    def of(self, cells: Sequence[Cell], depth: int) -> Rehearsed:
        """Foretell cells whose policies need a look-ahead of `depth` layers from one resident run.

        Raises KeyboardInterrupt where that was interrupted.
        """
        trial, resident = Trial(self._model, cells, depth), policy("gpu-only")
        beside = self._model.generate(self._ask, resident, 1, depth=depth, beside=trial)
        if beside.interrupted:
            raise KeyboardInterrupt
        parts = parts_of(beside)
        first, following = trial.issue_ns()
        costs = LiveCosts(
            lead=_means(parts.lead),
            dense=(0,) * parts.lead.shape[1],
            head=round(parts.head.mean()),
            head_dense=0,
            sync=0,
            launch=round(parts.launched.mean() / self._model.meta("decode", depth).top_k),
            expert=0,
            issue=first,
            issue_next=following,
            copy=0,
        )
        if self._model.device.type == "cuda":
            costs = self._on_device(costs, depth)
        decide_ns, tables = trial.decide_ns(), [stream.table() for stream in trial.streams]
        rows = zip(tables, decide_ns, strict=True)
        return Rehearsed(costs, tables, decide_ns, [foretold(costs, table, ns, WARM_UP) for table, ns in rows])

    def _on_device(self, costs: LiveCosts, depth: int) -> LiveCosts:
        """Costs with the times of the device and the link, which are measured once."""
        if depth not in self._of_device:
            hold_ns = round(2 * (mean(costs.lead) + costs.launch * self._model.meta("decode", depth).top_k))
            held = self._ask._replace(tokens=min(self._ask.tokens, HELD_STEPS), on_text=None)
            made = self._model.generate(held, policy("gpu-only"), 1, depth=depth, traced=True, hold_ns=hold_ns)
            found = _of_device(costs, made)
            self._of_device[depth] = _of_link(found, self._model, self._model.stacks["decode"].home, self._machine)
        names = ("dense", "head_dense", "sync", "expert", "copy", "event", "expand")
        return costs._replace(**{name: getattr(self._of_device[depth], name) for name in names})


def step_ns(made: Generated) -> float:
    """Mean time of a text's decode steps after the warm-up, ns."""
    return float(np.diff(_ends(made)[WARM_UP - 1 :]).mean())


class Parts(NamedTuple):
    """The host's times of decode steps after the warm-up, ns."""

    lead: Times  # [steps, layers], the model's own code, waits for the device included
    decided: Times  # [steps, layers]
    launched: Times  # [steps, layers], without loads
    issued: Times  # [steps, layers], loads
    head: Times  # [steps], the model's own code behind the last layer


def _ends(made: Generated) -> Times:
    """When the token of each decode step was known, [steps]."""
    return np.array(made.at[-len(made.runs["decode"].steps) :])


def parts_of(made: Generated) -> Parts:
    """What the host did in a text's decode steps."""
    run, ends = made.runs["decode"], _ends(made)
    events = np.array(run.events).reshape(len(ends), -1, 4)[WARM_UP:]
    issued = np.array(run.issued).reshape(len(ends), -1)[WARM_UP:]
    _, known, done, left = events.transpose(2, 0, 1)
    before = np.concatenate([ends[WARM_UP - 1 : -1, None], left[:, :-1]], axis=1)
    return Parts(known - before, done - known, left - done - issued, issued, ends[WARM_UP:] - left[:, -1])


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
