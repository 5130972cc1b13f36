"""The fewest loads: equal to Belady's with one expert an event, and never more than any policy's."""

from __future__ import annotations

import pytest
import textbook
from decide_cases import Case, accesses_of, cases, workload_of
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st

from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.fewest import fewest_loads


@examples(200)
@given(accesses=st.lists(st.integers(0, 4), min_size=1, max_size=12), slots=st.integers(1, 4))
def test_one_expert_an_event_is_the_optimum(accesses: list[int], slots: int) -> None:
    assert fewest_loads(accesses_of(accesses), slots) == textbook.fewest_misses(accesses, slots)


@pytest.mark.parametrize("eviction", EVICTIONS)
@examples(60)
@given(case=cases())
def test_no_policy_loads_less(eviction: str, case: Case) -> None:
    """Whatever is prefetched, shared or served in waves, but not where everything is resident from the start."""
    assume(case.fields["sharing"] != "all-resident")
    table = case.decide(eviction=eviction)
    assert fewest_loads(case.workload, table.slots) <= table.demand_loads + table.prefetch_useful


def test_experts_that_have_run_may_leave_within_an_event() -> None:
    """0 stays while 1 and 2 share a slot: one load less than event-atomic policies have, which must evict 0."""
    assert fewest_loads(workload_of([[[0]], [[1, 2]], [[0]]]), 2) == 3
