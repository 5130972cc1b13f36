"""Small traces whose routing can be learnt, and small networks that learn it in a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from random_traces import META, random_block

import specmoe.traces
from specmoe.sim.speculate.predictor import Routed
from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.workload import build

SIZES = {"width": 16, "hidden": 32, "heads": 2, "blocks": 1, "clusters": 3, "dropout": 0, "word_dropout": 0}
LEARNABLE = dataclasses.replace(META, num_experts=8, num_layers=3, top_k=1, candidates=3, has_lookahead=False)
STEP = (3, 5)  # expert of layer l + 1 is that of l, plus this, modulo E: no two layers alike


def learnable(n: int = 1000, seed: int = 0, **changes: Any) -> tuple[Block, TraceMeta]:
    """Random in the first layer; in every other a function of the layer above."""
    meta = dataclasses.replace(LEARNABLE, **changes)
    block = random_block(n, meta, seed, mean_length=10)
    experts = block.experts.copy()
    for layer in range(1, meta.num_layers):
        experts[:, layer] = (experts[:, layer - 1] + STEP[(layer - 1) % 2]) % meta.num_experts
    return block._replace(experts=experts, token=block.token % 20), meta


def write_learnable(path: Path, n: int = 1000, seed: int = 0, **changes: Any) -> Path:
    """As a trace file."""
    block, meta = learnable(n, seed, **changes)
    specmoe.traces.write_trace(path, meta, [block])
    return path


def routed(block: Block, meta: TraceMeta, batch: int = 1) -> Routed:
    return Routed(build(block, meta, batch), block)


def drawn_network(architecture: str, meta: TraceMeta, home: Path) -> Path:
    """An untrained network: its weights are small, so that many experts are nearly as likely."""
    from specmoe.sim.speculate.learned import checkpoint, config, networks

    shape = dataclasses.replace(config.config_for(meta, architecture, 2, None, {"width": 8, "hidden": 16}), words=5)
    card = {"config": shape.to_json(), "temperatures": [1.25, 1.25]}
    home.mkdir(exist_ok=True)
    checkpoint.save_checkpoint(home, networks.network(shape), np.arange(0, 5000, 1000, dtype=np.int32), card)
    return home
