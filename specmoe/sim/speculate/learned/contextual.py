"""A perceptron over recent routing, layer and position. Import only where torch is wanted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.inputs import Inputs
from specmoe.sim.speculate.learned.layers import Heads, Recent, trunk


class Contextual(nn.Module):
    """Everything `Recent` shows, through two hidden layers and past them."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.recent = Recent(config)
        self.trunk = trunk(config, self.recent.features)
        self.dropped = nn.Dropout(config.dropout)
        self.heads = Heads(config, config.hidden + self.recent.features)

    def forward(self, seen: Inputs) -> Tensor:
        """Logits [B, L, D, E]."""
        shown = self.recent(seen)
        logits: Tensor = self.heads(torch.cat([self.trunk(shown), self.dropped(shown)], -1))
        return logits
