"""Eviction policies against cachetools, against their papers written down plainly, and against trying everything.

All on one layer and one expert at a time, where the director is a generic cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cachetools
import numpy as np
import pytest
import textbook
from decide_cases import hits_of, workload_of
from examples import examples, for_each
from hypothesis import given
from hypothesis import strategies as st

from specmoe.sim.decide.director import decide
from specmoe.sim.decide.policy import Policy
from specmoe.sim.speculate.predictor import no_predictions

REFERENCES: dict[str, Callable[[Sequence[int], int], list[bool]]] = {
    "lru": textbook.from_cachetools(cachetools.LRUCache),
    "lfu": textbook.from_cachetools(cachetools.LFUCache),
    "fifo": textbook.from_cachetools(cachetools.FIFOCache),
    "slru": textbook.slru,
    "s3fifo": textbook.s3fifo,
    "sieve": textbook.sieve,
    "arc": textbook.arc,
}
ACCESSES = st.lists(st.integers(0, 9), min_size=1, max_size=60)


def long_run(length: int, keys: int, seed: int) -> list[int]:
    """Favourites that change now and then, with loops over a few keys in between."""
    rng = np.random.default_rng(seed)
    now = np.arange(length)
    favourites = rng.zipf(1.3, length) + now // 500 * 17
    loops = now % rng.integers(5, keys)
    accesses: list[int] = (np.where(now // 100 % 3 == 0, loops, favourites) % keys).tolist()
    return accesses


@examples(150)
@given(accesses=ACCESSES, slots=st.integers(1, 9))
@for_each(REFERENCES)
def test_small_caches_hit_when_the_reference_does(eviction: str, accesses: list[int], slots: int) -> None:
    assert hits_of(accesses, slots, eviction) == REFERENCES[eviction](accesses, slots)


@pytest.mark.parametrize("eviction", REFERENCES)
@pytest.mark.parametrize("slots", [2, 5, 25, 60])
def test_long_runs_hit_when_the_reference_does(eviction: str, slots: int) -> None:
    accesses = long_run(6000, keys=4 * slots, seed=slots)
    hits = hits_of(accesses, slots, eviction)
    assert hits == REFERENCES[eviction](accesses, slots)
    assert 0 < sum(hits) < len(hits)


@given(accesses=ACCESSES, slots=st.integers(1, 9), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_shares_of_slru(accesses: list[int], slots: int, share: float) -> None:
    assert hits_of(accesses, slots, "slru", protected=share) == textbook.slru(accesses, slots, share)


@given(accesses=ACCESSES, slots=st.integers(1, 9))
def test_slru_without_protection_is_lru(accesses: list[int], slots: int) -> None:
    assert hits_of(accesses, slots, "slru", protected=0.0) == hits_of(accesses, slots, "lru")


@given(accesses=ACCESSES, slots=st.integers(1, 9), half_life=st.sampled_from([1.5, 7.3, 50.1]))
def test_decayed_counts(accesses: list[int], slots: int, half_life: float) -> None:
    """Half-lives for which no two different histories weigh the same."""
    hits = hits_of(accesses, slots, "lfu-decayed", half_life=half_life)
    assert hits == textbook.lfu_decayed(accesses, slots, half_life)


@given(accesses=ACCESSES, slots=st.integers(1, 9))
def test_counts_that_halve_at_every_event_are_lru(accesses: list[int], slots: int) -> None:
    assert hits_of(accesses, slots, "lfu-decayed", half_life=1.0) == hits_of(accesses, slots, "lru")


@given(accesses=ACCESSES, slots=st.integers(1, 9), popularity=st.lists(st.integers(0, 3), min_size=10, max_size=10))
def test_static_popularity(accesses: list[int], slots: int, popularity: list[int]) -> None:
    assert hits_of(accesses, slots, "static", popularity) == textbook.static(accesses, slots, popularity)


@given(accesses=ACCESSES, slots=st.integers(1, 9))
def test_static_without_popularity_goes_by_key(accesses: list[int], slots: int) -> None:
    assert hits_of(accesses, slots, "static") == textbook.static(accesses, slots, [0] * 10)


@given(accesses=ACCESSES, slots=st.integers(1, 9))
def test_what_nobody_predicts_is_lru(accesses: list[int], slots: int) -> None:
    assert hits_of(accesses, slots, "predicted") == hits_of(accesses, slots, "lru")


# Belady


@examples(200)
@given(accesses=st.lists(st.integers(0, 4), min_size=1, max_size=12), slots=st.integers(1, 4))
def test_belady_misses_as_rarely_as_can_be(accesses: list[int], slots: int) -> None:
    misses = hits_of(accesses, slots, "belady").count(False)
    assert misses == textbook.fewest_misses(accesses, slots)
    assert misses >= textbook.fewest_misses(accesses, slots, may_refuse=True)


@examples(100)
@given(seed=st.integers(0, 10**6), keys=st.integers(6, 9), slots=st.integers(2, 5))
def test_bypass_is_the_textbook_with_one_slot_less(seed: int, keys: int, slots: int) -> None:
    """But for hits on what was given up last and is still there."""
    accesses = long_run(60, keys, seed)
    theirs, given_up = textbook.min_with_bypass(accesses, slots - 1)
    hits = [hit or key == gone for hit, key, gone in zip(theirs, accesses, given_up, strict=True)]
    assert hits_of(accesses, slots, "belady-bypass") == hits


@examples(100)
@given(accesses=st.lists(st.integers(0, 4), min_size=1, max_size=12), slots=st.integers(2, 4))
def test_where_bypass_stands(accesses: list[int], slots: int) -> None:
    belady, bypass = (hits_of(accesses, slots, name).count(False) for name in ("belady", "belady-bypass"))
    refusing, refusing_with_less = (textbook.fewest_misses(accesses, n, may_refuse=True) for n in (slots, slots - 1))
    assert refusing <= belady <= bypass <= refusing_with_less


# The director


def lru_by_event(demand: list[list[list[int]]], slots: int) -> list[int]:
    """Hits of each event of an event-atomic LRU over all layers: a list, oldest first."""
    kept: list[tuple[int, int]] = []
    hits = []
    for step in demand:
        for layer, experts in enumerate(step):
            wanted = [(layer, expert) for expert in experts]
            hits.append(len(set(wanted) & set(kept)))
            kept = [key for key in kept if key not in wanted]
            kept = kept[max(0, len(kept) + len(wanted) - slots) :] + wanted
    return hits


@examples(100)
@given(seed=st.integers(0, 10**6), layers=st.integers(1, 3), slots=st.integers(4, 12))
def test_batches_hit_as_a_list_does(seed: int, layers: int, slots: int) -> None:
    rng = np.random.default_rng(seed)
    demand = [[sorted(rng.permutation(4)[: rng.integers(0, 5)].tolist()) for _ in range(layers)] for _ in range(10)]
    workload = workload_of(demand)
    table = decide(workload, no_predictions(workload.num_events), Policy("lru", "a test"), slots)
    hits = np.bincount(table.uses.event, table.uses.hit, minlength=workload.num_events)
    assert hits.tolist() == lru_by_event(demand, slots)
