"""Caches as their papers write them down: one access after the other, each tells whether it hit. For comparison."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache

import cachetools

Accesses = Sequence[int]


def from_cachetools(kind: Callable[[int], cachetools.Cache[int, bool]]) -> Callable[[Accesses, int], list[bool]]:
    """A cache of cachetools, filled when it misses."""

    def run(accesses: Accesses, slots: int) -> list[bool]:
        kept, hits = kind(slots), []
        for key in accesses:
            hits.append(kept.get(key, False))
            if not hits[-1]:
                kept[key] = True
        return hits

    return run


def slru(accesses: Accesses, slots: int, share: float = 0.8) -> list[bool]:
    """Two LRU lists, newest last."""
    probation: list[int] = []
    protected: list[int] = []
    hits = []
    for key in accesses:
        hits.append(key in probation or key in protected)
        if hits[-1]:
            (probation if key in probation else protected).remove(key)
            protected.append(key)
            if len(protected) > int(share * slots):
                probation.append(protected.pop(0))
        else:
            if len(probation) + len(protected) == slots:
                (probation or protected).pop(0)
            probation.append(key)
    return hits


def sieve(accesses: Accesses, slots: int) -> list[bool]:
    """Algorithm 1 of Zhang et al. 2024: a queue, newest first, and a hand that walks from its end to its head."""
    queue: list[int] = []
    visited: set[int] = set()
    hand: int | None = None  # a key
    hits = []
    for key in accesses:
        hits.append(key in queue)
        if hits[-1]:
            visited.add(key)
            continue
        if len(queue) == slots:
            place = len(queue) - 1 if hand is None else queue.index(hand)
            while queue[place] in visited:
                visited.remove(queue[place])
                place = (place - 1) % len(queue)
            hand = queue[place - 1] if place > 0 else None
            del queue[place]
        queue.insert(0, key)
    return hits


def s3fifo(accesses: Accesses, slots: int) -> list[bool]:
    """Algorithm 1 of Yang et al. 2023, but that a promotion into a full main queue evicts nothing by itself."""
    small_room = max(1, slots // 10)
    small: deque[int] = deque()  # newest left
    main: deque[int] = deque()
    ghost: deque[int] = deque(maxlen=slots - small_room)
    uses: dict[int, int] = {}

    def evict_from_main() -> None:
        while True:
            key = main.pop()
            if uses[key] == 0:
                del uses[key]
                return
            uses[key] -= 1
            main.appendleft(key)

    def evict_from_small() -> None:
        while small:
            key = small.pop()
            if uses[key] < 2:
                ghost.appendleft(key)
                del uses[key]
                return
            uses[key] = 0
            main.appendleft(key)
        evict_from_main()

    hits = []
    for key in accesses:
        hits.append(key in uses)
        if hits[-1]:
            uses[key] = min(uses[key] + 1, 3)
            continue
        if len(uses) == slots:
            evict_from_small() if len(small) >= small_room else evict_from_main()
        if key in ghost:
            ghost.remove(key)
            main.appendleft(key)
        else:
            small.appendleft(key)
        uses[key] = 0
    return hits


def arc(accesses: Accesses, c: int) -> list[bool]:
    """Fig. 4 of Megiddo & Modha 2003, its four cases; lists oldest first."""
    t1: list[int] = []
    t2: list[int] = []
    b1: list[int] = []
    b2: list[int] = []
    p = 0.0

    def replace(x: int) -> None:
        if t1 and ((x in b2 and len(t1) == p) or len(t1) > p):
            b1.append(t1.pop(0))
        else:
            b2.append(t2.pop(0))

    hits = []
    for x in accesses:
        hits.append(x in t1 or x in t2)
        if hits[-1]:
            (t1 if x in t1 else t2).remove(x)
            t2.append(x)
        elif x in b1:
            p = min(c, p + max(len(b2) / len(b1), 1))
            replace(x)
            b1.remove(x)
            t2.append(x)
        elif x in b2:
            p = max(0, p - max(len(b1) / len(b2), 1))
            replace(x)
            b2.remove(x)
            t2.append(x)
        else:
            if len(t1) + len(b1) == c:
                if len(t1) < c:
                    b1.pop(0)
                    replace(x)
                else:
                    t1.pop(0)
            elif len(t1) + len(b1) + len(t2) + len(b2) >= c:
                if len(t1) + len(b1) + len(t2) + len(b2) == 2 * c:
                    b2.pop(0)
                replace(x)
            t1.append(x)
    return hits


def lfu_decayed(accesses: Accesses, slots: int, half_life: float = 100.0) -> list[bool]:
    """The sum of weights computed anew for every choice, by its definition."""
    kept: set[int] = set()
    hits = []
    for now, key in enumerate(accesses):
        hits.append(key in kept)
        if not hits[-1] and len(kept) == slots:
            weight = {k: sum(2 ** ((t - now) / half_life) for t in range(now) if accesses[t] == k) for k in kept}
            kept.remove(min(kept, key=lambda k: weight[k]))
        kept.add(key)
    return hits


def static(accesses: Accesses, slots: int, popularity: Sequence[int]) -> list[bool]:
    """The least popular leaves."""
    kept: set[int] = set()
    hits = []
    for key in accesses:
        hits.append(key in kept)
        if not hits[-1] and len(kept) == slots:
            kept.remove(min(kept, key=lambda k: (popularity[k], k)))
        kept.add(key)
    return hits


def min_with_bypass(accesses: Accesses, slots: int) -> tuple[list[bool], list[int]]:
    """Belady's MIN of a cache that may refuse, among equals the lowest key; and what had gone last, -1 if nothing."""
    kept: set[int] = set()
    hits, gone = [], [-1]
    for now, key in enumerate(accesses):
        later = list(accesses[now + 1 :])
        hits.append(key in kept)
        kept.add(key)
        gone.append(gone[-1])
        if len(kept) > slots:
            gone[-1] = min(kept, key=lambda k: (-later.index(k) if k in later else -len(accesses), k))
            kept.remove(gone[-1])
    return hits, gone[:-1]


def fewest_misses(accesses: Accesses, slots: int, *, may_refuse: bool = False) -> int:
    """By trying everything."""

    @cache
    def best(now: int, kept: frozenset[int]) -> int:
        if now == len(accesses):
            return 0
        key = accesses[now]
        if key in kept:
            return best(now + 1, kept)
        choices = [kept - {victim} | {key} for victim in kept] if len(kept) == slots else [kept | {key}]
        if may_refuse:
            choices.append(kept)
        return 1 + min(best(now + 1, choice) for choice in choices)

    return best(0, frozenset())
