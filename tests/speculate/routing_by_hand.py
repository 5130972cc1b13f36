"""Routing written down by hand, and what is said of it, in lists."""

from __future__ import annotations

from typing import Any

import numpy as np
from tiny_routed import tiny_routed

from specmoe.sim.speculate.predictor import Guess, PredictionTable, Routed
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.traces.workload import build


def by_hand(
    experts: Any, sequence: Any = None, token: Any = None, batch: int = 1, top_k: int = 1, **changes: Any
) -> Routed:
    """Routing [tokens][layers][candidates] of eight experts; of one sequence unless `sequence` says which."""
    used = np.array(experts, np.int16)
    tokens, layers, width = used.shape
    sizes = {"num_layers": layers, "num_experts": 8, "top_k": top_k, "candidates": width}
    routed = tiny_routed(tokens, mean_length=10**6, **sizes, **changes)
    names = np.zeros(tokens, np.int32) if sequence is None else np.array(sequence, np.int32)
    first = np.searchsorted(names, names)
    ids = routed.block.token if token is None else np.array(token, np.int32)
    block = routed.block._replace(
        experts=used, sequence=names, position=(np.arange(tokens) - first).astype(np.int32), token=ids
    )
    return Routed(build(block, routed.workload.meta, batch), block)


def predict(name: str, routed: Routed, train: Routed | None = None, **keywords: Any) -> PredictionTable:
    """What a predictor says, fitted if there is a train split."""
    predictor = make_predictor(name, keywords)
    if train is not None:
        predictor.fit(train)
    return predictor.predict(routed)


def candidates(said: PredictionTable | Guess, depth: int = 1) -> list[Any]:
    """Candidates at one depth: of every event, or [n][L] of every row and layer."""
    return closed(said.experts[..., depth - 1, :].tolist())


def confidence(said: PredictionTable | Guess, depth: int = 1) -> list[Any]:
    """Their confidences, to three digits."""
    there = said.experts[..., depth - 1, :] >= 0
    return closed(np.where(there, said.confidence[..., depth - 1, :].round(3), -1).astype(float).round(3).tolist())


def closed(values: list[Any]) -> list[Any]:
    """Innermost lists without their negatives."""
    if values and isinstance(values[0], list):
        return [closed(value) for value in values]
    return [value for value in values if value >= 0]
