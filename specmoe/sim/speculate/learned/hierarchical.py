"""Two networks: a perceptron over recent routing, and one that predicts a cluster of experts first.

Import only where torch is wanted.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.inputs import Inputs
from specmoe.sim.speculate.learned.layers import Heads, Recent, target_layers, trunk

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
        within = self.within(state).float()
        most = within.detach().amax(-1, keepdim=True)
        mass = within.new_full((*within.shape[:-1], self.config.clusters), 1e-30)
        mass = mass.scatter_add(-1, cluster, (within - most).exp())
        share = within - most - mass.log().gather(-1, cluster)
        which: Tensor = self.which(state).float().log_softmax(-1)
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
