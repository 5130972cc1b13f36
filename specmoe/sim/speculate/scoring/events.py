"""What prefetching by a prediction would fetch: how much of it is demanded, and how much of the demand it covers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from specmoe.sim.decide.policies import POLICIES
from specmoe.sim.decide.policy import Prefetch
from specmoe.sim.speculate.pooling import pool
from specmoe.sim.speculate.predictor import Guess, Predictor, Routed
from specmoe.sim.speculate.table import PredictionTable
from specmoe.traces.workload import Workload


class Prefetching(NamedTuple):
    """Experts that an event would fetch for the next one, without regard to what is cached already."""

    precision: float | None  # share of the fetched that the next event demands; None if nothing is fetched
    recall: float | None  # share of the demand that was fetched; None if nothing is demanded
    per_event: float  # fetched, on average


def rule_of(name: str, experts: int) -> Prefetch:
    """How the first policy with this predictor prefetches, its limit at most all experts; without one, 1 an event."""
    rules = (row.prefetch for row in POLICIES.values() if row.predictor == name)
    rule = next((rule for rule in rules if rule is not None), Prefetch())
    return Prefetch(min(rule.limit, experts), rule.threshold, rule.depth, rule.backlog)


def table_of(predictor: Predictor, guess: Guess, routed: Routed) -> PredictionTable:
    """What `predict` would say, one layer ahead, without guessing again if it only pools."""
    if type(predictor).predict is not Predictor.predict:
        return predictor.predict(routed)
    return PredictionTable(*pool(routed.workload, guess.experts[:, :, :1], guess.confidence[:, :, :1]))


def prefetching(table: PredictionTable, workload: Workload, limit: int, threshold: float = 0.0) -> Prefetching:
    """Each event's first `limit` candidates of at least `threshold` confidence against the demand of the next event.

    The next event of the last layer is the next step's first: all demand counts but the very first event's.
    """
    experts = table.experts[:-1, 0, :limit]
    fetched = (experts >= 0) & (table.confidence[:-1, 0, :limit] >= threshold)
    event = np.arange(1, workload.num_events)[:, None]
    count = workload.meta.num_experts
    useful = np.isin((event * count + experts)[fetched], workload.events * count + workload.experts).sum()
    demanded = len(workload.experts) - int(workload.offsets[1])
    return Prefetching(
        precision=float(useful / fetched.sum()) if fetched.any() else None,
        recall=float(useful / demanded) if demanded else None,
        per_event=float(fetched.sum() / max(1, workload.num_events)),
    )
