"""The costs of a live model on this machine: a run with every expert resident, and some loads."""

from statistics import median
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from specmoe.hwprofiles.measure.layers import expand
from specmoe.sim.decide.policy import Policy, policy
from specmoe.sim.foretold import WARM_UP, LiveCosts, decided, foretold_ns
from specmoe.traces.schema import Block, TraceMeta
from specmoe.validate.experts import CudaLink, HostLink, Slots
from specmoe.validate.live import Ask, Generated, Offloaded, PhaseRun

LOADS = 32  # loads in a row, to measure one
ROUNDS = 5


class Layers(NamedTuple):
    """Times of each (step, layer) after the warm-up, ns, [steps, layers]."""

    host: NDArray[np.int64]
    known: NDArray[np.int64]
    decided: NDArray[np.int64]
    launched: NDArray[np.int64]
    head: NDArray[np.int64]  # [steps]


class Measured(NamedTuple):
    """Costs, and the routing of the run that they were measured with."""

    costs: LiveCosts
    meta: TraceMeta
    block: Block
    slowdown: float  # of decisions between a model's layers, compared with decisions alone


def mean_step_ns(run: PhaseRun) -> float:
    """Mean time of a run's decode steps after the warm-up, but for the last one, whose end nobody sees, ns."""
    return float(np.diff(np.array(run.passes)[WARM_UP:]).mean())


def measured(model: Offloaded, ask: Ask, depth: int = 0) -> Measured:
    """Costs of decode steps that compute a look-ahead of so many layers (0: none)."""
    resident = policy("gpu-only")
    made = model.generate(ask, resident, 1, depth=depth)
    run, (meta, block) = made.runs["decode"], made.traces["decode"]
    layers, k = _layers(run, meta.num_layers), meta.top_k
    typical = np.median(layers.host, axis=0)
    issue, copy, expand_ns = _loading(model)
    dense, expert = typical, 0.0
    launch = float(np.median(layers.launched)) / k
    if model.device.type == "cuda":
        busy = round(2 * float(typical.max() + np.median(layers.launched)))
        dense, expert = _device(model.generate(ask, resident, 1, depth=depth, traced=True, stall_ns=busy), k)
    alone = decided(meta, block, resident, 1).decide_ns
    costs = LiveCosts(
        host=_whole(typical),
        known=_whole(np.median(layers.known, axis=0)),
        dense=_whole(dense),
        head_host=round(float(np.median(layers.head))),
        decide=round(float(np.mean(layers.decided))),
        launch=round(launch),
        expert=round(expert),
        issue=round(issue),
        copy=round(copy),
        expand=round(expand_ns),
    )
    return Measured(costs, meta, block, float(np.mean(layers.decided)) / alone)


def foretold_step_ns(seen: Measured, chosen: Policy, slots: int) -> float:
    """Mean decode step with a policy, foretold from the resident run, ns."""
    made = decided(seen.meta, seen.block, chosen, slots)
    return foretold_ns(seen.costs, made.table, made.decide_ns * seen.slowdown)


def _layers(run: PhaseRun, layers: int) -> Layers:
    """Split a run's host time by (step, layer)."""
    passes = np.array(run.passes)
    steps = len(run.events) // 4 // layers
    events = np.array(run.events)[: steps * layers * 4].reshape(steps, layers, 4)
    entered, known, done, left = events.transpose(2, 0, 1)
    before = np.concatenate([passes[:steps, None], left[:, :-1]], axis=1)
    kept = slice(WARM_UP, None)
    head = passes[WARM_UP + 1 : steps] - left[WARM_UP : steps - 1, -1]
    parts = (entered - before, known - entered, done - known, left - done)
    return Layers(*(part[kept] for part in parts), head)


def _device(made: Generated, experts: int) -> tuple[NDArray[np.float64], float]:
    """The device's own times of dense parts, [layers], and of an expert, from a run in which it never waits."""
    run, link, layers = made.runs["decode"], made.slots.link, made.traces["decode"][0].num_layers
    marks = run.marks
    assert marks is not None
    ends, goes_on = link.times(marks.dense_end), link.times(marks.goes_on)
    starts = link.times([begin for begin, _ in (marks.uses[row] for row in sorted(marks.uses))])
    steps = len(ends) // layers
    events = steps * layers
    dense = np.full(events, np.nan)
    dense[1:] = ends[1:events] - goes_on[: events - 1]
    by_layer = dense.reshape(steps, layers)[WARM_UP:]
    first = starts[: events * experts].reshape(events, experts)[:, 0]
    expert = np.median((goes_on[:events] - first)[WARM_UP * layers :]) / experts
    typical = np.median(by_layer, axis=0)
    if layers > 1:
        typical[0] = np.median(typical[1:])  # that of the first layer begins behind the host's own work between steps
    return typical, float(expert)


def _loading(model: Offloaded) -> tuple[float, float, float]:
    """The host's time to issue a load, the link's to copy it, and the device's to expand it, ns."""
    home = model.stacks["decode"].home
    on_gpu = model.device.type == "cuda"
    link = CudaLink(model.device) if on_gpu else HostLink()
    slots = Slots([home], LOADS, model.device, link)
    issues, copies, expansions = [], [], []
    for _ in range(ROUNDS):
        link.copies = None
        begin = perf_counter_ns()
        for slot in range(LOADS):
            slots.load(home, slot % len(home), slot)
        issues.append((perf_counter_ns() - begin) / LOADS)
        if on_gpu:
            torch.cuda.synchronize()
            link.copies = []
            for slot in range(LOADS):
                slots.load(home, slot % len(home), slot)
            times = link.times([mark for pair in link.copies for mark in pair])
            copies.append((times[-1] - times[0]) / LOADS)
    if home.expands:
        for _ in range(ROUNDS):
            begin_mark = link.mark()
            for slot in range(LOADS):
                expand(slots.landed(home, slot), home.held, home.code.parameters, slots.arena[slot][: home.size])
            begin, end = link.times([begin_mark, link.mark()])
            expansions.append((end - begin) / LOADS)
    return median(issues), median(copies or [0.0]), median(expansions or [0.0])


def _whole(values: NDArray[np.floating]) -> tuple[int, ...]:
    return tuple(int(value) for value in np.round(values))
