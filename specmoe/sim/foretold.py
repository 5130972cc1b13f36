"""Foretold: how long a live model's steps take with a policy, from a run with every expert resident.

The code of such a model launches its kernels one by one, so that the host is a clock of its own in each layer: from a
layer's experts until it knows the next routing it needs `lead`, of which the device needs `dense` for what was
launched and `sync` passes until the host knows the result. What is left is the time by which the host is ahead: where
a load delays the device by less, the step takes no longer.
"""

from typing import NamedTuple

import numpy as np

from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.decide.table import DecisionTable, packed
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import simulate


class LiveCosts(NamedTuple):
    """Times of a live model's decode steps of one sequence, and of its loads, ns."""

    lead: tuple[int, ...]  # [layers], the host's, from the layer before (or the last token) until it knows the routing
    dense: tuple[int, ...]  # [layers], the device's, from the layer before until the router has ended
    head: int  # the host's, from the last layer until it knows the token
    head_dense: int  # the device's part of it
    sync: int  # from a router's end until the host knows its result
    launch: int  # the host's, of an expert, with its share of the layer's sum
    expert: int  # the device's, likewise
    issue: int  # the host's, of an event's first load
    issue_next: int  # likewise, of each later one
    copy: int  # the link's, of a load
    event: int = 0  # from a copy's end until a kernel that waits for it begins
    expand: int = 0  # the device's, of an expert that arrives compressed


class Foretold(NamedTuple):
    """Mean times of a step, ns."""

    step_ns: float
    stall_ns: float  # computing waits for loads
    decide_ns: float  # the host's, as are the next two
    issue_ns: float
    launch_ns: float

    @property
    def code_ns(self) -> float:
        """What the model's own code takes, waits for the device included."""
        return self.step_ns - self.decide_ns - self.issue_ns - self.launch_ns


def foretold(costs: LiveCosts, table: DecisionTable, decide_ns: int, warm_up: int) -> Foretold:
    """Mean decode step of decisions after the first `warm_up` steps; `decide_ns` is the host's, of a layer's decisions.

    Raises InputError for decisions of no more steps than that.
    """
    timing, steps, first = simulate(table, durations_of(costs, table, decide_ns)), table.num_steps - warm_up, warm_up
    first *= table.num_layers
    uses, loads = (int((rows.event >= first).sum()) / steps for rows in (table.uses, table.loads))
    return Foretold(
        float(timing.step_end[-1] - timing.step_end[warm_up - 1]) / steps,
        float(timing.stall[first:].sum() / steps),
        float(decide_ns * table.num_layers),
        issue_ns(costs, table) * loads,
        costs.launch * uses,
    )


def issue_ns(costs: LiveCosts, table: DecisionTable) -> int:
    """The host's mean time of a load, of which an event's first takes longer: its code has not run for a while."""
    loads, firsts = len(table.loads.key), len(np.unique(table.loads.event))
    return round((costs.issue * firsts + costs.issue_next * (loads - firsts)) / max(1, loads))


def durations_of(costs: LiveCosts, table: DecisionTable, decide_ns: int) -> Durations:
    """The durations of decode steps of one sequence."""
    leads, dense = (*costs.lead, costs.head), (*costs.dense, costs.head_dense)
    ahead = [max(0, lead - own - costs.sync) for lead, own in zip(leads, dense, strict=True)]
    *before, after = (max(0, lead - early - costs.sync) for lead, early in zip(leads, ahead, strict=True))
    first = np.zeros(len(table.uses.key), np.bool_)
    loads, rows = np.unique(table.uses.load, return_index=True)
    first[rows[loads >= 0]] = True
    return Durations(
        before=before * table.num_steps,
        expert=packed(np.where(first, costs.expert + costs.expand, costs.expert)),
        after=[after] * table.num_steps,
        copy=packed(np.full(len(table.loads.key), costs.copy)),
        read=0,
        host=HostCosts(
            launch_ns=costs.launch,
            launch_dense_ns=0,
            issue_ns=issue_ns(costs, table),
            event_ns=costs.event,
            sync_ns=costs.sync,
            bookkeeping_ns=decide_ns,
        ),
        launch_dense=ahead,
    )
