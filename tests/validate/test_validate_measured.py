"""A replay as a result: what was executed, counted and timed in the columns of a simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
from examples import examples, for_each
from fake_cases import WAVES, decided, decided_on_cpu, replayed, two_layers, work_from
from hypothesis import example, given
from hypothesis import strategies as st
from timing_cases import RUNNABLE, Case, cases, cpu_costs, durations_by_hand, table_of
from tiny_routed import tiny_routed

from specmoe.results import COLUMNS, DECISIONS, OF_MISSES, Table
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.event_table import event_table
from specmoe.sim.timing.cpu_lane import CpuCosts
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Timing, simulate
from specmoe.validate.measured import computed_by, host_state, measured_table
from specmoe.validate.replayer import Recording

COPIED = 1000  # bytes of an expert
SLOW_LINK = WAVES._replace(slots=6, machine=WAVES.machine._replace(copy=400))


def prompt(case: Case) -> Case:
    """A host whose calls to the streams take no time, so that what is waited for is loads alone."""
    host = case.machine.host._replace(launch_dense_ns=0, event_ns=0, begin_ns=0, begin_copy_ns=0)
    return case._replace(machine=case.machine._replace(host=host))


def both(case: Case, policy: str) -> tuple[Table, Table, Timing]:
    """Measured and simulated."""
    table, durations = decided(case, policy)
    recording, _ = replayed(table, durations)
    timing, workload = simulate(table, durations), case.routed.workload
    measured = measured_table(workload, work_from(table, durations), recording, COPIED)
    return measured, event_table(workload, table, durations, timing, COPIED), timing


def same(one: Table, other: Table, names: Any) -> None:
    for name in names:
        assert one[name].tolist() == other[name].tolist(), name


@examples(10)
@given(case=cases(read=False))
@example(case=WAVES)
@for_each(RUNNABLE)
def test_decisions_bytes_and_the_hosts_clock_are_the_simulators(policy: str, case: Case) -> None:
    measured, simulated, _ = both(case, policy)
    assert set(measured) == set(COLUMNS)
    same(measured, simulated, (*DECISIONS, "late_hits", "bytes_loaded", "bytes_wasted", "begin_ns", "end_ns"))


@examples(10)
@given(case=cases(read=False))
@example(case=WAVES)
@example(case=SLOW_LINK)
@for_each(RUNNABLE)
def test_a_prompt_host_gives_the_simulators_compute_and_stall(policy: str, case: Case) -> None:
    measured, simulated, timing = both(prompt(case), policy)
    same(measured, simulated, ("compute_ns", "stall_ns", "host_ns"))
    assert (measured["link_ns"] >= simulated["link_ns"]).all()  # waiting for a slot's reader included
    order = np.argsort(timing.started, kind="stable")
    if not (timing.started[order] > np.maximum(timing.issued[order], np.append(0, timing.landed[order][:-1]))).any():
        same(measured, simulated, ("link_ns",))


@examples(100)
@given(case=cases(read=False), policy=st.sampled_from(RUNNABLE), cpu=cpu_costs(), seed=st.integers(0, 10_000))
def test_experts_on_the_cpu_give_the_simulators_columns(policy: str, case: Case, cpu: CpuCosts, seed: int) -> None:
    case = prompt(case)
    table, durations = decided_on_cpu(case, policy, cpu, seed)
    recording, _ = replayed(table, durations)
    measured = measured_table(case.routed.workload, work_from(table, durations), recording, COPIED)
    simulated = event_table(case.routed.workload, table, durations, simulate(table, durations), COPIED)
    columns = ("compute_ns", "stall_ns", "host_ns", "cpu_ns", "cpu_stall_ns", "begin_ns", "end_ns")
    same(measured, simulated, (*DECISIONS, *columns))


@examples(5)
@given(case=cases(read=False))
@for_each(RUNNABLE)
def test_the_compute_stream_does_one_thing_at_a_time(policy: str, case: Case) -> None:
    """Whatever calls cost, work and waiting fit into the steps, and neither is negative."""
    measured, _, _ = both(case, policy)
    assert measured["compute_ns"].min() >= 0 and measured["stall_ns"].min() >= 0
    busy = (measured["compute_ns"] + measured["stall_ns"]).sum()
    assert busy <= (measured["end_ns"] - measured["begin_ns"]).sum()


def test_the_slow_link_stalls_and_hits_late_and_wastes() -> None:
    measured, _, _ = both(prompt(SLOW_LINK), "lookahead")
    assert measured["stall_ns"].sum() and measured["late_hits"].sum() and measured["bytes_wasted"].sum()


def test_computed_by_hand() -> None:
    """The step worked out in `test_replayer`: what ended when, and from when on it could have run."""
    table, durations = two_layers()
    recording, _ = replayed(table, durations)
    computed = computed_by(work_from(table, durations), recording)
    assert computed.event.tolist() == [0, 0, 1, 1, 1]
    assert computed.stall.tolist() == [0, 20, 0, 0, 0]  # landed at 46, called at 26; the second landed before its call
    assert computed.busy.tolist() == [
        13,  # 0 to 13, the launch of the first dense part included
        6,  # 46 to 52, the hand-over between the streams included
        10,  # 52 to 62, launched long before
        6,  # 69 to 75, the begin included
        6,  # 75 to 81
    ]


def by_hand(recording: Recording | None = None) -> Table:
    table, durations = two_layers()
    found, _ = replayed(table, durations)
    workload = tiny_routed(1, num_layers=2, num_experts=8, top_k=1).workload
    return measured_table(workload, work_from(table, durations), recording or found, COPIED)


def test_a_table_by_hand() -> None:
    found = {name: column.tolist() for name, column in by_hand().items()}
    assert found == {
        "step": [0, 0],
        "layer": [0, 1],
        "tokens": [1, 1],
        "demands": [1, 1],
        "hits": [0, 1],
        "demand_loads": [1, 0],
        "prefetch_loads": [1, 0],
        "prefetch_useful": [1, 0],
        "prefetch_wasted": [0, 0],
        **{name: [0, 0] for name in OF_MISSES},
        "bytes_loaded": [2000, 0],
        "bytes_wasted": [0, 0],
        "late_hits": [0, 1],  # landed at 66, the router's result is there at 64
        "begin_ns": [0, 26],
        "end_ns": [26, 83],
        "host_ns": [13, 9],  # 2 to launch the dense part, 2 more the head
        "compute_ns": [19, 22],
        "cpu_ns": [0, 0],
        "cpu_stall_ns": [0, 0],
        "stall_ns": [20, 0],
        "link_ns": [44, 0],  # 22 to 46, 4 of it until the link begins; 46 to 66
    }


def recorded() -> Recording:
    return replayed(*two_layers())[0]


def test_loads_are_counted_where_they_were_issued() -> None:
    """Not where they were decided: else decisions would be equal whatever the replayer does."""
    found = by_hand(recorded()._replace(order=np.array([0, 1])))
    assert found["prefetch_loads"].tolist() == [0, 1]
    assert found["bytes_loaded"].tolist() == [1000, 1000]
    assert found["link_ns"].tolist() == [24, 20]


def test_what_lands_when_the_result_is_there_is_not_late() -> None:
    for landed, late in ((64, 0), (65, 1)):
        recording = recorded()
        device = recording.device._replace(landed=np.array([46, landed]))
        assert by_hand(recording._replace(device=device))["late_hits"].tolist() == [0, late]


def test_experts_there_from_the_start_wait_for_no_load() -> None:
    """However late the last load lands: its row must not stand for no load."""
    table = table_of([(0, 7, 1, False, 0)], [(0, 0, 1, 0, -1, True, 0)], steps=1, layers=1, slots=2)
    durations = durations_by_hand(table, copy=10_000)
    recording, _ = replayed(table, durations)
    computed = computed_by(work_from(table, durations), recording)
    assert computed.stall.tolist() == [0, 0, 0]
    assert computed.busy[1] == 5


def no_loads() -> tuple[DecisionTable, Durations]:
    table = table_of([], [(event, event % 2, 1, 0, -1, True, 0) for event in range(4)], steps=2, layers=2, slots=1)
    return table, durations_by_hand(table)


def test_without_loads() -> None:
    table, durations = no_loads()
    recording, _ = replayed(table, durations)
    workload = tiny_routed(2, num_layers=2, num_experts=8, top_k=1, mean_length=2).workload
    found = measured_table(workload, work_from(table, durations), recording, COPIED)
    for name in ("bytes_loaded", "link_ns", "stall_ns", "late_hits"):
        assert not found[name].any(), name
    assert found["end_ns"][1] == found["begin_ns"][2] == recording.step_end[0]


def test_the_calls_of_the_host_are_those_of_the_device() -> None:
    table, durations = decided(WAVES, "on-demand-lru")
    recording, _ = replayed(table, durations)
    state, host = host_state(work_from(table, durations), [recording, recording]), durations.host
    assert state == (host.launch_dense_ns, host.launch_ns, host.issue_ns)


def test_calls_of_a_thread_that_predicts_are_not_told_apart() -> None:
    table, durations = decided(WAVES, "pregated")
    assert any(durations.predict)
    recording, _ = replayed(table, durations)
    assert host_state(work_from(table, durations), [recording]) == (durations.host.launch_dense_ns, 0, 0)


def test_a_replay_without_loads_has_no_issues() -> None:
    table, durations = decided(WAVES, "gpu-only")
    recording, _ = replayed(table, durations)
    assert host_state(work_from(table, durations), [recording]).issue == 0
