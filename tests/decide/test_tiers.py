"""The compressed tier behind the slots sees only what they load."""

from __future__ import annotations

from decide_cases import Case, cases, decisions, hits_of, loads_of
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from specmoe.sim.decide.table import found_compressed


def test_what_left_the_slots_is_found_compressed() -> None:
    table = decisions([[[0]], [[1]], [[2]], [[0]], [[2]], [[1]]], slots=1)
    assert [row[1] for row in loads_of(table)] == [0, 1, 2, 0, 2, 1]
    assert found_compressed(table, 2).tolist() == [False, False, False, False, True, False]
    assert found_compressed(table, 3).tolist() == [False, False, False, True, True, True]
    assert not found_compressed(table, 0).any()


@examples(60)
@given(case=cases(), slots=st.integers(1, 9))
def test_it_is_an_lru_over_the_loads(case: Case, slots: int) -> None:
    table = case.decide()
    loaded = table.loads.key.tolist()
    assert found_compressed(table, slots).tolist() == (hits_of(loaded, slots, "lru") if loaded else [])
