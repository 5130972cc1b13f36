"""The engine against a second, naive implementation: equal integers in every column, for every named policy."""

from __future__ import annotations

from typing import Any

from examples import examples, for_each
from hypothesis import given
from hypothesis import strategies as st
from naive import as_lists, naive
from timing_cases import RUNNABLE, Case, cases

from specmoe.sim.timing.engine import simulate


@examples(20)
@given(case=cases(), interference=st.sampled_from([0.0, 0.07, 0.5]))
@for_each(RUNNABLE)
def test_fifo(policy: str, case: Case, interference: float) -> None:
    case = case._replace(interference=interference)
    table = case.decide(policy)
    durations = case.durations(policy, table)
    assert as_lists(simulate(table, durations)) == naive(table, durations)


@examples(20)
@given(case=cases(read=False), order=st.sampled_from(["priority", "chunked"]), chunk=st.integers(1, 50))
@for_each(RUNNABLE)
def test_priority_and_chunks(policy: str, case: Case, order: Any, chunk: int) -> None:
    table = case.decide(policy)
    durations = case.durations(policy, table)
    assert as_lists(simulate(table, durations, order, chunk)) == naive(table, durations, order, chunk)
