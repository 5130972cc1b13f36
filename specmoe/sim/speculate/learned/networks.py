"""A network by its configuration. Import only where torch is wanted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.fusion import Fusion
from specmoe.sim.speculate.learned.hierarchical import Contextual, Hierarchical
from specmoe.sim.speculate.learned.inputs import Tables
from specmoe.sim.speculate.learned.transformer import Transformer

NETWORKS: dict[str, Callable[[NetConfig], nn.Module]] = {
    "contextual": Contextual,
    "transformer": Transformer,
    "hierarchical": Hierarchical,
    "fusion": Fusion,
}


def network(config: NetConfig, seed: int = 0) -> nn.Module:
    """A network with random weights."""
    torch.manual_seed(seed)
    return NETWORKS[config.architecture](config)


def learn_statistics(net: nn.Module, tables: Tables, rows: torch.Tensor, seed: int) -> None:
    """What a network takes from the train split by counting, before it is trained."""
    if isinstance(net, Fusion):
        net.count(tables, rows)
    if isinstance(net, Hierarchical):
        net.learn(tables.experts[rows, :, 0].cpu().numpy(), seed)
