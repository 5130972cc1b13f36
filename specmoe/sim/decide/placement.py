"""Placement: experts that hold slots from the start, layers whose experts stay in RAM, and slots of several sizes.

A placement is text, `NAME` or `NAME:NUMBER`:

    cpu-all         no expert is ever in VRAM
    cpu-first:20    the experts of the first 20 layers stay in RAM, all others are in VRAM
    cpu-last:20     likewise of the last 20
    gpu-uniform:0.3 the first experts of each layer are in VRAM, 30 % of all experts
    gpu-popular:0.3 the most popular experts of the train split are in VRAM, of all layers alike
    popular-first   the most popular experts of the train split fill the slots at first; none without a train split

Experts of `popular-first` may be evicted; those of other placements never leave. Fetching them is a part of starting
the model: it is no load, and no step waits for it. Without its number a placement fills the slots: as few layers as
possible stay in RAM, as many experts as fit are in VRAM.

A slot holds one expert of its size, so where a model's layers are quantised differently memory is never cut into pieces
that fit nobody. Layers whose experts are equally large share the slots of that size. Slots are dealt so that every size
holds the same share of its experts: the next slot goes to the size that has the smallest share so far. Then any number
of slots says how many there are of each size, one slot more never takes one away, and a budget of bytes is the most
slots that fit into it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, hint
from specmoe.sim.decide.misses import named, whole


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


PLACEMENTS = ("cpu-all", "cpu-first", "cpu-last", "gpu-uniform", "gpu-popular", "popular-first")
FIXED = ("cpu-", "gpu-")  # beginnings of placements whose experts never leave
Popularity = Callable[[], NDArray[np.int64] | None]


class Model(NamedTuple):
    """What is placed."""

    layers: int
    experts: int  # of each layer
    sizes: Sizes | None = None  # of experts; None: all alike

    @property
    def keys(self) -> int:
        """Number of experts of all layers."""
        return self.layers * self.experts

    def fits(self, kept: Sequence[int], slots: int) -> bool:
        """Whether the bytes of the slots hold every expert of the layers that are kept in VRAM."""
        small = len(kept) * self.experts <= slots
        if self.sizes is None:
            return small
        return small and sum(self.sizes.layers[layer] for layer in kept) * self.experts <= self.sizes.bytes_of(slots)

    def within(self, keys: Sequence[int], count: int, slots: int, reserve: int) -> list[int]:
        """The first `count` of the keys; of several sizes, as many of each as slots leave beside those in reserve."""
        if self.sizes is None:
            return list(keys[:count])
        of = self.sizes.layers
        left = {size: own - min(reserve, of.count(size)) for size, own in self.sizes.slots_of(slots).items()}
        found = list[int]()
        for key in keys:
            size = of[key // self.experts]
            if left[size] > 0 and len(found) < count:
                left[size] -= 1
                found.append(key)
        return found


class Placed(NamedTuple):
    """Keys that are resident throughout, layers whose experts never are, and keys that take free slots at first."""

    resident: list[int]
    in_ram: frozenset[int]
    at_first: tuple[int, ...] = ()  # in this order, as long as slots are free


def placed(text: str, model: Model, slots: int, reserve: int, popularity: Popularity) -> Placed:
    """The placement of a model on `slots` slots, of which `reserve` are left for loads where experts of any layer may
    be loaded; raises InputError where slots are too few, and for wrong text.
    """
    name, number = named(text)
    if not text:
        return Placed([], frozenset())
    if name not in PLACEMENTS or (name in ("cpu-all", "popular-first") and number):
        raise InputError(f"placement {text!r}: {hint(text, PLACEMENTS)}")
    if name.startswith("cpu-"):
        return _by_layers(text, model, slots)
    if name == "popular-first":
        counts = popularity()
        return Placed([], frozenset(), () if counts is None else tuple(_by_popularity(counts)))
    if slots < reserve:
        raise InputError(f"{slots} slots: at least {reserve} expected, for misses that are loaded")
    count = _share(text, number, model.keys, slots - reserve)
    counts = popularity() if name == "gpu-popular" else None
    if counts is not None or name == "gpu-popular":
        known = np.zeros(model.keys, np.int64) if counts is None else counts
        return Placed(model.within(_by_popularity(known), count, slots, reserve), frozenset())
    turn = np.arange(model.keys).reshape(model.layers, model.experts).T.reshape(-1)  # an expert of each layer in turn
    return Placed(model.within(turn.tolist(), count, slots, reserve), frozenset())


def _by_popularity(counts: NDArray[np.int64]) -> list[int]:
    """All keys, the most popular first, of equals the lowest."""
    order: list[int] = np.argsort(-counts.reshape(-1), kind="stable").tolist()
    return order


def layers_in_ram(text: str, model: Model, slots: int) -> int:
    """Number of layers whose experts a placement by layers leaves in RAM: at most all."""
    name, number = named(text)
    if name == "cpu-all":
        return model.layers
    if not number:
        return next(count for count in range(model.layers + 1) if model.fits(_kept(name, model, count), slots))
    return min(model.layers, whole(f"placement {text!r}", number))


def _kept(name: str, model: Model, count: int) -> range:
    """The layers that stay in VRAM where `count` layers are in RAM."""
    return range(model.layers - count) if name == "cpu-last" else range(count, model.layers)


def _by_layers(text: str, model: Model, slots: int) -> Placed:
    count, name = layers_in_ram(text, model, slots), named(text)[0]
    kept = _kept(name, model, count)
    if not model.fits(kept, slots):
        fewest = layers_in_ram(name, model, slots)
        raise InputError(
            f"placement {text!r}: the experts of {len(kept)} layers need {len(kept) * model.experts} slots: there are "
            f"{slots}: {fewest} or more layers in RAM expected"
        )
    in_ram = frozenset(range(model.layers)) - frozenset(kept)
    return Placed([key for key in range(model.keys) if key // model.experts not in in_ram], in_ram)


def _share(text: str, number: str, keys: int, slots: int) -> int:
    """Number of experts in VRAM; as many as there are slots without a number."""
    if not number:
        return min(slots, keys)
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"placement {text!r}: a share of all experts, 0 to 1, expected behind the colon")
    count = int(share * keys)
    if count > slots:
        raise InputError(
            f"placement {text!r}: {count} experts need as many slots: there are {slots}: a share of at most "
            f"{1000 * slots // keys / 1000} expected"
        )
    return count
