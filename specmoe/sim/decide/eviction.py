"""What an eviction policy is: an ordering of the keys it holds. Slots, pins and counts are the director's.

One file a policy in `evictions/`, one line in its table. A policy that knows the future or the popularity of experts
takes them from the `Context` it is built with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Container
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from specmoe.traces.workload import Workload

NEVER = 1 << 60


@dataclass(frozen=True)
class Future:
    """When each key is demanded; for policies that peek, and for the oracle."""

    events: dict[int, list[int]]

    @classmethod
    def of(cls, workload: Workload) -> Future:
        """The demand of a workload by key."""
        per_event = np.diff(workload.offsets)
        event = np.repeat(np.arange(workload.num_events), per_event)
        key = (event % workload.meta.num_layers) * workload.meta.num_experts + workload.experts
        order = np.lexsort((event, key))
        keys, starts = np.unique(key[order], return_index=True)
        parts = np.split(event[order], starts[1:])
        return cls({int(k): part.tolist() for k, part in zip(keys, parts, strict=True)})

    def next_use(self, key: int, after: int) -> int:
        """The first event later than `after` that demands the key; NEVER if there is none."""
        events = self.events.get(key, [])
        place = bisect_right(events, after)
        return events[place] if place < len(events) else NEVER


@dataclass(frozen=True)
class Context:
    """What a policy may be built from.

    `popularity` counts the uses of every key in the train split, [L * E]; without one, all are alike.
    """

    slots: int
    workload: Workload
    popularity: NDArray[np.int64] | None = None
    parameters: dict[str, float] = field(default_factory=dict)

    @cached_property
    def future(self) -> Future:
        """The workload's demand by key."""
        return Future.of(self.workload)


class Eviction(ABC):
    """Ranks the resident keys. The director calls `insert` when a load is issued, `use` when a demand is served (also
    for the demand that caused the load), and `remove` when a key leaves, whoever chose it.
    """

    @abstractmethod
    def insert(self, key: int, event: int) -> None:
        """A key became resident."""

    @abstractmethod
    def use(self, key: int, event: int) -> None:
        """A resident key is used."""

    @abstractmethod
    def remove(self, key: int) -> None:
        """A resident key leaves."""

    @abstractmethod
    def victim(self, pinned: Container[int], event: int) -> int | None:
        """The resident key to give up first among those not pinned; None if all are. Changes nothing."""

    def may_replace(self, victim: int, key: int, event: int) -> bool:
        """Whether a *prefetch* of `key` is worth the loss of `victim`."""
        return True
