"""What holds for every policy, machine and link order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from timing_cases import RUNNABLE, Case, cases, machines

from specmoe.errors import InputError
from specmoe.hwprofiles.kernels import LAUNCHING, Launching
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.decide.program import groups_of
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.event_table import event_table, uninterrupted
from specmoe.sim.timing.bounds import ceiling_ns, fewest_loads, link_bound_ns, mean_step_ns
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Timing, simulate

names = st.sampled_from(RUNNABLE)
orders = st.sampled_from(["fifo", "priority", "chunked"])
property_of = examples(120)


def timed(case: Case, name: str, order: Any = "fifo", chunk: int = 7) -> tuple[DecisionTable, Durations, Timing]:
    table = case.decide(name)
    durations = case.durations(name, table)
    return table, durations, simulate(table, durations, order, chunk)


@property_of
@given(case=cases(read=False), name=names, order=orders)
def test_every_time_is_whole_and_everything_comes_in_its_order(case: Case, name: str, order: str) -> None:
    table, durations, timing = timed(case, name, order)
    assert all(column.dtype == np.int64 for column in timing)
    assert (timing.begin < timing.ready).all()
    assert durations.runs_ahead or (timing.begin[1:] >= timing.ready[:-1]).all()
    assert (timing.stall >= 0).all()
    assert (timing.host >= 0).all()
    assert (timing.issued <= timing.fetched).all()
    assert (timing.fetched <= timing.started).all()
    assert (timing.landed - timing.started >= durations.copy).all()
    groups = groups_of(table, case.launching)
    assert (timing.use_end - timing.use_start == np.array(durations.expert)[groups.last]).all()
    assert len(np.unique(timing.use_start[groups.order])) == groups.launches
    assert (timing.use_start >= timing.ready[table.uses.event]).all()
    assert (timing.end >= np.maximum.reduceat(timing.use_end, case.routed.workload.offsets[:-1])).all()
    assert (np.diff(timing.step_end, prepend=0) > 0).all()


@property_of
@given(case=cases(read=False), name=names, order=orders)
def test_nothing_is_used_before_it_landed(case: Case, name: str, order: str) -> None:
    table, durations, timing = timed(case, name, order)
    brought = table.uses.load >= 0
    landed = timing.landed[table.uses.load[brought]]
    assert (timing.use_start[brought] >= landed + durations.host.event_ns).all()


@property_of
@given(case=cases(read=False), name=names, order=orders)
def test_a_slot_is_not_overwritten_while_it_is_read_or_written(case: Case, name: str, order: str) -> None:
    table, _, timing = timed(case, name, order)
    slots, read_by = table.loads.slot, table.uses.load
    for load, slot in enumerate(slots.tolist()):
        before = np.flatnonzero(slots[:load] == slot)
        assert (timing.landed[before] <= timing.started[load]).all()
        assert (timing.use_end[np.isin(read_by, before)] <= timing.started[load]).all()


@property_of
@given(case=cases(), name=names)
def test_one_copy_one_read_and_one_kernel_at_a_time(case: Case, name: str) -> None:
    table, durations, timing = timed(case, name)
    reads = timing.fetched - durations.read
    ends = groups_of(table, case.launching).ends
    pairs = [(timing.started, timing.landed), (timing.use_start[ends], timing.use_end[ends])]
    for starts, ends in [*pairs, (reads, timing.fetched)] if durations.read else pairs:
        order = np.lexsort((ends, starts))
        assert (starts[order][1:] >= ends[order][:-1]).all()


@property_of
@given(case=cases(read=False), name=names, order=orders, chunk=st.integers(1, 50))
def test_every_copy_takes_its_time_whatever_the_order(case: Case, name: str, order: str, chunk: int) -> None:
    _, durations, timing = timed(case, name, order, chunk)
    by_start = np.lexsort((timing.landed, timing.started)).tolist()
    spans = ((load, int(timing.started[load]), int(timing.landed[load])) for load in by_start)
    pieces = list(uninterrupted(spans))
    assert all(before[2] <= after[1] for before, after in pairwise(pieces))
    copied = np.zeros(len(timing.landed), np.int64)
    for load, start, end in pieces:
        copied[load] += end - start
    assert copied.tolist() == durations.copy
    assert order == "chunked" or len(pieces) == len(copied)


@property_of
@given(case=cases(read=False), name=names, order=st.sampled_from(["priority", "chunked"]))
def test_all_orders_are_the_same_without_prefetches(case: Case, name: str, order: Any) -> None:
    table = case.decide(name)
    assume(not table.prefetch_loads)
    durations = case.machine.durations(table, case.launching)
    for one, other in zip(simulate(table, durations), simulate(table, durations, order, 3), strict=True):
        assert one.tolist() == other.tolist()


@property_of
@given(case=cases(), name=names, order=orders)
def test_no_result_is_below_the_floor(case: Case, name: str, order: Any) -> None:
    assume(order == "fifo" or not case.machine.read)
    _, _, own = timed(case, "gpu-only")
    _, _, usual = timed(case._replace(launching="grouped-wait"), "gpu-only")
    _, _, timing = timed(case, name, order)
    assert (timing.step_end >= np.minimum(own.step_end, usual.step_end)).all()


@property_of
@given(case=cases(read=False), name=names, order=orders)
def test_a_predictor_that_is_slow_enough_is_slower_than_no_predictor(case: Case, name: str, order: Any) -> None:
    assume(POLICIES[name].prefetch)
    _, _, plain = timed(case, "on-demand-lru", order)
    table, durations, quick = timed(case, name, order)
    slow = simulate(table, durations._replace(predict=[int(plain.step_end[-1])] * len(quick.begin)), order, 7)
    assert slow.step_end[-1] > plain.step_end[-1]


@property_of
@given(case=cases(), name=names, extra=st.integers(1, 100))
def test_predicting_slower_is_never_faster_on_a_fifo_link(case: Case, name: str, extra: int) -> None:
    table, durations, timing = timed(case, name)
    slower = [time + extra for time in durations.predict or [0] * len(timing.begin)]
    later = simulate(table, durations._replace(predict=slower))
    assert (later.step_end >= timing.step_end).all()
    assert (later.use_end >= timing.use_end).all()
    assert (later.host - timing.host == extra).all()


@property_of
@given(case=cases(), name=names)
def test_no_demand_only_result_is_above_the_ceiling(case: Case, name: str) -> None:
    table, durations, _ = timed(case, name)
    assume(not table.prefetch_loads and not sum(durations.predict))
    every_miss = case.decide("on-demand")
    launching: Launching = "separate" if case.launching == "grouped" else case.launching
    launches = groups_of(every_miss, launching).launches
    ceiling = ceiling_ns(
        case.machine.durations(every_miss, launching), case.machine.copy * len(every_miss.uses.key), launches
    )
    assert mean_step_ns(table, durations) <= ceiling


@property_of
@given(case=cases(), name=names)
def test_fewer_launches_take_the_host_less_time(case: Case, name: str) -> None:
    host = [timed(case._replace(launching=launching), name)[2].host.sum() for launching in LAUNCHING]
    assert host == sorted(host, reverse=True)


@property_of
@given(case=cases(read=False), name=names, order=orders)
def test_a_launch_that_waits_for_all_ends_behind_the_last_landing(case: Case, name: str, order: Any) -> None:
    table, durations, timing = timed(case._replace(launching="grouped-wait"), name, order)
    uses = table.uses
    rows = np.flatnonzero(uses.load >= 0)
    for event, wave, load in zip(uses.event[rows], uses.wave[rows], uses.load[rows], strict=True):
        together = (uses.event == event) & (uses.wave == wave)
        assert (timing.use_start[together] >= timing.landed[load] + durations.host.event_ns).all()


@property_of
@given(case=cases(), name=names)
def test_the_link_alone_takes_at_least_its_bound(case: Case, name: str) -> None:
    assume(POLICIES[name].sharing != "all-resident")
    table, durations, _ = timed(case, name)
    fewest = fewest_loads(case.routed.workload, table.slots)
    bound = link_bound_ns([fewest], [case.machine.copy], case.machine.read, table.num_steps)
    assert bound <= mean_step_ns(table, durations)
    assert fewest <= table.demand_loads + table.prefetch_useful


@property_of
@given(case=cases(), name=names, factor=st.sampled_from([0.1, 0.5, 0.9]))
def test_more_bandwidth_is_never_slower_for_fixed_decisions_on_a_fifo_link(
    case: Case, name: str, factor: float
) -> None:
    table, durations, timing = timed(case, name)
    faster = durations._replace(copy=[int(copy * factor) for copy in durations.copy], read=int(durations.read * factor))
    quick = simulate(table, faster)
    assert (quick.step_end <= timing.step_end).all()
    assert (quick.use_end <= timing.use_end).all()
    assert (quick.landed <= timing.landed).all()


@property_of
@given(case=cases(), name=names, other=machines())
def test_decision_columns_do_not_depend_on_the_machine(case: Case, name: str, other: Any) -> None:
    table, durations, timing = timed(case, name)
    workload = case.routed.workload
    on_other = other.durations(table, case.launching)
    mine, theirs = (
        event_table(workload, table, costs, times, 100)
        for costs, times in ((durations, timing), (on_other, simulate(table, on_other)))
    )
    for column in mine:
        if not column.endswith("_ns") and column != "late_hits":
            assert (mine[column] == theirs[column]).all()


@property_of
@given(case=cases(), name=names)
def test_event_table_adds_up(case: Case, name: str) -> None:
    table, durations, timing = timed(case, name)
    rows = event_table(case.routed.workload, table, durations, timing, 100)
    assert rows["demands"].sum() == len(table.uses.key)
    assert (rows["late_hits"] <= rows["hits"]).all()
    assert (rows["hits"] <= rows["demands"]).all()
    assert (rows["prefetch_useful"] + rows["prefetch_wasted"] == rows["prefetch_loads"]).all()
    assert rows["link_ns"].sum() == sum(durations.copy)
    assert rows["bytes_loaded"].sum() == 100 * len(durations.copy)
    assert rows["bytes_wasted"].sum() == 100 * rows["prefetch_wasted"].sum()
    assert (rows["begin_ns"][1:] == rows["end_ns"][:-1]).all()
    assert rows["begin_ns"][0] == 0
    assert rows["end_ns"][-1] == timing.step_end[-1]


def test_a_priority_link_with_nvme_and_chunks_of_nothing_are_refused() -> None:
    from timing_cases import durations_by_hand, table_of

    table = table_of([(0, 0, 0, True, 0)], [(0, 0, 1, 0, 0, False, 0)], 1, 1, 1)
    with pytest.raises(InputError, match="NVMe: fifo expected"):
        simulate(table, durations_by_hand(table, read=9), "priority")
    for chunk in (None, 0):
        with pytest.raises(InputError, match="at least 1 ns expected"):
            simulate(table, durations_by_hand(table), "chunked", chunk)
