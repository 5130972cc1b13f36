"""Attention, counts and the gate look-ahead blended: our own. Import only where torch is wanted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.inputs import Counts, Inputs, Tables, inputs_at, targets_at
from specmoe.sim.speculate.learned.layers import Heads, target_layers
from specmoe.sim.speculate.learned.transformer import Reader

TABLES = {"word": 2, "word_expert": 4, "experts": 4}  # and the fewest tokens of a key that is held
SIZES = 10  # buckets of a key's tokens, by powers of two
KAPPA = 1.0  # tokens of doubt in each table


class Fusion(nn.Module):
    """Logits that add up, as in a log-linear blend of experts' opinions.

    The transformer's, which also sees the gate look-ahead; of tables of counts (what followed this token id, this id
    and expert, these two experts), log(1 + E * share), weighted by how many tokens the table's key has; of the
    look-ahead at the next layer, a weight for each rank that the state decides.
    """

    target: Tensor  # [L, D], layer
    place: Tensor  # [L, D], number

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("target", target_layers(config), persistent=False)
        places = torch.arange(config.layers * config.depth).view(config.layers, config.depth)
        self.register_buffer("place", places, persistent=False)
        self.reader = Reader(config)
        self.heads = Heads(config, self.reader.features + config.width)
        self.tables = nn.ModuleDict({name: Counts(0, config.experts, fewest) for name, fewest in TABLES.items()})
        self.trust = nn.ParameterDict(
            {name: nn.Parameter(torch.full((config.layers, config.depth, SIZES), 0.3)) for name in TABLES}
        )
        self.ahead = nn.Linear(self.reader.features, config.candidates)
        self.rank = nn.Parameter(torch.linspace(2, 0, config.candidates).repeat(config.layers, 1))

    def count(self, tables: Tables, rows: Tensor) -> None:
        """Fill the tables of counts from the rows of the train split."""
        seen, wanted = inputs_at(tables, rows), targets_at(tables, rows, self.config)
        for name, key in self._keys(seen).items():
            spread = key[..., None].expand_as(wanted)
            self.tables[name].set(spread.flatten().cpu().numpy(), wanted.flatten().cpu().numpy())  # type: ignore[operator]

    def forward(self, seen: Inputs, own: Tensor | None = None) -> Tensor:
        """Logits [B, L, D, E]; `own` are the targets [B, L, D, k] of rows that were counted."""
        state = self.reader(seen)
        logits: Tensor = self.heads(torch.cat([state, self._expected(seen)], -1)).float()
        for name, key in self._keys(seen).items():
            logits = self._add_counts(logits, name, key, own)
        return self._add_lookahead(logits, state, seen) if "lookahead" in self.config.features else logits

    def _expected(self, seen: Inputs) -> Tensor:
        """The look-ahead's candidates as the next layer's routing, by rank, [B, L, width]; zeros without it."""
        see = self.reader.see
        if "lookahead" not in self.config.features:
            return see.used.weight.new_zeros((*seen.experts.shape[:2], self.config.width))
        place = seen.lookahead + see.first[self.target[:, :1]]
        found: Tensor = (see.used(place) * self.rank.softmax(-1)[..., None]).sum(-2)
        return found

    def _add_counts(self, logits: Tensor, name: str, key: Tensor, own: Tensor | None) -> Tensor:
        expert, count, total = self.tables[name](key, own)
        size = (total + 1).log2().long().clamp_max(SIZES - 1)
        trust = self.trust[name].float().expand(len(key), -1, -1, -1).gather(-1, size[..., None])
        opinion = (1 + self.config.experts * count / (total + KAPPA)[..., None]).log()
        return logits.scatter_add(-1, expert, trust * opinion)

    def _add_lookahead(self, logits: Tensor, state: Tensor, seen: Inputs) -> Tensor:
        """Of depth 1 only; place E takes what is no candidate."""
        weight = self.ahead(state).float() + self.rank
        bonus = logits.new_zeros((*logits.shape[:2], self.config.experts + 1)).scatter(-1, seen.lookahead, weight)
        return torch.cat([logits[:, :, :1] + bonus[:, :, None, :-1], logits[:, :, 1:]], 2)

    def _keys(self, seen: Inputs) -> dict[str, Tensor]:
        """The key of each table at [B, L, D]; -1 where there is none."""
        config, place, places = self.config, self.place, self.place.numel()
        expert = seen.experts[:, :, :1]
        above = nn.functional.pad(seen.experts[:, :-1, :1], (0, 0, 1, 0), value=config.experts)
        word, many = seen.token[:, None, None], config.experts + 1
        known = word < config.words
        wraps = place // config.depth + place % config.depth + 1 >= config.layers
        next_layer = self.place % config.depth == 0  # further ahead, pairs would cost more room than they are worth
        pair = torch.where(next_layer, (above * many + expert) * places + place, -1)
        return {
            "word": torch.where(known, word * 2 * config.layers + self.target + wraps * config.layers, -1),
            "word_expert": torch.where(known & next_layer, (word * many + expert) * places + place, -1),
            "experts": pair,
        }
