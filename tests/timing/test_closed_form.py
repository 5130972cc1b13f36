"""Step latencies that a formula gives, to the nanosecond: one expert an event, uniform times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from timing_cases import Case, Machine
from tiny_routed import tiny_routed

from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.timing.bounds import ceiling_ns, link_bound_ns, mean_step_ns
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import simulate
from specmoe.traces.workload import build

HOST = HostCosts(launch_ns=5, launch_dense_ns=11, issue_ns=7, event_ns=3, sync_ns=13, bookkeeping_ns=17)
LAYERS, STEPS, DENSE, EXPERT, AFTER = 4, 6, 200, 90, 50


class Setting(NamedTuple):
    """A policy on a machine that copies fast or slowly, and the step latencies that came out."""

    policy: str
    copy: int
    sync_each_layer: bool = False
    predict: int = 0
    late: bool = False

    def steps(self) -> list[int]:
        case = Case(rotating(), Machine(HOST, 0, 0, 0, 0, self.copy, 0, self.sync_each_layer), 2 * LAYERS, self.late)
        table = case.decide(self.policy)
        return np.diff(simulate(table, self.durations(case)).step_end, prepend=0).tolist()

    def durations(self, case: Case) -> Durations:
        table = case.decide(self.policy)
        events = STEPS * LAYERS
        uniform = case.machine.durations(table)
        return uniform._replace(
            before=[DENSE] * events, expert=[EXPERT] * events, after=[AFTER] * STEPS, predict=[self.predict] * events
        )


def rotating() -> Routed:
    """One sequence whose every step uses expert `step` in every layer: no two steps share an expert."""
    routed = tiny_routed(
        STEPS, mean_length=10**6, num_layers=LAYERS, num_experts=STEPS, top_k=1, candidates=2, has_lookahead=False
    )
    first = np.arange(STEPS, dtype=np.int16)
    experts = np.repeat(np.stack([first, (first + 1) % STEPS], axis=1)[:, None], LAYERS, axis=1)
    block = routed.block._replace(experts=experts.astype(np.int16))
    return Routed(build(block, routed.workload.meta), block)


ROUND_TRIP = DENSE + HOST.sync_ns + HOST.bookkeeping_ns  # from a layer's dense launch until the host acts
HIT = ROUND_TRIP + HOST.launch_ns + EXPERT
END = AFTER + HOST.sync_ns


def miss(copy: int) -> int:
    return ROUND_TRIP + HOST.issue_ns + copy + HOST.event_ns + EXPERT


def test_everything_resident() -> None:
    assert Setting("gpu-only", 1000).steps() == [HOST.launch_dense_ns + LAYERS * HIT + END] * STEPS


def test_everything_resident_and_a_synchronisation_after_every_layer() -> None:
    layer = HOST.launch_dense_ns + HIT + HOST.sync_ns
    assert Setting("gpu-only", 1000, True).steps() == [LAYERS * layer + HOST.launch_dense_ns + END] * STEPS


@pytest.mark.parametrize("copy", [10, 1000])
def test_every_expert_missed(copy: int) -> None:
    assert Setting("on-demand", copy).steps() == [HOST.launch_dense_ns + LAYERS * miss(copy) + END] * STEPS


def test_every_expert_missed_and_a_synchronisation_after_every_layer() -> None:
    layer = HOST.launch_dense_ns + miss(1000) + HOST.sync_ns
    assert Setting("on-demand", 1000, True).steps() == [LAYERS * layer + HOST.launch_dense_ns + END] * STEPS


def test_the_ceiling_is_above_a_miss_everywhere_by_what_the_host_hides() -> None:
    # Of its own costs the host hides the launches: of an expert behind its copy, of dense parts behind the experts.
    setting = Setting("on-demand", 1000)
    case = Case(rotating(), Machine(HOST, 0, 0, 0, 0, 1000, 0, False), 2 * LAYERS)
    table, durations = case.decide("on-demand"), setting.durations(case)
    hidden = LAYERS * (HOST.launch_ns + HOST.launch_dense_ns)
    assert ceiling_ns(durations, 1000 * len(table.uses.key)) == mean_step_ns(table, durations) + hidden


def test_a_perfect_prefetch_that_copies_faster_than_it_computes_costs_the_host_only() -> None:
    copy = EXPERT + ROUND_TRIP - HOST.issue_ns - HOST.event_ns
    floor = HOST.launch_dense_ns + LAYERS * HIT + END
    first = miss(copy) - HIT  # nothing is known before the first layer
    issues = (LAYERS - 2) * HOST.issue_ns  # the first layer's is hidden, the last has nobody to prefetch for
    for faster in (0, 50):
        assert Setting("pregated", copy - faster).steps() == [floor + first - faster + issues] * STEPS


PREDICT = 20


def test_predictions_before_the_launch_cost_every_layer_whose_expert_is_there() -> None:
    copy = EXPERT + ROUND_TRIP - HOST.issue_ns - HOST.event_ns
    floor = HOST.launch_dense_ns + LAYERS * HIT + END
    first = miss(copy) - HIT  # its copy hides the prediction
    issues = (LAYERS - 2) * HOST.issue_ns
    for faster in (0, 50):
        steps = Setting("pregated", copy - faster, predict=PREDICT).steps()
        assert steps == [floor + first - faster + issues + (LAYERS - 1) * PREDICT] * STEPS


def test_predictions_after_the_launch_hide_behind_the_experts() -> None:
    copy = EXPERT + ROUND_TRIP + HOST.launch_ns - PREDICT - HOST.issue_ns - HOST.event_ns
    floor = HOST.launch_dense_ns + LAYERS * HIT + END
    for faster in (0, 50):
        steps = Setting("pregated", copy - faster, predict=PREDICT, late=True).steps()
        assert steps == [floor + miss(copy) - HIT - faster] * STEPS  # not even the issues cost anything
    assert Setting("pregated", copy + 1, predict=PREDICT, late=True).steps() != steps


@pytest.mark.parametrize("copy", [1000, 5000])
def test_a_perfect_prefetch_that_copies_slower_than_it_computes_is_bound_by_the_link(copy: int) -> None:
    before = HOST.launch_dense_ns + ROUND_TRIP + HOST.issue_ns
    assert Setting("pregated", copy).steps() == [before + LAYERS * copy + HOST.event_ns + EXPERT + END] * STEPS


def test_link_bound_by_hand() -> None:
    assert link_bound_ns([7, 3], [30, 40], 0, 4) == round((7 * 30 + 3 * 40) / 4)
    assert link_bound_ns([7], [30], 50, 4) == round(7 * 50 / 4)
