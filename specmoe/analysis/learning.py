"""How a predictor's training went."""

from __future__ import annotations

from pathlib import Path

from specmoe.analysis.style import figure, save


def plot_learning(epochs: list[dict[str, float]], png: Path, title: str) -> None:
    """Loss (nats a target) in training and validation, and validation's top-1 one layer ahead, by epoch."""
    chart, (loss, accuracy) = figure(1, 2)
    number = range(1, len(epochs) + 1)
    loss.plot(number, [epoch["loss"] for epoch in epochs], "o-", markersize=3, label="training (with dropout)")
    loss.plot(number, [epoch["validation_loss"] for epoch in epochs], "o-", markersize=3, label="validation")
    loss.set(xlabel="epoch", ylabel="loss, nats a target")
    loss.legend(frameon=False)
    accuracy.plot(number, [100 * epoch["validation_top1"] for epoch in epochs], "o-", markersize=3)
    accuracy.set(xlabel="epoch", ylabel="validation top-1, one layer ahead, %", ylim=(0, 100))
    for axes in (loss, accuracy):
        axes.xaxis.get_major_locator().set_params(integer=True)
    chart.suptitle(title)
    save(chart, png)
