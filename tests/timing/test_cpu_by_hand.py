"""Experts on the CPU: timelines worked out on paper, and what holds for every machine.

The host takes 2 for a dense launch, 2 to wait for a router, 4 to decide, 3 a copy, 1 an expert; streams meet in 1.
"""

from collections.abc import Callable

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from timing_cases import (
    RUNNABLE,
    Case,
    cases,
    cpu_costs,
    durations_by_hand,
    on_cpu,
    table_of,
    with_cpu,
)
from tiny_routed import tiny_routed

from specmoe.errors import InputError
from specmoe.sim.decide.table import CPU, GPU, DecisionTable, uses_on_cpu
from specmoe.sim.event_table import event_table
from specmoe.sim.timing.cpu_lane import SHARE, Beside, CpuCosts, Interval, done, slowed
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import simulate
from specmoe.sim.timing.retimer import retime

COSTS = CpuCosts(start_ns=5, join_ns=7, add_ns=3)


def two_on_the_cpu() -> DecisionTable:
    """One step of a layer: two experts on the CPU, one miss and one hit."""
    uses = [
        (0, 0, 1, -1, -1, False, 0, CPU),
        (0, 1, 1, -1, -1, False, 0, CPU),
        (0, 2, 1, 1, 0, False, 0, GPU),
        (0, 3, 1, 0, -1, True, 0, GPU),
    ]
    return table_of([(0, 2, 1, True, 0)], uses, steps=1, layers=1, slots=2)


def timed(table: DecisionTable, cpu: CpuCosts = COSTS, **changes: object) -> Durations:
    durations = durations_by_hand(table, expert=[30, 40, 5, 5])
    return durations._replace(cpu=cpu, to_host=[11], to_device=[13])._replace(**changes)  # type: ignore[arg-type]


def test_the_cpu_computes_while_host_link_and_device_work() -> None:
    table = two_on_the_cpu()
    found = {name: column.tolist() for name, column in simulate(table, timed(table))._asdict().items()}
    assert found == {
        "begin": [0],
        "ready": [14],
        "host": [2 + 4 + 5 + 3 + 1 + 1 + 7 + 2],
        "stall": [15],  # the hit ends at 32; the miss lands at 46, which the stream knows at 47
        "slowed": [0],
        "cpu": [70],
        "cpu_stall": [95 + 7 + 13 + 1 - 52],
        "end": [119],
        "step_end": [127],
        "use_start": [25, 55, 47, 27],  # the hidden state is there at 14 + 11, when the host has decided since 23
        "use_end": [55, 95, 52, 32],
        "issued": [26],
        "fetched": [26],
        "started": [26],
        "landed": [46],
    }


def test_a_copy_and_the_cpu_slow_each_other() -> None:
    # Experts take half longer beside a copy, a copy takes twice as long beside them. The copy of 20 starts at 26 and
    # takes 40; of the CPU's 70 from 25, 1 is done before and 26 beside it. 43 are left at 66.
    table, costs = two_on_the_cpu(), COSTS._replace(slowed_by_copy=SHARE // 2, slows_copy=SHARE)
    timing = simulate(table, timed(table, costs))
    assert (timing.started.tolist(), timing.landed.tolist()) == ([26], [66])
    assert timing.cpu.tolist() == [66 - 25 + 43]
    assert timing.use_end[:2].tolist() == [66 + 3, 66 + 43]  # 30 and 70 are done


def test_a_copy_of_an_earlier_event_is_timed_anew_from_when_the_cpu_begins() -> None:
    # A prefetch of 100 starts at 24. The next event's expert of 30 begins at 57, ends at 87, and slows it by half.
    loads = [(0, 9, 0, False, 0)]
    uses = [(0, 0, 1, 1, -1, True, 0, GPU), (1, 8, 1, -1, -1, False, 0, CPU)]
    table = table_of(loads, uses, steps=1, layers=2, slots=2)
    costs = COSTS._replace(slows_copy=SHARE // 2)
    durations = durations_by_hand(table, copy=100, expert=[5, 30])._replace(cpu=costs, to_host=[0], to_device=[0])
    timing = simulate(table, durations)
    begin = int(timing.use_start[1])
    assert (timing.started.tolist(), timing.landed.tolist()) == ([21], [121 + 10])  # 20 of 30 done beside the CPU
    assert begin == int(timing.ready[1]) + 4 + 5
    assert retime(table, [durations]).step_end.tolist() == [timing.step_end.tolist()]


def test_the_columns_of_a_result() -> None:
    table = two_on_the_cpu()
    durations = timed(table)
    workload = tiny_routed(tokens=1, batch=1, seed=0, phase="decode", num_layers=1, num_experts=4, top_k=4).workload
    found = event_table(workload, table, durations, simulate(table, durations), 100)
    assert found["compute_ns"].tolist() == [10 + 5 + 5 + 3 + 6]
    assert (found["cpu_ns"].tolist(), found["cpu_stall_ns"].tolist()) == ([70], [64])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"read": 9}, "experts are on NVMe"), ({"copy": [0]}, "experts are compressed in VRAM")],
)
@pytest.mark.parametrize("times", [simulate, lambda table, durations: retime(table, [durations])])
def test_experts_that_are_not_in_host_memory(
    change: dict[str, object], message: str, times: Callable[..., object]
) -> None:
    with pytest.raises(InputError, match=message):
        times(two_on_the_cpu(), timed(two_on_the_cpu(), **change))


@given(ns=st.integers(0, 10**10), share=st.integers(0, 4 * SHARE))
def test_slowed_is_the_least_time_in_which_work_is_done(ns: int, share: int) -> None:
    assert done(slowed(ns, share), share) == ns
    assert not ns or done(slowed(ns, share) - 1, share) == ns - 1


@given(
    copies=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 99)), max_size=6),
    shares=st.tuples(*[st.integers(0, 2 * SHARE)] * 2),
)
def test_the_cpu_is_never_faster_beside_copies(copies: list[tuple[int, int]], shares: tuple[int, int]) -> None:
    works, free = [70, 0, 30], 10
    race = Beside(10, works, CpuCosts(0, 0, 0, *shares))
    for gap, ns in copies:
        started, free = free + gap, race.copy(free + gap, ns)
        assert started + ns <= free <= started + slowed(ns, shares[1])
    ends = race.ends()
    for end, work in zip(ends, (70, 70, 100), strict=True):
        assert 10 + work <= end <= 10 + slowed(work + len(copies), shares[0])  # each copy may cost 1 ns of work
    assert Interval(10, ends[-1]).landing(ends[-1], 7, shares[1]) == ends[-1] + 7


@examples(80)
@given(case=cases(read=False), policy=st.sampled_from(RUNNABLE), cpu=cpu_costs(), seed=st.integers(0, 10_000))
def test_what_holds_for_every_machine(case: Case, policy: str, cpu: CpuCosts, seed: int) -> None:
    table = on_cpu(case.decide(policy), seed)
    durations = with_cpu(case.durations(policy, table), cpu, seed)
    timing = simulate(table, durations)
    layers = table.num_layers
    for event, rows in uses_on_cpu(table).items():
        least = timing.ready[event] + max(
            case.machine.host.bookkeeping_ns + cpu.start_ns, durations.to_host[event // layers]
        )
        assert timing.use_start[rows[0]] == least
        assert (timing.use_start[rows[1:]] == timing.use_end[rows[:-1]]).all()
        assert timing.cpu[event] == timing.use_end[rows[-1]] - least >= sum(durations.expert[row] for row in rows)
        assert (
            timing.end[event]
            >= timing.use_end[rows[-1]] + cpu.join_ns + durations.to_device[event // layers] + cpu.add_ns
        )
    assert not timing.cpu[[event for event in range(len(timing.cpu)) if event not in uses_on_cpu(table)]].any()
    alone = durations._replace(cpu=cpu._replace(slowed_by_copy=0, slows_copy=0))
    assert (np.asarray(simulate(table, alone).step_end) <= timing.step_end).all()
