"""Training of a network on a trace: loop, loss, accuracy and calibration. Import only where torch is wanted."""

from collections.abc import Callable, Iterator
from math import ceil, cos, inf, pi
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specmoe.sim.speculate.learned.config import NetConfig
from specmoe.sim.speculate.learned.data import Spans, rows_of, take
from specmoe.sim.speculate.learned.inputs import Inputs, Tables, inputs_at, targets_at
from specmoe.sim.speculate.learned.layers import precise
from specmoe.sim.speculate.learned.networks import Fusion

TOPS = (1, 2, 4, 8)
AT_ONCE = 2048  # rows that a network is asked about at once
TEMPERATURES = 0.5 * 2 ** (torch.arange(33) / 16)  # 0.5 to 2
CALIBRATION = 8192  # rows that the temperature is fitted on
GRADIENT_NORM = 1.0
EMBEDDING_RATE = 5  # relative to that of the other weights
WARMUP = 0.05  # of all steps
LAST = 0.02  # of the peak rate, at the end of the cosine


class Recipe(NamedTuple):
    """How a network is trained; `rate` is AdamW's, `batch` counts sequences."""

    epochs: int = 25
    batch: int = 16
    rate: float = 3e-4
    patience: int = 5
    weight_decay: float = 0.05
    seed: int = 0


class Material(NamedTuple):
    """Rows of the train split are in `train`, those of validation in `held`, both places in their tables."""

    tables: Tables
    train: Spans
    held_tables: Tables
    held: Tensor


class Run:
    """A network, its optimizer, and how training went so far."""

    def __init__(self, net: nn.Module, config: NetConfig, recipe: Recipe, device: torch.device) -> None:
        self.net, self.config, self.recipe, self.device = net.to(device), config, recipe, device
        self.optimizer = _optimizer(net, recipe)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}

    @property
    def best_epoch(self) -> int:
        """Number of the epoch with the least validation loss, from 0; -1 before the first."""
        losses = [epoch["validation_loss"] for epoch in self.history]
        return losses.index(min(losses)) if losses else -1

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or the last few were no better."""
        done = len(self.history)
        return done >= self.recipe.epochs or done - 1 - self.best_epoch >= self.recipe.patience

    def train(self, material: Material, after_epoch: "Callable[[Run], None]") -> None:
        """Go on until it is over, then take the best weights."""
        while not self.is_over:
            self.epoch(material)
            after_epoch(self)
        with torch.no_grad():
            for name, parameter in self.net.named_parameters():
                parameter.copy_(self.best[name])

    def epoch(self, material: Material) -> None:
        """Every sequence once, in an order that only seed and epoch decide; then validate."""
        number, started = len(self.history), perf_counter()
        torch.manual_seed(1000 * self.recipe.seed + number)
        batches = list(self._batches(material.train, number))
        total = torch.zeros((), device=self.device)
        self.net.train()
        for place, rows in enumerate(batches):
            self._set_rate((number + place / len(batches)) / self.recipe.epochs)
            total += self._step(material.tables, torch.from_numpy(rows).to(self.device))
        found = evaluate(self.net, material.held_tables, material.held, self.config)
        self._record(float(total) / len(batches), found, perf_counter() - started)

    def _record(self, loss: float, found: dict[str, Any], seconds: float) -> None:
        before = min((epoch["validation_loss"] for epoch in self.history), default=inf)
        top1 = found["within_step"]["depth1"]["top1"]
        self.history.append(
            {"loss": loss, "validation_loss": found["loss"], "validation_top1": top1, "seconds": seconds}
        )
        if found["loss"] < before or not self.best:
            self.best = {name: p.detach().clone() for name, p in self.net.named_parameters()}

    def _batches(self, spans: Spans, number: int) -> Iterator[NDArray[np.int64]]:
        order = np.random.default_rng([self.recipe.seed, number]).permutation(len(spans.first))
        for part in np.array_split(order, ceil(len(order) / self.recipe.batch)):
            yield rows_of(take(spans, part))

    def _step(self, tables: Tables, rows: Tensor) -> Tensor:
        targets = targets_at(tables, rows, self.config)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = asked(self.net, inputs_at(tables, rows), targets)
        loss = loss_of(logits, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(self.net.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        return loss.detach()

    def _set_rate(self, done: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(done)


def asked(net: nn.Module, seen: Inputs, targets: Tensor) -> Tensor:
    """Logits in training: a network with tables of counts leaves each row's own answer out of them."""
    logits: Tensor = net(seen, targets) if isinstance(net, Fusion) else net(seen)
    return logits


def _optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; a row of an embedding is rarely seen, so its rate is higher."""
    seen = {p for module in net.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    dense = [p for p in net.parameters() if p not in seen and p.ndim > 1]
    others = [p for p in net.parameters() if p not in seen and p.ndim <= 1]
    rows = [p for p in net.parameters() if p in seen]
    groups: list[dict[str, Any]] = [
        {"params": dense, "peak": recipe.rate},
        {"params": others, "peak": recipe.rate, "weight_decay": 0.0},
        {"params": rows, "peak": recipe.rate * EMBEDDING_RATE},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=recipe.weight_decay)


def schedule(done: float) -> float:
    """Share of the peak rate: linear warm-up, then a cosine."""
    if done < WARMUP:
        return 0.05 + 0.95 * done / WARMUP
    return LAST + (1 - LAST) * 0.5 * (1 + cos(pi * (done - WARMUP) / (1 - WARMUP)))


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
    return precise(logits) / torch.tensor(temperatures, device=logits.device)[:, None]


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
