"""Which keys a policy would prefetch after an event, in order."""

from __future__ import annotations

from typing import Protocol

from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.policy import Policy, Prefetch
from specmoe.sim.speculate.table import PredictionTable
from specmoe.traces.workload import Workload


class Proposals(Protocol):
    """What may be loaded ahead."""

    backlog: int

    def at(self, event: int) -> list[int]:
        """Keys worth loading after the event's own demand, most urgent first."""
        ...


class FromPredictions:
    """The best candidates of the next events."""

    def __init__(self, rule: Prefetch, predictions: PredictionTable, workload: Workload) -> None:
        depth = min(rule.depth, predictions.depth)
        chosen = predictions.experts[:, :depth, : rule.limit]
        confident = predictions.confidence[:, :depth, : rule.limit] >= rule.threshold
        self.backlog = rule.backlog
        self._experts = workload.meta.num_experts
        self._layers = workload.meta.num_layers
        self._last = workload.num_events - 1
        self._candidates = [
            [
                [expert for expert, sure in zip(*target, strict=True) if sure and expert >= 0]
                for target in zip(*both, strict=True)
            ]
            for both in zip(chosen.tolist(), confident.tolist(), strict=True)
        ]

    def at(self, event: int) -> list[int]:
        """Nearest layer first, best candidate first."""
        targets = enumerate(self._candidates[event], start=event + 1)
        return [
            target % self._layers * self._experts + expert
            for target, candidates in targets
            if target <= self._last
            for expert in candidates
        ]


class FromTheFuture:
    """What is needed next and not there (Cao et al. 1995); needs no prediction, for it peeks."""

    def __init__(self, rule: Prefetch, workload: Workload) -> None:
        self.backlog = rule.backlog
        self._window = rule.limit
        layers, experts = workload.meta.num_layers, workload.meta.num_experts
        offsets = workload.offsets.tolist()
        ids = workload.experts.tolist()
        self._demand = [
            [event % layers * experts + expert for expert in ids[offsets[event] : offsets[event + 1]]]
            for event in range(workload.num_events)
        ]

    def at(self, event: int) -> list[int]:
        """The next distinct keys in the order of their need, `limit` of them."""
        found: dict[int, None] = {}
        for later in range(event + 1, len(self._demand)):
            found.update(dict.fromkeys(self._demand[later]))
            if len(found) >= self._window:
                break
        return list(found)[: self._window]


class Nothing:
    """No prefetch."""

    backlog = 0

    def at(self, event: int) -> list[int]:
        """Nothing."""
        return []


def proposals_of(policy: Policy, predictions: PredictionTable, workload: Workload, context: Context) -> Proposals:
    """What a policy's prefetch rule makes of its predictions."""
    if policy.prefetch is None:
        return Nothing()
    if policy.predictor == "oracle":
        return FromTheFuture(policy.prefetch, workload)
    return FromPredictions(policy.prefetch, predictions, workload)
