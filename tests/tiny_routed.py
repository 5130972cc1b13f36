"""Small random workloads with the rows they are made of."""

from __future__ import annotations

import dataclasses
from typing import Any

from random_traces import META, random_block

from specmoe.sim.speculate.predictor import Routed
from specmoe.traces.workload import build


def tiny_routed(
    tokens: int = 12, batch: int = 1, seed: int = 0, mean_length: int = 4, steps: int | None = None, **changes: Any
) -> Routed:
    """A random trace's workload; `changes` are fields of its metadata."""
    meta = dataclasses.replace(META, **changes)
    block = random_block(tokens, meta, seed, mean_length=mean_length)
    return Routed(build(block, meta, batch, steps), block)
