"""The re-timer against the engine: equal integers, for every named policy, on several machines at once."""

from __future__ import annotations

import random
from typing import Any

from examples import examples, for_each
from hypothesis import given
from hypothesis import strategies as st
from retimer_cases import Draw, as_lists, durations_in, engines
from timing_cases import RUNNABLE, Case, cases, table_of

from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import simulate
from specmoe.sim.timing.retimer import LANES, retime

names = st.sampled_from(RUNNABLE)


@examples(20)
@given(case=cases(), variants=Draw.variants)
@for_each(RUNNABLE)
def test_equal_to_the_engine(policy: str, case: Case, variants: Any) -> None:
    table = case.decide(policy)
    durations = durations_in(case, policy, table, variants)
    assert as_lists(retime(table, durations)) == engines(table, durations)


@examples(60)
@given(case=cases(), policy=names, variants=Draw.variants)
def test_several_variants_at_once_are_what_each_is_alone(case: Case, policy: str, variants: Any) -> None:
    table = case.decide(policy)
    durations = durations_in(case, policy, table, variants)
    together = as_lists(retime(table, durations))
    for number, each in enumerate(durations):
        alone = as_lists(retime(table, [each]))
        assert {name: [column[number]] for name, column in together.items()} == alone


@examples(60)
@given(case=cases(), policy=names, variants=Draw.variants, seed=st.integers(0, 100))
def test_the_order_of_variants_does_not_matter(case: Case, policy: str, variants: Any, seed: int) -> None:
    table = case.decide(policy)
    durations = durations_in(case, policy, table, variants)
    order = random.Random(seed).sample(range(len(durations)), len(durations))
    shuffled = retime(table, [durations[number] for number in order])
    for column, expected in zip(shuffled, retime(table, durations), strict=True):
        assert column.tolist() == expected[order].tolist()


@examples(10)
@given(case=cases(), policy=names, variant=Draw.variant)
def test_more_variants_than_run_beside_each_other(case: Case, policy: str, variant: Any) -> None:
    table = case.decide(policy)
    (durations,) = durations_in(case, policy, table, [variant])
    many = [
        durations._replace(after=[time + extra for time in durations.after], interference=extra / LANES)
        for extra in range(LANES + 3)
    ]
    assert as_lists(retime(table, many)) == engines(table, many)


def test_backlogs_of_copies_that_slow_the_computing_grow_and_shrink() -> None:
    # Three prefetches an event that nobody uses: on one link none wait, on another more and more, on the third more
    # than 64 and then none.
    events = 150
    loads = [(event, 8, 3 * event + place, False, 0) for event in range(events) for place in range(3)]
    uses = [(event, 0, 1, 3 * events, -1, True, 0) for event in range(events)]
    table = table_of(loads, uses, steps=events, layers=1, slots=3 * events + 1)
    plain = Durations([40] * events, [30] * events, [10] * events, [], 0, HostCosts(1, 1, 1, 1, 1, 1), interference=0.3)
    variants = [plain._replace(copy=copy) for copy in ([9] * 450, [300] * 450, [90] * 150 + [1] * 300)]
    waited = [(timing.landed - timing.issued).tolist() for timing in (simulate(table, each) for each in variants)]
    assert max(waited[0]) < 100 < 50_000 < waited[1][-1]
    assert max(waited[2]) > 64 * 90
    assert waited[2][-1] < 10
    assert as_lists(retime(table, variants)) == engines(table, variants)
