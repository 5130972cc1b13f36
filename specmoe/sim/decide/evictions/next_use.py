"""Evictions by an expert's next use: Belady's optimum, which peeks, its variant that may bypass, and predicted use."""

from collections.abc import Container, Iterable

from specmoe.sim.decide.eviction import Context, Ranked
from specmoe.sim.decide.evictions.lru import Lru


class Belady(Ranked):
    """Evicts the expert whose next use is furthest away; among equals the lowest key. It peeks.

    A demand is always admitted: an expert needs a slot to compute in. A prefetch is admitted only if it is needed
    before what it replaces.
    """

    source = "Belady 1966"

    peeks = True

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        self._context = context

    def insert(self, key: int, event: int) -> None:
        """Look ahead."""
        self.place(key, -self._next_use(key, event))

    def use(self, key: int, event: int, again: bool) -> None:
        """Look ahead anew."""
        self.place(key, -self._next_use(key, event))

    def _next_use(self, key: int, event: int) -> int:
        return self._context.future.next_use(key, event)

    def may_replace(self, victim: int, key: int, event: int) -> bool:
        """Whether the victim is needed later than the key."""
        return self._next_use(victim, event) > self._next_use(key, event)


class BeladyBypass(Belady):
    """Evicts at once, of what is resident and what was just used, the expert whose next use is furthest away.

    The textbook's MIN with bypass does not admit a key whose next use is later than that of all residents. Here every
    expert needs a slot to compute in, so one of the S slots is a staging slot and the other S - 1 are the textbook's
    cache. The staging slot holds the key that was given up last, and the next load goes there. If that key is demanded
    before then, it is a hit and the choice is made again: the only difference from the textbook with S - 1 slots. It
    never has fewer misses than `belady`, which chooses only when it must.
    """

    source = "Belady 1966, with bypass"

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        self._capacity = capacity
        self._given_up: int | None = None

    def use(self, key: int, event: int, again: bool) -> None:
        """Choose what to give up, unless the last choice still stands."""
        super().use(key, event, again)
        if self._given_up == key:
            self._given_up = None
        if self._given_up is None and len(self._order) == self._capacity:
            self._given_up = super().victim(key, (), event)

    def remove(self, key: int) -> None:
        """Forget it."""
        super().remove(key)
        if self._given_up == key:
            self._given_up = None

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """What was given up; else Belady's choice."""
        if self._given_up is not None and self._given_up not in pinned:
            return self._given_up
        return super().victim(key, pinned, event)


class Predicted(Lru):
    """Evicts the expert predicted with the least confidence for coming layers; among equals the least recently used.

    As MoE-Infinity (Xue et al. 2024) ranks its cache by predicted activation, but without its decay by layer: nearer
    layers do not count more. LRU where nothing is predicted.
    """

    source = "predicted next use, e.g. Song et al. 2024"
    reads_predictions = True

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        self._predictions = context.predictions
        self._layers = context.workload.meta.num_layers
        self._experts = context.workload.meta.num_experts

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The least confident."""
        wanted = self._wanted(event)
        free = (other for other in self._order if other not in pinned)
        return min(free, key=lambda other: wanted.get(other, 0.0), default=None)

    def _wanted(self, event: int) -> dict[int, float]:
        """Confidence of each key that is predicted at this event; the greatest, if several targets want it."""
        wanted: dict[int, float] = {}
        for depth, (experts, confidence) in enumerate(self._rows(event), start=1):
            first = (event + depth) % self._layers * self._experts
            for expert, sure in zip(experts, confidence, strict=True):
                if expert >= 0:
                    wanted[first + expert] = max(sure, wanted.get(first + expert, 0.0))
        return wanted

    def _rows(self, event: int) -> Iterable[tuple[list[int], list[float]]]:
        """Candidates and their confidence, nearest layer first."""
        if self._predictions is None:
            return ()
        experts, confidence = self._predictions.experts[event], self._predictions.confidence[event]
        return zip(experts.tolist(), confidence.tolist(), strict=True)
