"""Inputs of a network, its targets, and counts of the train split as sparse tables. Import only where torch is wanted.

A table of counts holds the most frequent experts of each key. A row that was counted would find its own answer in the
table, so `leave_out` subtracts it before the table is used in training.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.data import Columns

MOST = 4  # experts that a key keeps
CEILING = 255


class Inputs(NamedTuple):
    """B rows. A network must mask what is not known yet: layers behind l of the row; encoding, of all tokens."""

    token: Tensor  # [B]
    position: Tensor  # [B]
    experts: Tensor  # [B, L, M]
    probs: Tensor  # [B, L, M]
    lookahead: Tensor  # [B, L, M] or [B, 0, 0]
    around_token: Tensor  # [B, K]
    around_experts: Tensor  # [B, K, L, M]
    around_probs: Tensor  # [B, K, L, M]


class Tables(NamedTuple):
    """`Columns` on a device."""

    token: Tensor
    position: Tensor
    experts: Tensor
    probs: Tensor
    lookahead: Tensor
    around: Tensor
    following: Tensor

    @classmethod
    def of(cls, columns: Columns, device: torch.device) -> "Tables":
        """Copy to the device."""
        return cls._make(torch.from_numpy(column).to(device) for column in columns)


def inputs_at(tables: Tables, rows: Tensor) -> Inputs:
    """Gather what is seen at the rows [B]."""
    around = tables.around[rows]
    return Inputs(
        tables.token[rows],
        tables.position[rows],
        tables.experts[rows],
        tables.probs[rows],
        tables.lookahead[rows],
        tables.token[around],
        tables.experts[around],
        tables.probs[around],
    )


def targets_at(tables: Tables, rows: Tensor, config: NetConfig) -> Tensor:
    """Experts used at layer l + d, [B, L, D, k]; E where dropped or where there is no such layer."""
    used = tables.experts[:, :, : config.top_k]
    both = torch.cat([used[rows], used[tables.following[rows]]], dim=1)
    return torch.stack([both[:, d : d + config.layers] for d in range(1, config.depth + 1)], dim=2)


def before_at(seen: Inputs, config: NetConfig) -> Tensor:
    """First-choice expert of the token before at layer l + d, [B, L, D]; E where it is not known, as in encoding."""
    own = seen.experts[:, :, 0]
    if not (config.wraps and config.around):
        return own.new_full((len(own), config.layers, config.depth), config.experts)
    both = torch.cat([seen.around_experts[:, 0, :, 0], own], dim=1)
    return torch.stack([both[:, d : d + config.layers] for d in range(1, config.depth + 1)], dim=2)


class Counts(nn.Module):
    """Of each key (ascending) the experts that followed it, most frequent first, and all of its tokens.

    Keys with less than `fewest` tokens are not held; left out of itself, a single one knows nothing.
    """

    key: Tensor  # [keys]
    expert: Tensor  # [keys, MOST]
    count: Tensor  # [keys, MOST]
    total: Tensor  # [keys]

    def __init__(self, keys: int, experts: int, fewest: int = 2) -> None:
        super().__init__()
        self.fewest = fewest
        kind = torch.uint8 if experts <= CEILING else torch.int16
        self.experts = experts
        self.register_buffer("key", torch.zeros(keys, dtype=torch.int32))
        self.register_buffer("expert", torch.full((keys, MOST), min(experts, CEILING), dtype=kind))
        self.register_buffer("count", torch.zeros(keys, MOST, dtype=torch.uint8))
        self.register_buffer("total", torch.zeros(keys, dtype=torch.int16))

    def set(self, key: NDArray[np.int64], expert: NDArray[np.int64]) -> None:
        """Count pairs; key -1 or expert E is no pair."""
        found = [torch.from_numpy(table) for table in counted(key, expert, self.experts, self.fewest)]
        kinds = (
            torch.int32 if key.max(initial=0) < 2**31 else torch.int64,
            self.expert.dtype,
            torch.uint8,
            torch.int16,
        )
        for name, table, kind in zip(("key", "expert", "count", "total"), found, kinds, strict=True):
            setattr(self, name, table.to(getattr(self, name).device, kind))

    def forward(self, key: Tensor, leave_out: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Experts, their counts [..., MOST] and totals [...] of the keys [...], less the row's own experts [..., k]."""
        if not len(self.key):
            none = key.new_zeros((*key.shape, MOST))
            return none, none.float(), key.new_zeros(key.shape).float()
        place = torch.searchsorted(self.key, key.to(self.key.dtype)).clamp_max(len(self.key) - 1)
        found = self.key[place] == key
        expert = self.expert[place].long()
        count = self.count[place] * found[..., None]
        total = self.total[place] * found
        if leave_out is not None:
            own = (expert[..., None, :] == leave_out[..., None]).sum(-2)
            count = count.int() - own * found[..., None]
            total = total - (leave_out < self.experts).sum(-1) * found
        return expert, count.clamp_min(0).float(), total.clamp_min(0).float()


def counted(
    key: NDArray[np.int64], expert: NDArray[np.int64], experts: int, fewest: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Keys, experts [keys, MOST], counts [keys, MOST] and totals, as `Counts` holds them."""
    there = (key >= 0) & (expert < experts)
    pairs, counts = np.unique(key[there] * experts + expert[there], return_counts=True)
    names, place = np.unique(pairs // experts, return_inverse=True)
    totals = np.bincount(place, counts, minlength=len(names)).astype(np.int64)
    order = np.lexsort((pairs % experts, -counts, place))
    rank = np.arange(len(order)) - np.searchsorted(place[order], place[order])
    best = np.zeros((len(names), MOST), np.int64)
    of_best = np.zeros((len(names), MOST), np.int64)
    kept = rank < MOST
    best[place[order][kept], rank[kept]] = (pairs % experts)[order][kept]
    of_best[place[order][kept], rank[kept]] = np.minimum(counts[order][kept], CEILING)
    frequent = totals >= fewest
    return names[frequent], best[frequent], of_best[frequent], np.minimum(totals[frequent], 2**15 - 1)
