"""What the director asks of a policy: which resident key to evict, and which keys to prefetch.

`Eviction` is the interface of an eviction policy: an ordering of resident keys. Slots, pins and counts are the
director's.

Each policy is a class in `evictions/` and one line in its table. A policy that knows the future or the popularity of
experts takes them from the `Context` that it is built with. `Ranked` is the base of those that rank keys by numbers.

`Gate` is what approximate miss rules go by: these change what a model computes. Decisions count what such a rule
changes: uses that are dropped, deferred or computed from a copy of few bits, and the share of the routers' weights that
these carry. What that does to the quality of a model's output is not measured here.

`Proposals` are the keys that a policy's prefetch rule proposes to prefetch, from predictions or from the future.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.decide.placement import Sizes
from specmoe.sim.decide.policy import Policy, Prefetch
from specmoe.sim.speculate.predictor import PredictionTable
from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.workload import Workload

NEVER = 1 << 60  # later than any event
MILLION = 10**6


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


class Gate(NamedTuple):
    """What the routers' weights say of each demanded expert, [U]; weights of a token's experts add up to 1.

    Of an expert that several tokens use, `before` and `after` are those of the token that needs it most.
    """

    before: NDArray[np.float64]  # sum of the weights of a token's experts that have more weight
    after: NDArray[np.int64]  # number of a token's experts that have less weight
    mass: NDArray[np.int64]  # weight of all its tokens, millionths of a token


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


def gate_of(workload: Workload, block: Block) -> Gate:
    """The weights of a workload's demand; `block` is the trace's. Raises InputError if they were not recorded."""
    meta = workload.meta
    used = block.experts[workload.rows, :, : meta.top_k]
    weights = np.where(used >= 0, block.probs[workload.rows, :, : meta.top_k].astype(np.float64), 0)
    if np.isnan(weights).any():
        raise InputError("approximate miss rules go by router probabilities, which this trace lacks: others expected")
    total = weights.sum(axis=-1, keepdims=True)
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / meta.top_k)
    falling = np.argsort(-weights, axis=-1, kind="stable")
    rank = np.argsort(falling, axis=-1, kind="stable")
    ordered = np.take_along_axis(weights, falling, axis=-1)
    before = np.take_along_axis(np.cumsum(ordered, axis=-1) - ordered, rank, axis=-1)
    after = (used >= 0).sum(axis=-1, keepdims=True) - 1 - rank
    event = workload.step_of_row[:, None, None] * meta.num_layers + np.arange(meta.num_layers)[:, None]
    demanded = workload.events * meta.num_experts + workload.experts  # rising
    place = np.searchsorted(demanded, (event * meta.num_experts + used)[used >= 0])
    least, most = np.full(len(demanded), np.inf), np.zeros(len(demanded), np.int64)
    np.minimum.at(least, place, before[used >= 0])
    np.maximum.at(most, place, after[used >= 0])
    mass = np.bincount(place, weights[used >= 0], minlength=len(demanded))
    return Gate(least, most, np.round(mass * MILLION).astype(np.int64))


class Proposals(Protocol):
    """Keys that a policy proposes to prefetch; `backlog` limits how many prefetched experts may wait unused."""

    backlog: int

    def at(self, event: int) -> list[int]:
        """Keys to prefetch after an event's own demand, most urgent first."""
        ...


class FromPredictions:
    """Proposals of a predictor: the best candidates of the next events, where the run has any."""

    def __init__(self, rule: Prefetch, predictions: PredictionTable, workload: Workload, goes_on: bool = False) -> None:
        self.backlog = rule.backlog
        depth = min(rule.depth, predictions.depth)
        experts = predictions.experts[:, :depth, : rule.limit]
        confidence = predictions.confidence[:, :depth, : rule.limit]
        target = np.add.outer(np.arange(workload.num_events, dtype=np.int32), np.arange(1, depth + 1, dtype=np.int32))
        first = target % workload.meta.num_layers * workload.meta.num_experts  # key of the target layer
        wanted = (experts >= 0) & (confidence >= rule.threshold) & (goes_on | (target < workload.num_events))[..., None]
        self.keys = (first[..., None] + experts)[wanted].data
        self.offsets = np.concatenate([[0], np.cumsum(wanted.sum(axis=(1, 2)))]).data

    def at(self, event: int) -> list[int]:
        """Nearest layer first, best candidate first."""
        return self.keys[self.offsets[event] : self.offsets[event + 1]].tolist()


def proposed_at(
    rule: Prefetch, experts: NDArray[np.int16], confidence: NDArray[np.float32], event: int, meta: TraceMeta
) -> list[int]:
    """Keys that the candidates [D, C] of one event propose, as `FromPredictions` gives them before the last steps."""
    depth = min(rule.depth, len(experts))
    experts, confidence = experts[:depth, : rule.limit], confidence[:depth, : rule.limit]
    first = (event + 1 + np.arange(depth, dtype=np.int32)) % meta.num_layers * meta.num_experts
    keys: list[int] = (first[:, None] + experts)[(experts >= 0) & (confidence >= rule.threshold)].tolist()
    return keys


class FromTheFuture:
    """Proposals of the oracle: the experts that are needed next (Cao et al. 1995). It peeks and needs no prediction."""

    def __init__(self, rule: Prefetch, workload: Workload) -> None:
        self.backlog = rule.backlog
        self.window = rule.limit
        self._keys = workload.keys.data
        self._offsets = workload.offsets.data

    def at(self, event: int) -> list[int]:
        """The next `limit` distinct keys in the order in which they are needed."""
        keys: dict[int, None] = {}
        for key in self._keys[self._offsets[event + 1] :]:
            if len(keys) == self.window:
                break
            keys[key] = None
        return list(keys)


class Nothing:
    """Proposals of a policy that does not prefetch."""

    backlog = 0

    def at(self, event: int) -> list[int]:
        """An empty list."""
        return []


def proposals_of(policy: Policy, predictions: PredictionTable, workload: Workload) -> Proposals:
    """The proposals that a policy's prefetch rule makes from its predictions."""
    if policy.prefetch is None:
        return Nothing()
    if policy.predictor == "oracle":
        return FromTheFuture(policy.prefetch, workload)
    return FromPredictions(policy.prefetch, predictions, workload)
