"""Eviction by predicted next use."""

from collections.abc import Container, Iterable

from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.evictions.lru import Lru


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
