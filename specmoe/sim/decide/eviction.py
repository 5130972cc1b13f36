"""The interface of an eviction policy: an ordering of resident keys. Slots, pins and counts are the director's.

Each policy is one file in `evictions/` and one line in its table. A policy that knows the future or the popularity of
experts takes them from the `Context` that it is built with.

The base of eviction policies that rank a key by numbers.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.decide.gate import Gate
from specmoe.sim.decide.sizes import Sizes
from specmoe.sim.speculate.predictor import PredictionTable
from specmoe.traces.workload import Workload

NEVER = 1 << 60  # later than any event


class Eviction(ABC):
    """Ranks the resident keys.

    The director calls `insert` when a load is issued, `use` when a demand is served (also the demand that caused the
    load), and `remove` when a key leaves, whoever chose it. A load and the first use of its expert are one access, as
    in a cache that only loads on demand, so policies that count accesses count the uses that come `again`. Keywords of
    the constructor are the policy's configuration.
    """

    peeks: ClassVar[bool] = False  # whether it knows the future
    reads_predictions: ClassVar[bool] = False  # whether it ranks by the table of all predictions
    source: ClassVar[str] = ""  # the paper or program it comes from

    @abstractmethod
    def __init__(self, context: "Context", capacity: int) -> None: ...

    @abstractmethod
    def insert(self, key: int, event: int) -> None:
        """Take note that a key became resident."""

    @abstractmethod
    def use(self, key: int, event: int, again: bool) -> None:
        """Take note that a resident key is used; `again` if it was already used since its load."""

    @abstractmethod
    def remove(self, key: int) -> None:
        """Take note that a resident key leaves."""

    @abstractmethod
    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The resident key to evict first for `key` among those not pinned; None if all are pinned. Changes nothing."""

    def may_replace(self, victim: int, key: int, event: int) -> bool:
        """Whether a *prefetch* of `key` is worth the loss of `victim`."""
        return True


@dataclass(frozen=True)
class Context:
    """Everything that a policy may be built from.

    `learn_popularity` is called when a policy reads `popularity`, and `weigh` when it reads `gate`. `predictions` are
    those the policy prefetches by. `sizes` are given where experts of some layers are larger than those of others.
    """

    slots: int
    workload: Workload
    learn_popularity: Callable[[], NDArray[np.int64] | None] = lambda: None
    predictions: PredictionTable | None = None
    weigh: Callable[[], Gate] | None = None
    sizes: Sizes | None = None

    @property
    def gate(self) -> Gate:
        """What the routers' weights say of the workload's demand; raises InputError if they are unknown."""
        if self.weigh is None:
            raise InputError("approximate miss rules go by router probabilities: a trace with them expected")
        return self.weigh()

    @cached_property
    def popularity(self) -> NDArray[np.int64] | None:
        """Number of uses of every key in the train split, [L * E]; None if there is no train split."""
        return self.learn_popularity()

    @cached_property
    def future(self) -> "Future":
        """The events of the workload's demand, by key."""
        return Future.of(self.workload)


@dataclass(frozen=True)
class Future:
    """Events at which each key is demanded, for policies that peek."""

    events: dict[int, list[int]]

    @classmethod
    def of(cls, workload: Workload) -> "Future":
        """The events of a workload's demand, by key."""
        order = np.argsort(workload.keys, kind="stable")
        keys, starts = np.unique(workload.keys[order], return_index=True)
        parts = np.split(workload.events[order], starts)[1:]
        return cls({int(k): part.tolist() for k, part in zip(keys, parts, strict=True)})

    def next_use(self, key: int, after: int) -> int:
        """The first event later than `after` that demands the key; NEVER if there is none."""
        events = self.events.get(key, [])
        place = bisect_right(events, after)
        return events[place] if place < len(events) else NEVER


def first_unpinned(keys: Iterable[int], pinned: Container[int]) -> int | None:
    """The first key that is not pinned; None if all are pinned."""
    return next((key for key in keys if key not in pinned), None)


class Ranked(Eviction):
    """Gives up the key of the lowest rank; among equals the lowest key. Policies call `place` when a rank changes."""

    def __init__(self, context: Context, capacity: int) -> None:
        self._entry: dict[int, tuple[float, ...]] = {}  # rank and key
        self._order: list[tuple[float, ...]] = []  # ascending

    def place(self, key: int, *rank: float) -> None:
        """Give a key its rank, be it new or resident."""
        if key in self._entry:
            self._drop(key)
        entry = self._entry[key] = (*rank, key)
        insort(self._order, entry)

    def remove(self, key: int) -> None:
        """Forget it."""
        self._drop(key)

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The lowest."""
        return next((int(entry[-1]) for entry in self._order if entry[-1] not in pinned), None)

    def _drop(self, key: int) -> None:
        del self._order[bisect_left(self._order, self._entry.pop(key))]
