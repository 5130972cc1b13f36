"""Proposals: the keys that a policy's prefetch rule proposes to prefetch, from predictions or from the future."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.policy import Policy, Prefetch
from specmoe.sim.speculate.predictor import PredictionTable
from specmoe.traces.schema import TraceMeta
from specmoe.traces.workload import Workload


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
