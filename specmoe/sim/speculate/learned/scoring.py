"""Loss and accuracy of logits. Import only where torch is wanted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.inputs import Tables, inputs_at, targets_at

TOPS = (1, 2, 4, 8)
AT_ONCE = 2048  # rows that a network is asked about at once
TEMPERATURES = 0.5 * 2 ** (torch.arange(33) / 16)  # 0.5 to 2
CALIBRATION = 8192  # rows that the temperature is fitted on


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy, nats, over targets that there are; depth d counts 1/d, the experts used count alike.

    Logits [B, L, D, E], targets [B, L, D, k], E where there is none.
    """
    nats, there = losses(logits, targets)
    weight = there / torch.arange(1, logits.shape[2] + 1, device=logits.device)[:, None]
    return (nats * weight).sum() / weight.sum().clamp_min(1e-9)


def losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each target and whether there is one, [B, L, D, k]."""
    experts = logits.shape[-1]
    likely = logits.float().log_softmax(-1)
    there = targets < experts
    return -likely.gather(-1, targets.clamp_max(experts - 1)), there


@torch.no_grad()
def evaluate(
    net: nn.Module, tables: Tables, rows: Tensor, config: NetConfig, temperatures: list[float] | None = None
) -> dict[str, Any]:
    """Validation loss (nats), and accuracy of the first choice by depth and layer."""
    net.eval()
    hits = torch.zeros(len(TOPS), config.layers, config.depth, device=rows.device)
    nats = torch.zeros(config.layers, config.depth, device=rows.device)
    tokens = torch.zeros_like(nats)
    for part in torch.split(rows, AT_ONCE):
        logits = calibrated(net(inputs_at(tables, part)), temperatures or [1.0] * config.depth)
        targets = targets_at(tables, part, config)
        each, there = losses(logits, targets)
        first = targets[..., :1]
        score = logits.gather(-1, first.clamp_max(config.experts - 1))
        rank = torch.where(there[..., 0], (logits > score).sum(-1), config.experts)
        hits += torch.stack([(rank < top).sum(0) for top in TOPS])
        nats += (each * there).sum(-1).sum(0) / config.top_k
        tokens += there[..., 0].sum(0)
    return _summary(hits, nats, tokens)


@torch.no_grad()
def best_temperatures(net: nn.Module, tables: Tables, rows: Tensor, config: NetConfig) -> list[float]:
    """What to divide each depth's logits by so that the validation split's cross-entropy is least."""
    net.eval()
    rows = rows[:: max(1, len(rows) // CALIBRATION)]
    total = torch.zeros(len(TEMPERATURES), config.depth, device=rows.device)
    for part in torch.split(rows, AT_ONCE):
        logits, targets = net(inputs_at(tables, part)).float(), targets_at(tables, part, config)
        for place, temperature in enumerate(TEMPERATURES.tolist()):
            nats, there = losses(logits / temperature, targets)
            total[place] += (nats * there).sum((0, 1, 3))
    return [round(float(TEMPERATURES[best]), 4) for best in total.argmin(0).tolist()]


def calibrated(logits: Tensor, temperatures: list[float]) -> Tensor:
    """Logits [B, L, D, E], each depth divided by its temperature."""
    return logits.float() / torch.tensor(temperatures, device=logits.device)[:, None]


def _summary(hits: Tensor, nats: Tensor, tokens: Tensor) -> dict[str, Any]:
    layers, depth = tokens.shape
    within = (torch.arange(layers)[:, None] + torch.arange(1, depth + 1) < layers).to(tokens.device)
    weight = 1 / torch.arange(1, depth + 1, device=tokens.device)
    share = hits / tokens.clamp_min(1)
    by_depth = (hits * within).sum(1) / (tokens * within).sum(0).clamp_min(1)
    return {
        "loss": float((nats * weight).sum() / (tokens * weight).sum().clamp_min(1e-9)),
        "tokens": int(tokens.max()),
        "within_step": {f"depth{d + 1}": _tops(by_depth[:, d]) for d in range(depth)},
        "by_layer": {
            f"depth{d + 1}": [_tops(share[:, layer, d]) if tokens[layer, d] else None for layer in range(layers)]
            for d in range(depth)
        },
    }


def _tops(shares: Tensor) -> dict[str, float]:
    return {f"top{top}": round(float(share), 4) for top, share in zip(TOPS, shares, strict=True)}
