"""The director's kernel: the eviction policies that it knows, compiled by numba.

Read it beside `evictions/`: each function is that method of all of them. Import this module only where it is used,
since it needs numba.
"""

import math
from typing import Any

from specmoe.sim.decide.books_kernel import (
    B1_BEFORE,
    B2_BEFORE,
    BASE,
    CAPACITY,
    CLOCK,
    COUNT,
    GHOSTS,
    GIVEN_UP,
    HALF_LIFE,
    HEAD,
    KNOWN,
    LIST,
    NONE,
    PINNED,
    PINS,
    PLACE,
    RANK,
    RANKED,
    ROOM,
    SHARE,
    START,
    TIE,
    YOUNGER,
    append,
    drop,
    first_unpinned,
    first_with,
    helper,
    lowest,
    pool_of,
    shift,
    sift,
    unlink,
)
from specmoe.sim.kernels import inlined

LRU, FIFO, SLRU, ARC, SIEVE, S3FIFO, LFRU, LEAST_STALE = range(8)
LFU, LFU_PERFECT, LFU_DECAYED, STATIC, BELADY, BELADY_BYPASS = range(8, 14)
FIRST_RANKED = LFU
MOST_USES = 3  # of S3-FIFO


@helper
def insert(books: Any, key: int, event: int) -> None:
    """Take note of a key that gets a slot."""
    eviction, of, pool = books.eviction, books.of, pool_of(books, key // books.experts)
    head = of[pool, HEAD]
    if eviction >= FIRST_RANKED:
        if eviction == LFU:
            of[key, COUNT] = 1
        _place(books, pool, key)
    elif eviction == ARC:
        books.real[pool, SHARE] = _adapted(books, pool, key)
        to = head if of[key, LIST] == NONE else head + 1
        if to != head:
            unlink(of, key)
        append(of, to, key)
        if of[head, COUNT] + of[head + 2, COUNT] > of[pool, CAPACITY]:
            unlink(of, of[head + 2, YOUNGER])
        resident, remembered = of[head, COUNT] + of[head + 1, COUNT], of[head + 2, COUNT] + of[head + 3, COUNT]
        if resident + remembered > 2 * of[pool, CAPACITY]:
            unlink(of, of[head + 3, YOUNGER])
        of[pool, B1_BEFORE], of[pool, B2_BEFORE] = of[head + 2, COUNT], of[head + 3, COUNT]
    elif eviction == S3FIFO:
        to = head if of[key, LIST] == NONE else head + 1
        if to != head:
            unlink(of, key)
        append(of, to, key)
        of[key, COUNT] = 0
    elif eviction == SIEVE:
        append(of, head + 1, key)
    elif eviction == LEAST_STALE:
        append(of, head + key // books.experts, key)
        of[key, COUNT] = event // books.layers + (key // books.experts < event % books.layers)
    else:
        append(of, head, key)
        of[key, COUNT], of[key, TIE] = 1, event


@helper
def used(books: Any, pool: int, key: int, event: int, again: bool) -> None:
    """Take note of a use, `again` if it is not the first since the load."""
    eviction, of = books.eviction, books.of
    head, inside = of[pool, HEAD], of[key, LIST]
    if eviction == LRU:
        unlink(of, key)
        append(of, head, key)
    elif eviction == LFRU:
        unlink(of, key)
        append(of, head, key)
        of[key, COUNT] += again
        of[key, TIE] = event
    elif eviction == SLRU:
        unlink(of, key)
        append(of, head + again, key)
        if of[head + 1, COUNT] > of[pool, ROOM]:
            oldest = of[head + 1, YOUNGER]
            unlink(of, oldest)
            append(of, head, oldest)
    elif eviction == ARC:
        unlink(of, key)
        append(of, head + 1 if again else inside, key)
    elif eviction == SIEVE:
        of[key, COUNT] |= again
    elif eviction == S3FIFO:
        of[key, COUNT] = min(of[key, COUNT] + again, MOST_USES)
    elif eviction == LEAST_STALE:
        of[key, COUNT] = event // books.layers
    elif eviction == LFU_DECAYED:
        now = event / books.real[-1, HALF_LIFE]
        books.real[key, KNOWN] = now + math.log2(1.0 + books.real[-1, BASE] ** (books.real[key, KNOWN] - now))
        _place(books, pool, key)
    elif eviction >= FIRST_RANKED and eviction != STATIC:
        of[key, COUNT] += again or eviction == LFU_PERFECT
        _place(books, pool, key)
        if eviction == BELADY_BYPASS:
            if of[pool, GIVEN_UP] == key:
                of[pool, GIVEN_UP] = NONE
            if of[pool, GIVEN_UP] == NONE and of[pool, RANKED] == of[pool, CAPACITY]:
                of[pool, GIVEN_UP] = books.heap[of[pool, START]]


@helper
def remove(books: Any, pool: int, key: int) -> None:
    """Forget a key that leaves its slot."""
    eviction, of = books.eviction, books.of
    head, inside = of[pool, HEAD], of[key, LIST]
    if eviction >= FIRST_RANKED:
        drop(books, pool, key)
        if of[pool, GIVEN_UP] == key:
            of[pool, GIVEN_UP] = NONE
    elif eviction == ARC:
        unlink(of, key)
        append(of, inside + 2, key)
    elif eviction == SIEVE:
        _move_hand_past(of, head, key)
    elif eviction == S3FIFO:
        if of[head, COUNT] >= of[pool, ROOM]:
            _promote_until(of, head, key)
        if of[key, LIST] == head:
            unlink(of, key)
            append(of, head + 2, key)
            if of[head + 2, COUNT] > of[pool, GHOSTS]:
                unlink(of, of[head + 2, YOUNGER])
        else:
            _turn_to(of, head + 1, key)
            unlink(of, key)
    else:
        unlink(of, key)


@helper
def victim(books: Any, pool: int, key: int, event: int) -> int:
    """The resident key to evict first for `key` among those not pinned; NONE if all are pinned."""
    eviction, of, pins = books.eviction, books.of, books.of[-1, PINS]
    head = of[pool, HEAD]
    if eviction >= FIRST_RANKED:
        given_up = of[pool, GIVEN_UP]
        return given_up if given_up != NONE and of[given_up, PINNED] != pins else lowest(books, pool, pins)
    if eviction == LFRU:
        return _smallest_ratio(of, head, pins, event + books.layers)
    if eviction == LEAST_STALE:
        return _first_stale(books, head, pins, event)
    if eviction == S3FIFO:
        return _first_on_trial(of, head, of[pool, ROOM], pins)
    if eviction == SIEVE:
        found = first_with(of, head + 1, pins, 0, 0)
        found = first_with(of, head, pins, 0, 0) if found == NONE else found
        found = first_with(of, head + 1, pins, 0, 1) if found == NONE else found
        return first_with(of, head, pins, 0, 1) if found == NONE else found
    first, second = head, head + 1
    if eviction == ARC:
        excess = of[head, COUNT] - _adapted(books, pool, key)
        if excess < 0 or (excess == 0 and of[key, LIST] != head + 3):
            first, second = second, first
    found = first_unpinned(of, first, pins)
    return first_unpinned(of, second, pins) if found == NONE and eviction in (SLRU, ARC) else found


@inlined
def may_replace(books: Any, victim: int, key: int) -> Any:
    """Whether `key` may take the slot of the victim without being waited for."""
    return books.eviction < BELADY or books.real[victim, KNOWN] > books.real[key, KNOWN]


@inlined
def _adapted(books: Any, pool: int, key: int) -> Any:
    """The share of T1 that a load of this key leads to (arc)."""
    head, p = books.of[pool, HEAD], books.real[pool, SHARE]
    b1, b2 = books.of[pool, B1_BEFORE], books.of[pool, B2_BEFORE]
    if books.of[key, LIST] == head + 2:
        return min(float(books.of[pool, CAPACITY]), p + max(1.0, b2 / max(1, b1)))
    if books.of[key, LIST] == head + 3:
        return max(0.0, p - max(1.0, b1 / max(1, b2)))
    return p


@inlined
def _move_hand_past(of: Any, passed: int, key: int) -> None:
    """Sieve: the keys before it are spared once."""
    ahead = passed + 1
    if of[key, COUNT]:  # all were visited, and the hand went round once
        _forget_visits(of, passed)
        _forget_visits(of, ahead)
    if of[key, LIST] == passed:
        _forget_visits(of, ahead)
        while of[ahead, COUNT]:
            shift(of, ahead, passed)
        while of[passed, COUNT]:
            shift(of, passed, ahead)
    while of[ahead, YOUNGER] != key:
        of[of[ahead, YOUNGER], COUNT] = 0
        shift(of, ahead, passed)
    of[key, COUNT] = 0
    unlink(of, key)
    if not of[ahead, COUNT]:
        while of[passed, COUNT]:
            shift(of, passed, ahead)


@inlined
def _forget_visits(of: Any, head: int) -> None:
    key = of[head, YOUNGER]
    while key != head:
        of[key, COUNT] = 0
        key = of[key, YOUNGER]


@inlined
def _promote_until(of: Any, small: int, key: int) -> None:
    other = of[small, YOUNGER]
    while other != small:
        following = of[other, YOUNGER]
        if other == key and of[other, COUNT] < 2:
            return
        if of[other, COUNT] > 1:
            unlink(of, other)
            append(of, small + 1, other)
            of[other, COUNT] = 0
        other = following


@inlined
def _turn_to(of: Any, main: int, key: int) -> None:
    """Take one use from each key before it, and as many from all as full turns it took to find it unused."""
    turns = of[key, COUNT]
    other = of[main, YOUNGER]
    while turns and other != main:
        of[other, COUNT] = max(0, of[other, COUNT] - turns)
        other = of[other, YOUNGER]
    while of[main, YOUNGER] != key:
        other = of[main, YOUNGER]
        shift(of, main, main)
        of[other, COUNT] = max(0, of[other, COUNT] - 1)


@inlined
def _first_on_trial(of: Any, small: int, room: int, pins: int) -> int:
    """S3-FIFO: the first that failed its trial if the small queue is full, else the main queue's next."""
    over = of[small, COUNT] >= room
    found = first_with(of, small, pins, 0, 1) if over else NONE
    for uses in range(MOST_USES + 1):
        found = first_with(of, small + 1, pins, uses, uses) if found == NONE else found
        if found == NONE and over and uses == 0:
            found = first_with(of, small, pins, 2, MOST_USES)
    return first_unpinned(of, small, pins) if found == NONE else found


@inlined
def _smallest_ratio(of: Any, head: int, pins: int, now: int) -> int:
    """LFRU: the fewest uses for its age."""
    found, least = NONE, math.inf
    key = of[head, YOUNGER]
    while key != head:
        if of[key, PINNED] != pins:
            ratio = of[key, COUNT] / (now - of[key, TIE])
            if ratio < least:
                found, least = key, ratio
        key = of[key, YOUNGER]
    return found


@inlined
def _first_stale(books: Any, head: int, pins: int, event: int) -> int:
    """Least-Stale: the layer furthest ahead first; this pass's only once none is stale."""
    step, layer = event // books.layers, event % books.layers
    for last in (step - 1, step + 1):
        for back in range(books.layers):
            found = first_with(books.of, head + (layer - back) % books.layers, pins, -1, last)
            if found != NONE:
                return found
    return NONE


@helper
def _place(books: Any, pool: int, key: int) -> None:
    """Give a key its rank, be it new or resident."""
    eviction, of, heap = books.eviction, books.of, books.heap
    if eviction <= LFU_PERFECT:
        of[key, TIE] = of[pool, CLOCK]
        of[pool, CLOCK] += 1
    rank = -books.real[key, KNOWN] if eviction >= BELADY else books.real[key, KNOWN]
    books.real[key, RANK] = of[key, COUNT] if eviction <= LFU_PERFECT else rank
    if of[key, PLACE] == NONE:
        of[key, PLACE] = of[pool, RANKED]
        heap[of[pool, START] + of[pool, RANKED]] = key
        of[pool, RANKED] += 1
    sift(books, pool, of[key, PLACE])
