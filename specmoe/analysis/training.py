"""How a pretraining run went, drawn from the `history.json` it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specmoe.analysis.style import figure, save
from specmoe.files import parsing, read_json


def plot_training(history: Path, png: Path, unigram: float) -> None:
    """Loss (nats a target token; held out beside training), balance loss (1 is even) and dropped tokens by step.

    Raises InputError for a file that is not a history.
    """
    training = _columns(history, "training", ("step", "loss", "balance", "dropped"))
    held_out = _columns(history, "held_out", ("step", "loss"))
    chart, (loss, balance) = figure(1, 2)
    loss.plot(training["step"], training["loss"], label="training (with dropout)", linewidth=1)
    loss.plot(held_out["step"], held_out["loss"], "o-", markersize=3, label="held out")
    loss.axhline(unigram, linestyle=":", color="0.4", label="unigram guess")
    loss.set(xlabel="step", ylabel="loss, nats a target token")
    balance.plot(training["step"], training["balance"], linewidth=1, label="balance loss, mean of layers")
    balance.plot(training["step"], training["dropped"], linewidth=1, label="share of tokens dropped")
    balance.set(xlabel="step", ylim=(0, None))
    for axes in (loss, balance):
        axes.legend(frameon=False)
    save(chart, png)


def _columns(history: Path, name: str, fields: tuple[str, ...]) -> dict[str, list[Any]]:
    """The points of a history by field."""
    points = read_json(history, "the history of a run")
    with parsing(history, "the history of a run"):
        return {field: [point[field] for point in points[name]] for field in fields}
