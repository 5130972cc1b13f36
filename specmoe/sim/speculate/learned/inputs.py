"""What a network is given for some rows, and what it shall say. Import only where torch is wanted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.data import Columns


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
    def of(cls, columns: Columns, device: torch.device) -> Tables:
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
