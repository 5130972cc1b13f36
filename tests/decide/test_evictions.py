"""The contract of eviction policies, found from their table, and worked examples of each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from decide_cases import certain, decisions, hits_of, loads_of, predictions_of, workload_of
from examples import examples, for_each
from hypothesis import given
from hypothesis import strategies as st

from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import NEVER, Context, Eviction, Future
from specmoe.sim.decide.evictions import EVICTIONS, make_eviction
from specmoe.sim.decide.policy import Policy, Prefetch
from specmoe.sim.speculate.predictor import no_predictions

KEYS = 8
STEPS = 40
every_eviction = pytest.mark.parametrize("eviction", EVICTIONS)


class Call(NamedTuple):
    """One thing that a director may do; a key that cannot take it stands for another that can."""

    what: str
    key: int
    pinned: frozenset[int]


CALLS = st.lists(
    st.builds(
        Call,
        st.sampled_from(["load", "load", "use", "use", "use", "remove"]),
        st.integers(0, KEYS - 1),
        st.frozensets(st.integers(0, KEYS - 1), max_size=KEYS),
    ),
    max_size=STEPS,
)


@cache
def some_context() -> Context:
    """A future in which every key comes up, and guesses about it."""
    rng = np.random.default_rng(0)
    workload = workload_of([[[int(key)]] for key in rng.integers(0, KEYS, STEPS)], KEYS)
    guesses = {event: certain(event % KEYS, event * 3 % KEYS) for event in range(STEPS)}
    popularity = rng.integers(0, 9, KEYS)
    return Context(4, workload, lambda: popularity, predictions_of(workload, guesses))


class Choice(NamedTuple):
    """What was given up, and what might have been."""

    victim: int | None
    allowed: set[int]


def choices(eviction: Eviction, calls: list[Call], capacity: int, look: bool = False) -> Iterator[Choice]:
    """Do as a director does; with `look`, ask for victims that nobody needs in between."""
    used: dict[int, bool] = {}  # of each resident key
    for event, (what, key, pinned) in enumerate(calls):
        if look:
            eviction.victim(key, pinned, event)
            eviction.victim(key, (), event)
        if what == "use" and key in used:
            eviction.use(key, event, used[key])
            used[key] = True
        if what == "remove" and key in used:
            eviction.remove(key)
            del used[key]
        if what == "load" and key not in used:
            if len(used) == capacity:
                victim = eviction.victim(key, pinned, event)
                yield Choice(victim, used.keys() - pinned)
                if victim is None:
                    continue
                eviction.remove(victim)
                del used[victim]
            eviction.insert(key, event)
            used[key] = False


@examples(60)
@given(calls=CALLS, capacity=st.integers(1, 5))
@for_each(EVICTIONS)
def test_a_victim_is_resident_and_not_pinned_and_asking_for_it_changes_nothing(
    eviction: str, calls: list[Call], capacity: int
) -> None:
    one, other = (make_eviction(eviction, some_context(), capacity, {}) for _ in range(2))
    found = list(choices(one, calls, capacity))
    for victim, allowed in found:
        assert victim in allowed if allowed else victim is None
    assert found == list(choices(other, calls, capacity, look=True))


@every_eviction
def test_every_key_can_be_got_rid_of_one_by_one(eviction: str) -> None:
    made = make_eviction(eviction, some_context(), KEYS, {})
    for key in range(KEYS):
        made.insert(key, 0)
    victims = []
    for _ in range(KEYS):
        victim = made.victim(KEYS, (), 1)
        assert victim is not None
        made.remove(victim)
        victims.append(victim)
    assert sorted(victims) == list(range(KEYS))
    assert made.victim(KEYS, (), 1) is None


def test_who_peeks() -> None:
    assert {name for name, kind in EVICTIONS.items() if kind.peeks} == {"belady", "belady-bypass"}


# Worked examples: accesses to one layer, and the loads' victims


def victims_of(accesses: str, slots: int, eviction: str, **parameters: float) -> str:
    """Keys a, b, c ... given up, in order."""
    demand = [[[ord(key) - ord("a")]] for key in accesses]
    table = decisions(demand, slots, eviction=eviction, eviction_parameters=parameters)
    return "".join(chr(ord("a") + row[3]) for row in loads_of(table) if row[3] >= 0)


@pytest.mark.parametrize(
    ("eviction", "accesses", "victims"),
    [
        ("lru", "abcad", "b"),
        ("fifo", "abcad", "a"),
        ("lfu", "aabbcd", "c"),
        ("lfu", "abcabd", "c"),
        ("lfu", "abcd", "a"),  # ties: the least recently used
        ("lfu-perfect", "aabbcd", "c"),
        ("lfu-perfect", "abcd", "a"),
        ("lfru", "aabbcd", "a"),  # uses over age: 2/5, 2/3, 1/2
        ("least-stale", "abcad", "a"),  # one layer, all of earlier passes: first in, first out
        ("static", "dcba", "b"),  # no popularity: the lowest key
        ("belady", "abcdacb", "ba"),
        ("belady", "abcd", "a"),  # nothing comes back: the lowest key
        ("sieve", "abcad", "b"),
        ("sieve", "abcabcd", "a"),  # all visited: once round, and the oldest goes
        ("slru", "aabcd", "b"),
        ("slru", "aabbccd", "a"),  # room for two protected: c pushed a out
        ("arc", "aabcd", "b"),
    ],
)
def test_worked_examples_with_three_slots(eviction: str, accesses: str, victims: str) -> None:
    assert victims_of(accesses, 3, eviction) == victims


def test_decayed_counts_forget() -> None:
    accesses = "aaaa" + "bb" + "cd"  # three slots: d comes for a, b or c
    assert victims_of(accesses, 3, "lfu-decayed", half_life=1000) == "c"
    assert victims_of(accesses, 3, "lfu-decayed", half_life=1) == "a"


def test_decayed_counts_outlive_evictions() -> None:
    """When b comes back, its two uses of before count again; in LFU they do not."""
    assert victims_of("aaabbcbd", 2, "lfu-decayed") == "bca"
    assert victims_of("aaabbcbd", 2, "lfu") == "bcb"


def test_perfect_counts_outlive_evictions() -> None:
    """When b comes back, it has three uses in all, as many as a, which is older; the textbook counts one."""
    assert victims_of("aaabbcbd", 2, "lfu-perfect") == "bca"
    assert victims_of("aaabbcbd", 2, "lfu") == "bcb"


def test_the_textbook_forgets_what_moe_runtimes_remember() -> None:
    """Skewed routing that repeats: as on gpt-oss-20b, the textbook's LFU is far behind an LRU, Perfect-LFU is not."""
    demand = skewed_demand(300, layers=12, experts=16)
    hits = {
        name: decide(workload_of(demand, 16), no_predictions(3600), Policy(name, "a test", eviction=name), 48).hits
        for name in ("lfu", "lru", "lfu-perfect")
    }
    assert hits["lfu"] < 0.7 * hits["lru"] < hits["lru"] < hits["lfu-perfect"]


def skewed_demand(steps: int, layers: int, experts: int) -> list[list[list[int]]]:
    """Two experts of each layer: each of the last two is kept with 30 %; others are drawn, the first most often."""
    rng, weights = np.random.default_rng(0), 0.8 ** np.arange(experts)
    last: list[list[int]] = [[] for _ in range(layers)]
    demand = []
    for _ in range(steps):
        for layer in range(layers):
            kept = [expert for expert in last[layer] if rng.random() < 0.3]
            drawn = rng.choice(experts, experts, replace=False, p=weights / weights.sum()).tolist()
            last[layer] = sorted((kept + [expert for expert in drawn if expert not in kept])[:2])
        demand.append(list(last))
    return demand


def test_a_half_life_is_in_steps_whatever_the_number_of_layers() -> None:
    """The same routing in every layer, with slots for each: a deeper model decides as a shallow one does."""
    rng = np.random.default_rng(1)
    wanted = [[int(expert)] for expert in rng.integers(0, 4, 200) ** 2 // 4]
    hits = []
    for layers in (1, 2, 6):
        parameters = {"half_life": 3.7}
        made = decisions(
            [[experts] * layers for experts in wanted],
            2 * layers,
            eviction="lfu-decayed",
            sharing="per-layer",
            eviction_parameters=parameters,
        )
        hits.append(made.uses.hit.reshape(-1, layers))
    assert all((columns == hits[0]).all() for columns in hits)
    assert 0 < hits[0].sum() < 200


def test_lfru_weighs_uses_by_age() -> None:
    """Uses over steps since the last one, and one step more."""
    assert victims_of("aaabbcd", 3, "lfru") == "c"  # 3/5, 2/3, 1/2
    assert victims_of("aabbbccd", 3, "lfru") == "a"  # 2/7, 3/4, 2/2


def test_least_stale_takes_the_layer_that_has_run_before_those_to_come() -> None:
    """Three layers, five slots: an LRU evicts what the next layer needs, Least-Stale what this one used last step."""
    demand = [[[0], [0], [0]], [[1], [1], [1]], [[2], [0], [1]]]
    assert [row[3] for row in loads_of(decisions(demand, 5, eviction="least-stale"))][5:] == [8, 0]
    assert [row[3] for row in loads_of(decisions(demand, 5))][5:] == [0, 4, 8]


def test_least_stale_spares_what_is_prefetched_for_this_pass() -> None:
    demand = [[[0], [0]], [[1], [3]]]
    table = decisions(demand, 3, {2: certain(2)}, eviction="least-stale", prefetch=Prefetch())
    assert [row[3] for row in loads_of(table)] == [-1, -1, -1, 0, 4]


def test_s3fifo_promotes_what_was_used_twice_again_or_came_back_soon() -> None:
    """For d, a is promoted and b fails its trial. If b is wanted next, it is remembered; two loads later no more."""
    assert victims_of("aaabcdbefg", 3, "s3fifo") == "bcdef"
    assert victims_of("aaabcdebfg", 3, "s3fifo") == "bcdeb"


def test_sieve_leaves_its_hand_where_it_stopped() -> None:
    """For d the hand spares a and takes b; for e and f it goes on from there, and takes d before a."""
    assert victims_of("abcadef", 3, "sieve") == "bcd"


def test_arc_learns_from_what_it_gave_up() -> None:
    """b comes back from B1, so T1's share grows to 1 and the one key of T1 is spared: a goes, though used twice."""
    assert victims_of("aab" + "cb", 2, "arc") == "ba"


def test_static_popularity_counts_uses_in_training() -> None:
    assert hits_of([0, 1, 2, 0, 1, 2], 2, "static", popularity=[5, 1, 3]) == [0, 0, 0, 1, 0, 0]


def test_a_prefetched_key_is_not_counted_twice() -> None:
    """The first use after a prefetch is no use again: 1 and 2 are equals, and 1 is the older."""
    table = decisions([[[0]], [[1]], [[2]], [[3]]], 3, {0: certain(1)}, eviction="lfu", prefetch=Prefetch())
    assert [row[3] for row in loads_of(table)] == [-1, -1, -1, 0]
    table = decisions([[[0]], [[1]], [[2]], [[3]]], 3, {0: certain(1)}, eviction="slru", prefetch=Prefetch())
    assert [row[3] for row in loads_of(table)] == [-1, -1, -1, 0]


def test_predicted_keys_are_spared() -> None:
    guesses = {2: [[(1, 0.9)], [(0, 0.6)]]}
    table = decisions(
        [[[0]], [[1]], [[2]], [[1]], [[0]]], 2, guesses, depth=2, eviction="predicted", eviction_parameters={}
    )
    assert [row[3] for row in loads_of(table)] == [-1, -1, 0, 2]  # of 0 and 1, 0 is the less certain


# The future


def test_next_use() -> None:
    future = Future.of(workload_of([[[0], [0, 1]], [[0], []], [[], [1]]]))
    assert future.events == {0: [0, 2], 4: [1], 5: [1, 5]}
    assert [future.next_use(0, after) for after in (-1, 0, 1, 2)] == [0, 2, 2, NEVER]
    assert future.next_use(5, 1) == 5
    assert future.next_use(7, 0) == NEVER


def test_the_future_of_dropped_tokens_is_empty() -> None:
    assert Future.of(workload_of([[[], []]])).events == {}
