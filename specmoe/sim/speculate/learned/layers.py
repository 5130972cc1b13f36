"""What the networks share: embeddings of what is seen, heads that score experts. Import only where torch is wanted."""

import torch
from torch import Tensor, nn

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.data import POSITIONS
from specmoe.sim.speculate.learned.inputs import Inputs, before_at

INITIAL = 0.05  # small: what is rare stays neutral
BACK = 3  # layers of this token's routing that `Recent` shows side by side: l, l - 1, l - 2


class Embeddings(nn.Module):
    """Vectors of tokens, positions and a layer's routing: the expert used, plus the candidates by probability."""

    first: Tensor  # [L], place of each layer's expert 0

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        places = config.layers * (config.experts + 1)
        self.config = config
        self.word = nn.Embedding(config.words + 2, config.width)
        self.position = nn.Embedding(POSITIONS, config.width)
        self.used = nn.Embedding(places, config.width)
        self.candidate = nn.Embedding(places, config.width)
        for table in (self.word, self.position, self.used, self.candidate):
            nn.init.normal_(table.weight, std=INITIAL)
        self.register_buffer("first", torch.arange(config.layers) * (config.experts + 1), persistent=False)

    def words(self, token: Tensor) -> Tensor:
        """[...] to [..., width]; in training some are hidden, so that unknown ones are no surprise."""
        if self.training and self.config.word_dropout:
            hidden = torch.rand(token.shape, device=token.device) < self.config.word_dropout
            token = torch.where(hidden & (token < self.config.words), self.config.words, token)
        found: Tensor = self.word(token)
        return found

    def routing(self, experts: Tensor, probs: Tensor) -> Tensor:
        """Candidates [..., L, M] to [..., L, width]."""
        place = experts + self.first[:, None]
        used = self.used(place[..., : self.config.top_k]).mean(-2)
        share = probs / probs.sum(-1, keepdim=True).clamp_min(1e-6)
        found: Tensor = used + (share[..., None] * self.candidate(place)).sum(-2)
        return found


class Recent(nn.Module):
    """All that is known at layer l, side by side: [B, L, features]."""

    target: Tensor  # [L, D], place of the target layer's expert 0

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.see = Embeddings(config)
        around = len(config.around)
        vectors = 2 + BACK + around * 2 + (config.depth if config.wraps and around else 0)
        self.register_buffer("target", self.see.first[target_layers(config)], persistent=False)
        self.features = vectors * config.width + config.layers + config.candidates

    def forward(self, seen: Inputs) -> Tensor:
        """Show it."""
        config = self.config
        own = self.see.routing(seen.experts, seen.probs)
        still = [self.see.words(seen.token), self.see.position(seen.position)]
        parts = [nn.functional.pad(own, (0, 0, back, 0))[:, : config.layers] for back in range(BACK)]
        if config.around:
            still.append(self.see.words(seen.around_token).flatten(1))
            parts.append(self.see.routing(seen.around_experts, seen.around_probs).transpose(1, 2).flatten(2))
        if config.around and config.wraps:
            parts.append(self._before(seen))
        here = torch.eye(config.layers, device=own.device).expand(len(own), -1, -1)
        fixed = torch.cat(still, -1)[:, None].expand(-1, config.layers, -1)
        sure = (seen.probs + 1e-4).log() / 4
        return torch.cat([*parts, fixed, here, sure], -1)

    def _before(self, seen: Inputs) -> Tensor:
        """What the token before used at each target layer, [B, L, D * width]."""
        found: Tensor = self.see.used(before_at(seen, self.config) + self.target).flatten(2)
        return found


class Heads(nn.Module):
    """From a state at layer l to scores of the experts of the layers l + 1 ... l + D."""

    target: Tensor  # [L, D]

    def __init__(self, config: NetConfig, inputs: int, outputs: int | None = None) -> None:
        super().__init__()
        self.config, self.outputs = config, outputs or config.experts
        self.register_buffer("target", target_layers(config), persistent=False)
        self.ask = nn.Linear(inputs, config.depth * config.width)
        self.answer = nn.Parameter(torch.randn(config.layers, self.outputs, config.width) * config.width**-0.5)
        self.bias = nn.Parameter(torch.zeros(config.layers, config.depth, self.outputs))

    def forward(self, state: Tensor) -> Tensor:
        """[B, L, inputs] to [B, L, D, outputs]."""
        asked = self.ask(state).unflatten(-1, (self.config.depth, self.config.width))
        return torch.einsum("blds,ldes->blde", asked, self.answer[self.target]) + self.bias


def target_layers(config: NetConfig) -> Tensor:
    """The layer that is guessed at layer l, d ahead, [L, D]."""
    layers, ahead = torch.arange(config.layers), torch.arange(1, config.depth + 1)
    return (layers[:, None] + ahead) % config.layers


def precise(scores: Tensor) -> Tensor:
    """Scores in float32 at least: autocast would round them, and a network in float64 keeps its own."""
    return scores if scores.dtype == torch.float64 else scores.float()


def trunk(config: NetConfig, inputs: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Dropout(config.dropout),
        nn.Linear(inputs, config.hidden),
        nn.GELU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, config.hidden),
        nn.GELU(),
        nn.Dropout(config.dropout),
    )
