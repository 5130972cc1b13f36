"""The director's kernel: its books, and the lists and heaps of keys in them, compiled by numba.

A row of `of` is a key, or the head of a list of keys: a dict that Python reads oldest first is a ring of rows. Policies
that rank keys by numbers keep them in a heap; its order is total, so that the lowest is the one that Python finds.
Import this module only where it is used, since it needs numba.
"""

from typing import Any, NamedTuple

from specmoe.sim.kernels import inlined, jit

# Columns of `of`. A head counts the keys of its list in COUNT; FIXED is 1 of keys that never leave.
SLOT, LOADED, UNUSED, PINNED, OLDER, YOUNGER, LIST, COUNT, TIE, PLACE, FIXED = range(11)
# Columns of a pool's row; its heap and its free slots begin at START.
CAPACITY, FREE, RANKED, ROOM, GHOSTS, CLOCK, B1_BEFORE, B2_BEFORE, GIVEN_UP, HEAD, START, WIDTH = range(12)
LOADS, WAITING, PINS, FIRST = range(4)  # of the last row, the totals; FIRST is the first load of the call
RANK, KNOWN, REAL = range(3)  # columns of `real`
SHARE = RANK  # of T1, in a pool's row (arc)
HALF_LIFE, BASE = range(2)  # in the last row: events, and 2, the base of weights (lfu-decayed)
NONE = -1

helper = jit(no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)


class Books(NamedTuple):
    """What the director and its evictions keep: rows for keys, heads, pools, arrivals and the totals, in this order.

    KNOWN of a key is its next use (belady), the logarithm of its weight (lfu-decayed) or its popularity (static).
    Where experts are given up, arrivals are the resident keys of each layer: row `arrivals + key`, then the heads.
    """

    eviction: int
    layers: int
    experts: int
    per_layer: int  # 1 if each layer has its own pool, else 0
    first_pool: int
    arrivals: int
    of: Any  # [rows, WIDTH]
    real: Any  # [rows, REAL]
    heap: Any  # [slots], ranked keys
    free: Any  # [slots], free slots


@inlined
def pool_of(books: Any, layer: int) -> Any:
    """The row of the pool that a layer uses."""
    return books.first_pool + books.per_layer * layer


@helper
def append(of: Any, head: int, key: int) -> None:
    """Put a key at the end of a list."""
    newest = of[head, OLDER]
    of[newest, YOUNGER] = of[head, OLDER] = key
    of[key, OLDER], of[key, YOUNGER], of[key, LIST] = newest, head, head
    of[head, COUNT] += 1


@helper
def unlink(of: Any, key: int) -> None:
    """Take a key out of its list."""
    older, younger = of[key, OLDER], of[key, YOUNGER]
    of[older, YOUNGER], of[younger, OLDER] = younger, older
    of[of[key, LIST], COUNT] -= 1
    of[key, LIST] = NONE


@helper
def shift(of: Any, head: int, to: int) -> None:
    """Move the oldest key of a list to the end of another."""
    key = of[head, YOUNGER]
    unlink(of, key)
    append(of, to, key)


@helper
def first_unpinned(of: Any, head: int, pins: int) -> int:
    """The oldest key of a list that is not pinned; NONE if all are."""
    key = of[head, YOUNGER]
    while key != head and of[key, PINNED] == pins:
        key = of[key, YOUNGER]
    return NONE if key == head else key


@helper
def first_with(of: Any, head: int, pins: int, least: int, most: int) -> int:
    """The first key that is not pinned and whose count is `least` to `most`."""
    key = of[head, YOUNGER]
    while key != head and (of[key, PINNED] == pins or not least <= of[key, COUNT] <= most):
        key = of[key, YOUNGER]
    return NONE if key == head else key


@helper
def drop(books: Any, pool: int, key: int) -> None:
    """Take a key out of the heap."""
    of, heap, start = books.of, books.heap, books.of[pool, START]
    place = of[key, PLACE]
    of[key, PLACE] = NONE
    of[pool, RANKED] -= 1
    last = heap[start + of[pool, RANKED]]
    if last != key:
        heap[start + place] = last
        of[last, PLACE] = place
        sift(books, pool, place)


@helper
def lowest(books: Any, pool: int, pins: int) -> int:
    """The lowest key that is not pinned; pinned ones leave the heap and come back."""
    of, heap, start = books.of, books.heap, books.of[pool, START]
    everything = of[pool, RANKED]
    while of[pool, RANKED] and of[heap[start], PINNED] == pins:
        key = heap[start]
        drop(books, pool, key)
        heap[start + of[pool, RANKED]] = key
    found = heap[start] if of[pool, RANKED] else NONE
    while of[pool, RANKED] < everything:
        place = of[pool, RANKED]
        of[heap[start + place], PLACE] = place
        of[pool, RANKED] += 1
        sift(books, pool, place)
    return found


@helper
def sift(books: Any, pool: int, place: int) -> None:
    """Move a key of the heap to where its rank belongs."""
    of, heap, start, count = books.of, books.heap, books.of[pool, START], books.of[pool, RANKED]
    key = heap[start + place]
    while place and _before(books, key, heap[start + (place - 1) // 2]):
        heap[start + place] = heap[start + (place - 1) // 2]
        of[heap[start + place], PLACE] = place
        place = (place - 1) // 2
    while 2 * place + 1 < count:
        child = 2 * place + 1
        if child + 1 < count and _before(books, heap[start + child + 1], heap[start + child]):
            child += 1
        if not _before(books, heap[start + child], key):
            break
        heap[start + place] = heap[start + child]
        of[heap[start + place], PLACE] = place
        place = child
    heap[start + place] = key
    of[key, PLACE] = place


@inlined
def _before(books: Any, key: int, other: int) -> bool:
    if books.real[key, RANK] != books.real[other, RANK]:
        return bool(books.real[key, RANK] < books.real[other, RANK])
    if books.of[key, TIE] != books.of[other, TIE]:
        return bool(books.of[key, TIE] < books.of[other, TIE])
    return key < other
