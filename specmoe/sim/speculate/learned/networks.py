"""The predictor networks by name: contextual (an MLP), transformer, hierarchical (cluster first), fusion."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.inputs import Counts, Inputs, Tables, inputs_at, targets_at
from specmoe.sim.speculate.learned.layers import Embeddings, Heads, Recent, precise, target_layers, trunk

ROUNDS = 20  # of k-means


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


class Hierarchical(nn.Module):
    """log p(expert) = log p(its cluster) + log p(expert within its cluster).

    Clusters of a layer's experts are found by k-means on where tokens come from: see `clusters_of`.
    """

    cluster: Tensor  # [L, E]
    target: Tensor  # [L, D]

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("target", target_layers(config), persistent=False)
        self.recent = Recent(config)
        self.trunk = trunk(config, self.recent.features)
        self.dropped = nn.Dropout(config.dropout)
        self.which = Heads(config, config.hidden + self.recent.features, config.clusters)
        self.within = Heads(config, config.hidden + self.recent.features)
        self.register_buffer("cluster", torch.zeros(config.layers, config.experts, dtype=torch.uint8))

    def learn(self, experts: NDArray[np.int64], seed: int) -> None:
        """Cluster by the first choices [n, L] of the train split."""
        found = clusters_of(experts, self.config.experts, self.config.clusters, seed)
        self.cluster = torch.from_numpy(found).to(self.cluster.device)

    def forward(self, seen: Inputs) -> Tensor:
        """Log-probabilities [B, L, D, E]."""
        shown = self.recent(seen)
        state = torch.cat([self.trunk(shown), self.dropped(shown)], -1)
        cluster = self.cluster.long()[self.target].expand(len(state), -1, -1, -1)
        within = precise(self.within(state))
        most = within.detach().amax(-1, keepdim=True)
        mass = within.new_full((*within.shape[:-1], self.config.clusters), 1e-30)
        mass = mass.scatter_add(-1, cluster, (within - most).exp())
        share = within - most - mass.log().gather(-1, cluster)
        which: Tensor = precise(self.which(state)).log_softmax(-1)
        likely: Tensor = which.gather(-1, cluster) + share
        return likely


def clusters_of(experts: NDArray[np.int64], count: int, clusters: int, seed: int) -> NDArray[np.uint8]:
    """A cluster for each expert [L, E], from first choices [n, L] (`count` is none).

    k-means on the square roots of each expert's shares of the experts that its tokens come from, a layer above.
    """
    rng = np.random.default_rng(seed)
    layers = experts.shape[1]
    return np.stack([_means(_sources(experts, layer, count), clusters, rng) for layer in range(layers)])


def _sources(experts: NDArray[np.int64], layer: int, count: int) -> NDArray[np.float64]:
    """Roots of where tokens come from, [E, E]; the first layer's come from where they go to."""
    here, other = experts[:, layer], experts[:, layer - 1 if layer else min(1, experts.shape[1] - 1)]
    there = (here < count) & (other < count)
    counts = np.bincount(here[there] * count + other[there], minlength=count * count).reshape(count, count)
    shares: NDArray[np.float64] = np.sqrt(counts / np.maximum(1, counts.sum(1, keepdims=True)))
    return shares


def _means(points: NDArray[np.float64], clusters: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """k-means; a cluster that runs empty keeps its centre. Ties go to the lower cluster."""
    centres = points[np.sort(rng.permutation(len(points))[:clusters])]
    nearest = np.zeros(len(points), np.int64)
    for _ in range(ROUNDS):
        nearest = ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
        for cluster in np.unique(nearest):
            centres[cluster] = points[nearest == cluster].mean(0)
    return nearest.astype(np.uint8)


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
        logits = precise(self.heads(torch.cat([state, self._expected(seen)], -1)))
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
        size = (torch.frexp(total + 1).exponent.long() - 1).clamp_max(SIZES - 1)
        trust = precise(self.trust[name]).expand(len(key), -1, -1, -1).gather(-1, size[..., None])
        opinion = (1 + self.config.experts * count.to(logits.dtype) / (total + KAPPA)[..., None]).log()
        return logits.scatter_add(-1, expert, trust * opinion)

    def _add_lookahead(self, logits: Tensor, state: Tensor, seen: Inputs) -> Tensor:
        """Of depth 1 only; place E takes what is no candidate."""
        weight = precise(self.ahead(state)) + self.rank
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
