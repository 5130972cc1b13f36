"""Slots of several sizes, for a model whose layers are quantised differently.

A slot holds one expert of its size, so memory is never cut into pieces that fit nobody. Layers whose experts are
equally large share the slots of that size. Slots are dealt so that every size holds the same share of its experts: the
next slot goes to the size that has the smallest share so far. Then any number of slots says how many there are of each
size, one slot more never takes one away, and a budget of bytes is the most slots that fit into it.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Sizes(NamedTuple):
    """Bytes of an expert of each layer, and the number of experts of a layer."""

    layers: tuple[int, ...]
    experts: int

    @property
    def differ(self) -> bool:
        """Whether experts of some layers are larger than those of others."""
        return len(set(self.layers)) > 1

    @property
    def distinct(self) -> tuple[int, ...]:
        """Every size once, the smallest first."""
        return tuple(sorted(set(self.layers)))

    @property
    def groups(self) -> list[list[int]]:
        """The layers of every size."""
        return [[layer for layer, own in enumerate(self.layers) if own == size] for size in self.distinct]

    def slots_of(self, slots: int) -> dict[int, int]:
        """How many of the slots have each size; more than there are experts are of the last size dealt."""
        if not self.differ:
            return {self.layers[0]: max(0, slots)}
        sizes, _ = _dealt(self)
        own = {size: int((sizes[: max(0, slots)] == size).sum()) for size in self.distinct}
        own[int(sizes[-1])] += max(0, slots - len(sizes))
        return own

    def bytes_of(self, slots: int) -> int:
        """Bytes of a number of slots."""
        return sum(size * count for size, count in self.slots_of(slots).items())

    def most(self, room: int) -> int:
        """The most slots, at most one for each expert, that `room` bytes hold; 0 if there is no room for one."""
        if not self.differ:
            return min(max(0, room) // self.layers[0], len(self.layers) * self.experts)
        return int(np.searchsorted(_dealt(self)[1], room, "right"))


@cache
def _dealt(sizes: Sizes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The size of each slot in the order of dealing, and the bytes of the slots up to it, [experts of all layers]."""
    counts = [sizes.layers.count(size) * sizes.experts for size in sizes.distinct]
    share = np.concatenate([np.arange(count) / count for count in counts])
    order = np.argsort(share, kind="stable")  # of equal shares, the smallest size first
    dealt = np.repeat(np.array(sizes.distinct, np.int64), counts)[order]
    return dealt, np.cumsum(dealt)
