"""The fewest loads: equal to Belady's on the best first contents with one expert an event, and never more than any
policy's, whatever its slots hold at first.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import textbook
from decide_cases import Case, accesses_of, cases, policy_of, workload_of
from examples import examples, for_each
from hypothesis import assume, given
from hypothesis import strategies as st

from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.timing.bounds import fewest_loads


@examples(200)
@given(accesses=st.lists(st.integers(0, 4), min_size=1, max_size=12), slots=st.integers(1, 4))
def test_one_expert_an_event_is_the_optimum_of_the_best_first_contents(accesses: list[int], slots: int) -> None:
    held = combinations(set(accesses), min(slots, len(set(accesses))))
    best = min(textbook.fewest_misses([*first, *accesses], slots) - len(first) for first in held)
    assert fewest_loads(accesses_of(accesses), slots) == best


@examples(60)
@given(case=cases())
@for_each(EVICTIONS)
def test_no_policy_loads_less(eviction: str, case: Case) -> None:
    """Whatever is prefetched, shared or served in waves, but not where everything is resident from the start."""
    assume(case.fields["sharing"] != "all-resident")
    table = case.decide(eviction=eviction)
    assert fewest_loads(case.workload, table.slots) <= table.demand_loads + table.prefetch_useful


@examples(20)
@given(case=cases(), popularity=st.permutations(range(15)))
@for_each(EVICTIONS)
def test_no_policy_whose_experts_are_there_at_first_loads_less(
    eviction: str, case: Case, popularity: list[int]
) -> None:
    assume(case.fields["sharing"] != "all-resident")
    meta = case.workload.meta
    known = np.array(popularity[: meta.num_layers * meta.num_experts])
    context = Context(case.slots, case.workload, lambda: known)
    chosen = policy_of(**case.fields, eviction=eviction, placement="popular-first")
    table = decide(case.workload, case.predictions, chosen, case.slots, context)
    assert fewest_loads(case.workload, table.slots) <= table.demand_loads + table.prefetch_useful


def test_experts_that_have_run_may_leave_within_an_event() -> None:
    """0 stays while 1 and 2 share a slot, and 0 and 1 are there at first: event-atomic policies must evict 0."""
    assert fewest_loads(workload_of([[[0]], [[1, 2]], [[0]]]), 2) == 1
