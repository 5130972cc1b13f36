"""How a pretraining run went, drawn from the `history.json` it leaves."""

from __future__ import annotations

import json
from pathlib import Path

from specmoe.analysis.style import figure, save


def plot_training(history: Path, png: Path, unigram: float) -> None:
    """Loss (nats a target token; held out beside training), balance loss (1 is even) and dropped tokens by step."""
    runs = json.loads(history.read_text())
    training, held_out = runs["training"], runs["held_out"]
    steps = [point["step"] for point in training]
    chart, (loss, balance) = figure(1, 2)
    loss.plot(steps, [point["loss"] for point in training], label="training (with dropout)", linewidth=1)
    loss.plot([p["step"] for p in held_out], [p["loss"] for p in held_out], "o-", markersize=3, label="held out")
    loss.axhline(unigram, linestyle=":", color="0.4", label="unigram guess")
    loss.set(xlabel="step", ylabel="loss, nats a target token")
    balance.plot(steps, [point["balance"] for point in training], linewidth=1, label="balance loss, mean of layers")
    balance.plot(steps, [point["dropped"] for point in training], linewidth=1, label="share of tokens dropped")
    balance.set(xlabel="step", ylim=(0, None))
    for axes in (loss, balance):
        axes.legend(frameon=False)
    save(chart, png)
