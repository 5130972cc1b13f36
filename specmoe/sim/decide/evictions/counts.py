"""Evictions by counts of uses: least frequently used in four kinds, and popularity that is known beforehand."""

from collections import Counter
from collections.abc import Container
from itertools import count
from math import inf, log2

from specmoe.errors import InputError
from specmoe.sim.decide.eviction import Context, Ranked
from specmoe.sim.decide.evictions.lru import Lru


class Lfu(Ranked):
    """Evicts the expert with the fewest uses since its load; among equals the least recently used.

    It forgets the count of an expert at its eviction; `lfu-perfect` does not.
    """

    source = "textbook (In-Cache-LFU)"

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        self._uses: dict[int, int] = {}
        self._clock = count()

    def insert(self, key: int, event: int) -> None:
        """Count from one."""
        self._uses[key] = 1
        self.place(key, 1, next(self._clock))

    def use(self, key: int, event: int, again: bool) -> None:
        """Count it."""
        self._uses[key] += again
        self.place(key, self._uses[key], next(self._clock))


class LfuPerfect(Ranked):
    """Evicts the expert with the fewest uses so far; among equals the least recently used.

    An evicted expert keeps its count. Web caches forget it to save memory (In-Cache-LFU, here `lfu`); a model has few
    experts, so MoE runtimes count all of them. An expert that was prefetched and never used has no uses.
    """

    source = "Perfect-LFU, Breslau et al., INFOCOM 1999"

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        self._uses = Counter[int]()
        self._clock = count()

    def insert(self, key: int, event: int) -> None:
        """Where its earlier uses put it."""
        self.place(key, self._uses[key], next(self._clock))

    def use(self, key: int, event: int, again: bool) -> None:
        """Count it."""
        self._uses[key] += 1
        self.place(key, self._uses[key], next(self._clock))


class LfuDecayed(Ranked):
    """Evicts the expert with the smallest sum of uses, where a use halves in weight every `half_life` steps.

    LRFU (Lee et al., IEEE Transactions on Computers 2001) with lambda = 1 / `half_life`: LFU for a long one, LRU for a
    short one. An event is 1 / L of a step, so a half-life means the same whatever the number of layers L. Counts
    outlive evictions: experts are few. Loads do not count, so a key never used goes first.

    The default half-life was chosen on the bundled train splits of decoding, with slots for 20, 30 and 50 % of the
    experts: of 2, 4, .. 128 steps, 16 has at most 0.7 points fewer hits than the best on switch-mini-128 (2 steps) and
    at most 0.2 on decoder-mini-64 (8 steps), and 64 steps have up to 7.
    """

    source = "textbook; LRFU (Lee et al. 2001) is its general form"

    def __init__(self, context: Context, capacity: int, half_life: float = 16.0) -> None:
        super().__init__(context, capacity)
        layers = context.workload.meta.num_layers
        if not half_life * layers >= 1:
            raise InputError(f"half_life {half_life}: at least {1 / layers:.3g} steps (one event) expected")
        self.half_life = half_life * layers  # events
        self._weight: dict[int, float] = {}  # log2 of the sum, seen from event 0: all decay alike, so it ranks them

    def insert(self, key: int, event: int) -> None:
        """Where its earlier uses put it."""
        self.place(key, self._weight.get(key, -inf))

    def use(self, key: int, event: int, again: bool) -> None:
        """Add one use of today's weight."""
        now = event / self.half_life
        self._weight[key] = now + log2(1 + 2 ** (self._weight.get(key, -inf) - now))
        self.place(key, self._weight[key])


class Lfru(Lru):
    """Evicts the expert with the smallest ratio of uses to age; among equals the least recently used.

    The ratio is uses / (steps since the last use + 1), where uses count from the load. It is the rule of the expert
    cache proposed for vLLM, which also forgets an expert at its eviction, and where each layer has a cache of its own,
    as in the policy `on-demand-lfru`. Where layers share slots, an event is 1 / L of a step, L the number of layers.
    """

    source = "LFRU, vllm-project/vllm pull request 37190"

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        self._layers = context.workload.meta.num_layers
        self._uses: dict[int, int] = {}
        self._last: dict[int, int] = {}  # event of the last use, or of the load

    def insert(self, key: int, event: int) -> None:
        """Count from one."""
        super().insert(key, event)
        self._uses[key], self._last[key] = 1, event

    def use(self, key: int, event: int, again: bool) -> None:
        """Count it."""
        super().use(key, event, again)
        self._uses[key] += again
        self._last[key] = event

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The smallest ratio."""
        now = event + self._layers
        free = (other for other in self._order if other not in pinned)
        return min(free, key=lambda other: self._uses[other] / (now - self._last[other]), default=None)


class Static(Ranked):
    """Evicts the expert used least in the train split; among equals the lowest key.

    It is what runtimes do that pin the experts that a profile found hot: once these are resident, the others take turns
    in the slots that a demand needs. The policy `static` has them resident before the first step (placement
    `popular-first`): they are fetched when the model starts, which no step and no count of loads includes.
    """

    source = "popularity placement"

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        known = context.popularity
        self.popularity: dict[int, int] = {} if known is None else dict(enumerate(known.reshape(-1).tolist()))

    def insert(self, key: int, event: int) -> None:
        """Where its popularity puts it."""
        self.place(key, self.popularity.get(key, 0))

    def use(self, key: int, event: int, again: bool) -> None:
        """Changes nothing."""
