"""Uses on the CPU in a decision table: how they are counted, and who does not execute them yet."""

from __future__ import annotations

import numpy as np
import pytest
from decide_cases import workload_of

from specmoe.hwprofiles.kernels import Launching
from specmoe.sim.decide.program import groups_of, program_of
from specmoe.sim.decide.table import CPU, GPU, DecisionTable, Recorder
from specmoe.sim.event_table import byte_columns, decision_columns

DEMAND = [[[0, 1, 2, 2], [3]], [[2], [3]]]  # 2 steps of 2 layers; key of expert e in layer l is 4 l + e


def table_by_hand() -> DecisionTable:
    """Expert 0 is loaded, 1 and 2 are computed on the CPU, and 2 is loaded for later, when it hits."""
    made = Recorder()
    made.use(0, 1, 1, -1, -1, False, 0, CPU)
    made.use(0, 2, 2, -1, -1, False, 0, CPU)
    made.use(0, 0, 1, 0, made.load(0, 0, 0, -1, True, 0), False, 0)
    kept = made.load(0, 2, 1, -1, False, 0, later=True)
    made.use(1, 7, 1, -1, -1, False, 0, CPU)
    made.load(1, 7, 0, 0, False, 0, later=True)
    made.use(2, 2, 1, 1, kept, True, 0)
    made.load(2, 6, 0, 7, False, 0)
    made.use(3, 7, 1, -1, -1, False, 0, CPU)
    return made.table(2, 2, 4, 2)


def test_counts_of_a_table_by_hand() -> None:
    table = table_by_hand()
    assert table.uses.where.tolist() == [CPU, CPU, GPU, CPU, GPU, CPU]
    assert (table.hits, table.demand_loads, table.cpu_uses, table.cpu_tokens) == (1, 1, 4, 5)
    assert table.hits + table.demand_loads + table.cpu_uses == len(table.uses.key)
    assert (table.later_loads, table.later_useful, table.prefetch_loads, table.prefetch_useful) == (2, 1, 1, 0)
    assert table.loads.prefetch.tolist() == [False, False, False, True]


def test_columns_of_events() -> None:
    table = table_by_hand()
    columns = {**decision_columns(workload_of(DEMAND), table), **byte_columns(table, table.loads.slot >= 0, 10)}
    found = {name: columns[name].tolist() for name in columns if name not in ("step", "layer", "tokens")}
    assert found == {
        "demands": [3, 1, 1, 1],
        "hits": [0, 0, 1, 0],
        "demand_loads": [1, 0, 0, 0],
        "prefetch_loads": [0, 0, 1, 0],
        "prefetch_useful": [0, 0, 0, 0],
        "prefetch_wasted": [0, 0, 1, 0],
        "cpu_uses": [2, 1, 0, 1],
        "cpu_tokens": [3, 1, 0, 1],
        "later_loads": [1, 1, 0, 0],
        "later_useful": [1, 0, 0, 0],
        **{name: [0] * 4 for name in ("dropped_uses", "low_uses", "deferred_uses", "changed_mass")},
        "bytes_loaded": [20, 10, 10, 0],
        "bytes_wasted": [0, 10, 10, 0],
    }


def test_since_counts_only_later_steps() -> None:
    later = table_by_hand().since(1)
    assert (later.cpu_uses, later.cpu_tokens, later.hits, later.later_loads, later.prefetch_loads) == (1, 1, 1, 0, 1)


@pytest.mark.parametrize("launching", ["separate", "grouped", "grouped-wait"])
def test_uses_on_the_cpu_come_first_and_need_no_launch(launching: Launching) -> None:
    table = table_by_hand()
    program, groups = program_of(table, launching=launching), groups_of(table, launching)
    for event in range(table.num_steps * table.num_layers):
        where = [table.uses.where[use] for use in program.uses if table.uses.event[use] == event]
        assert where == sorted(where, reverse=True)
    on_cpu = np.flatnonzero(table.uses.where == CPU).tolist()
    assert not any(program.opens[row] for row in on_cpu)
    assert groups.launches == sum(program.opens)
    assert [program.last[row] for row in on_cpu] == on_cpu
