"""Least frequently and recently used: frequency over age."""

from collections.abc import Container

from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.evictions.lru import Lru


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
