"""Bounds of any policy's mean step: the floor, the ceiling, the oracle, and what the link alone allows.

These are bounds of policies that load every miss. Where the CPU computes misses, `link_and_cpu_bound_ns` stands for
that of the link, and the time of a step with every expert on the CPU, a bound of its own, stands beside the ceiling.

All are over the steps after the warm-up, as the figures that they stand beside.
"""

from collections.abc import Sequence
from typing import NamedTuple

from specmoe.hwprofiles.kernels import Style
from specmoe.sim.decide.table import DecisionTable, First
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Times, simulate

NONE = First()  # without a warm-up


def mean_step_ns(table: DecisionTable, durations: Durations, warm_up: int = 0) -> int:
    """Mean time of a step on a FIFO link, ns."""
    step_end = simulate(table, durations).step_end
    return round(since(step_end, warm_up) / (len(step_end) - warm_up))


def since(step_end: Times, warm_up: int) -> int:
    """Time from the end of the warm-up to that of the run, ns."""
    return int(step_end[-1]) - (int(step_end[warm_up - 1]) if warm_up else 0)


class Amounts(NamedTuple):
    """What the ceiling counts; all computing takes `work` ns."""

    work: int
    steps: int
    events: int
    uses: int
    launches: int
    copies: int  # ns, of every use's expert on the link


def at_most(style: Style) -> Style:
    """The style in which launches are counted for the ceiling.

    What is resident decides how `grouped` splits a round in two, so that the ceiling has a launch for each expert.
    """
    return style._replace(launch="separate") if style.launch == "grouped" else style


def ceiling_ns(durations: Durations, copies: int, launches: int | None = None, first: First = NONE) -> int:
    """Mean time of a step, ns, with every expert loaded on demand, one after the other, and nothing overlapped.

    `durations` are those of a policy that keeps nothing; `copies` is the time of all its uses' experts on the link.
    `launches` is the number of launches that serve its experts (default: one for each).
    """
    rows = (durations.before[first.event :], durations.expert[first.use :], durations.after[first.step :])
    events, uses, steps = map(len, rows)
    amounts = Amounts(sum(map(sum, rows)), steps, events, uses, uses if launches is None else launches, copies)
    return ceiling_of(amounts, durations)


def ceiling_of(amounts: Amounts, paid: Durations) -> int:
    """The ceiling of amounts; `paid` has the durations of host and disk."""
    costs = paid.host
    dense = costs.launch_dense_ns + costs.begin_ns + costs.sync_ns
    layer = dense + costs.sync_ns * paid.sync_each_layer + costs.bookkeeping_ns
    load = costs.issue_ns + costs.begin_copy_ns + paid.read + costs.event_ns
    launch = costs.launch_ns + costs.begin_ns
    waited = layer * amounts.events + load * amounts.uses + launch * amounts.launches + dense * amounts.steps
    return round((amounts.work + amounts.copies + waited) / amounts.steps)


def link_bound_ns(fewest: Sequence[int], copies: Sequence[int], read: int, steps: int) -> int:
    """Mean time, ns, that the slower of link and disk needs per step for the fewest loads (`decide.fewest`).

    `fewest` are the loads of each size of expert, and `copies` the time of one of each size on the link.
    """
    return round(sum(loads * max(copy, read) for loads, copy in zip(fewest, copies, strict=True)) / steps)


def link_and_cpu_bound_ns(fewest_misses: int, copy: int, expert: int, steps: int) -> int:
    """Mean time, ns, that link and CPU need per step if they share the fewest misses and do not slow each other.

    `copy` and `expert` are the times of one expert on either, the smallest of several sizes.
    """
    return round(fewest_misses * copy * expert / (copy + expert) / steps)
