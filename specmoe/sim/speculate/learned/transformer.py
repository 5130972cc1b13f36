"""Attention over the layers of this token and of those around it. Import only where torch is wanted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.inputs import Inputs
from specmoe.sim.speculate.learned.layers import Embeddings, Heads


class Reader(nn.Module):
    """Layer l of this token attends to its layers up to l, to its id, and to ids and routing around it.

    Of the tokens around it, decoding, all layers are known; encoding, those up to l. One pass answers for every l.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        size, self.around = config.hidden, len(config.around)
        self.features = size + 2 * config.width
        self.see = Embeddings(config)
        self.widen = nn.Linear(config.width, size)
        self.at_layer = nn.Parameter(torch.randn(config.layers + 1, size) * 0.02)
        self.at_token = nn.Parameter(torch.randn(self.around + 1, size) * 0.02)
        self.blocks = nn.ModuleList(Block(size, config.heads, config.dropout) for _ in range(config.blocks))
        self.register_buffer("mask", visible(config), persistent=False)

    def forward(self, seen: Inputs) -> Tensor:
        """States at each layer, [B, L, features]: what was attended to, the layer's own routing, the token's id."""
        own = self._own(seen)
        state, memory = self.widen(own) + self.at_layer + self.at_token[0], self._around(seen)
        for block in self.blocks:
            state = block(state, memory, self.mask)
        return torch.cat([state[:, 1:], own[:, 1:], own[:, :1].expand_as(own[:, 1:])], -1)

    def _own(self, seen: Inputs) -> Tensor:
        """This token's id and layers, [B, 1 + L, width]."""
        word = self.see.words(seen.token) + self.see.position(seen.position)
        return torch.cat([word[:, None], self.see.routing(seen.experts, seen.probs)], 1)

    def _around(self, seen: Inputs) -> Tensor:
        """The tokens around it alike, [B, K * (1 + L), size]."""
        words = self.see.words(seen.around_token)[:, :, None]
        routing = self.see.routing(seen.around_experts, seen.around_probs)
        found: Tensor = self.widen(torch.cat([words, routing], 2))
        return (found + self.at_layer + self.at_token[1:, None]).flatten(1, 2)


class Transformer(nn.Module):
    """Attention, then a head for each depth."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.reader = Reader(config)
        self.heads = Heads(config, self.reader.features)

    def forward(self, seen: Inputs) -> Tensor:
        """Logits [B, L, D, E]."""
        logits: Tensor = self.heads(self.reader(seen))
        return logits


class Block(nn.Module):
    """Pre-norm attention of the states to themselves and the memory, then a perceptron."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.memory_norm, self.second_norm = (nn.LayerNorm(size) for _ in range(3))
        self.attend = nn.MultiheadAttention(size, heads, dropout, batch_first=True)
        self.think = nn.Sequential(
            nn.Linear(size, 2 * size), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * size, size), nn.Dropout(dropout)
        )

    def forward(self, state: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """[B, 1 + L, size] to the same."""
        asked = self.norm(state)
        known = torch.cat([asked, self.memory_norm(memory)], 1)
        state = state + self.attend(asked, known, known, attn_mask=mask, need_weights=False)[0]
        thought: Tensor = self.think(self.second_norm(state))
        return state + thought


def visible(config: NetConfig) -> Tensor:
    """What must not be attended to, [1 + L, (1 + K) * (1 + L)]; place 0 of each token is its id, 1 + l its layer l."""
    place = torch.arange(config.layers + 1)
    later = place[None, :] > place[:, None]
    around = torch.zeros_like(later) if config.phase == "decode" else later
    return torch.cat([later, *[around] * len(config.around)], 1)
