"""`specmoe train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from specmoe.commands import console
from specmoe.commands.values import parse_override


def train(
    trace: Annotated[str, typer.Argument(help="Trace file or bundled name to learn from.")],
    architecture: Annotated[str, typer.Option(help="contextual, transformer, hierarchical or fusion.")],
    out: Annotated[Path, typer.Option(help="Directory for weights, card, metrics and curve.")],
    epochs: Annotated[int, typer.Option(help="At most; stops earlier where validation gets no better.")] = 25,
    batch: Annotated[int, typer.Option(help="Sequences.")] = 16,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-4,
    validation: Annotated[float, typer.Option(help="Share of the sequences that validates.")] = 0.2,
    validation_trace: Annotated[str | None, typer.Option(help="Validate on this trace, train on all of TRACE.")] = None,
    depth: Annotated[int, typer.Option(help="Layers to predict ahead.")] = 3,
    features: Annotated[
        str | None, typer.Option(help="Of token, probs, history, lookahead; by default all, the last for fusion only.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Change a size: width=64, hidden=256, dropout=0.2, ...")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = 0.05,
    patience: Annotated[int, typer.Option(help="Epochs without a better validation loss before it stops.")] = 5,
    seed: Annotated[int, typer.Option(help="Of split, weights, order and dropout.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped in --out.")] = False,
    as_json: console.JsonFlag = False,
) -> None:
    """Train a predictor of experts on a trace; sequences that validate are never trained on."""
    _require_torch()
    from specmoe.analysis.figures.predictors import plot_learning
    from specmoe.sim.speculate.learned.job import TrainJob
    from specmoe.sim.speculate.learned.job import train as run
    from specmoe.sim.speculate.learned.training import Recipe

    recipe = Recipe(epochs, batch, rate, patience, weight_decay, seed)
    sizes = dict(parse_override(pair) for pair in override or [])
    seen = None if features is None else tuple(features.split(","))
    job = TrainJob(trace, architecture, out, recipe, validation, validation_trace, depth, seen, sizes, device, resume)
    with console.progress("epochs") as bar:
        task = bar.add_task(architecture, total=epochs)
        metrics = run(job, lambda run: bar.update(task, completed=len(run.history), description=_latest(run.history)))
    plot_learning(metrics["epochs"], out / "training.png", f"{architecture} on {trace}")
    if as_json:
        console.print_json(metrics)
    else:
        _report(out, metrics)


def _latest(history: list[dict[str, float]]) -> str:
    return f"loss {history[-1]['validation_loss']:.3f} top-1 {history[-1]['validation_top1']:.3f}"


def _report(out: Path, metrics: dict[str, Any]) -> None:
    found = metrics["validation"]["within_step"]
    console.table([{"ahead": depth.removeprefix("depth"), **tops} for depth, tops in found.items()])
    console.say(f"{out}: best of {len(metrics['epochs'])} epochs: {metrics['best_epoch']}, {metrics['seconds']:.0f} s")


def _require_torch() -> None:
    from importlib.util import find_spec

    from specmoe.errors import MissingExtraError

    for package in ("torch", "safetensors"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "torch")
