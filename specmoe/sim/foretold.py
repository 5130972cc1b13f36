"""Foretold: how long a live model's steps take with a policy, from a run with every expert resident.

The code of such a model launches its kernels one by one, so that the host is a clock of its own in each layer: between
a layer's experts and the next router's result it works for `host`, while the device needs `dense` for what was
launched. The engine has one time for the host's launches in all layers: the shortest by which any layer's host is
longer than its device. What is left belongs to the layer.
"""

from time import perf_counter_ns
from typing import NamedTuple

import numpy as np

from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable, packed
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.sim.stream import Stream
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import simulate
from specmoe.traces.schema import Block, TraceMeta, select

WARM_UP = 3  # steps whose times are left out, measured and foretold


class LiveCosts(NamedTuple):
    """Times of a live model's decode steps with every expert resident, and of its loads, ns."""

    host: tuple[int, ...]  # [layers], the host's, from the layer before (or the step's begin) until it asks the router
    known: tuple[int, ...]  # [layers], from there until the routing is known to the host
    dense: tuple[int, ...]  # [layers], the device's part of `host`
    head_host: int  # the host's, from the last layer to the next step's begin
    decide: int  # the host's, of a layer's decisions in that run
    launch: int  # the host's, of an expert
    expert: int  # the device's, of an expert
    issue: int  # the host's, of a load
    copy: int  # the link's, of a load
    expand: int = 0  # the device's, of an expert that arrives compressed

    @property
    def sync(self) -> int:
        """From a router's end until the host knows its result."""
        return min(self.known)

    @property
    def ahead(self) -> int:
        """By how much any layer's host is longer than its device, at least."""
        return max(0, min(host - dense for host, dense in zip(self.host, self.dense, strict=True)))

    @property
    def step_ns(self) -> int:
        """A step with every expert resident and one expert a layer, without its decisions."""
        return sum(self.host) + sum(self.known) + self.head_host


class Decided(NamedTuple):
    """Decisions on a recorded routing, and the mean time that the host took for those of a layer, ns."""

    table: DecisionTable
    decide_ns: float


def decided(meta: TraceMeta, block: Block, policy: Policy, slots: int) -> Decided:
    """Ask a policy event by event, as a live model of one sequence does, and take the time."""
    depth = policy.prefetch.depth if policy.prefetch else 1
    stream = Stream(
        meta, policy, make_predictor(policy.predictor, {"depth": depth} | policy.predictor_parameters), slots
    )
    steps = len(block.token) if meta.phase == "decode" else 1
    spent = 0
    for step in range(steps):
        rows = select(block, slice(step, step + 1) if meta.phase == "decode" else slice(None))
        seen = rows._replace(
            experts=np.full_like(rows.experts, -1),
            probs=np.full_like(rows.probs, np.nan),
            lookahead=np.full_like(rows.lookahead, -1),
        )
        for layer in range(meta.num_layers):
            for name in ("experts", "probs", "lookahead"):
                getattr(seen, name)[:, layer] = getattr(rows, name)[:, layer]
            begin = perf_counter_ns()
            stream.event(seen)
            spent += (perf_counter_ns() - begin) * (step >= WARM_UP)
    return Decided(stream.table(), spent / max(1, (steps - WARM_UP) * meta.num_layers))


def foretold_ns(costs: LiveCosts, table: DecisionTable, decide_ns: float) -> float:
    """Mean time of the decode steps of decisions, after the warm-up, ns."""
    timing = simulate(table, durations_of(costs, table, round(decide_ns)))
    return float(np.diff(timing.step_end[WARM_UP - 1 :]).mean())


def durations_of(costs: LiveCosts, table: DecisionTable, decide_ns: int) -> Durations:
    """The durations of decode steps of one sequence."""
    ahead, sync = costs.ahead, costs.sync
    before = [host + known - ahead - sync for host, known in zip(costs.host, costs.known, strict=True)]
    first = np.zeros(len(table.uses.key), np.bool_)
    loads, rows = np.unique(table.uses.load, return_index=True)
    first[rows[loads >= 0]] = True
    return Durations(
        before=[max(0, ns) for ns in before] * table.num_steps,
        expert=packed(np.where(first, costs.expert + costs.expand, costs.expert)),
        after=[max(0, costs.head_host - ahead - sync)] * table.num_steps,
        copy=packed(np.full(len(table.loads.key), costs.copy)),
        read=0,
        host=HostCosts(
            launch_ns=costs.launch,
            launch_dense_ns=ahead,
            issue_ns=costs.issue,
            event_ns=0,
            sync_ns=sync,
            bookkeeping_ns=decide_ns,
        ),
    )
