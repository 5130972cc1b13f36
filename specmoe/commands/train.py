"""`specmoe train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.options import parse_override
from specmoe.errors import require_torch

ARCHITECTURES = ("contextual", "transformer", "hierarchical", "fusion")


Trace = Annotated[
    str,
    typer.Argument(help="Trace to learn from: a bundled trace's name or a trace file.", autocompletion=options.traces),
]
Architecture = Annotated[
    str,
    typer.Option(
        help="Network: contextual, transformer, hierarchical or fusion.",
        autocompletion=options.completing(lambda: ARCHITECTURES),
    ),
]
Epochs = Annotated[int, typer.Option(help="Most epochs. Training stops earlier when validation stops improving.")]
ValidationTrace = Annotated[
    str | None,
    typer.Option(
        help="Trace to validate on. Default: sequences of TRACE (see --validation).",
        autocompletion=options.traces,
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        help="Inputs of the network, comma-separated: token, probs, history, lookahead. Default: the first three; "
        "for fusion, all."
    ),
]
Override = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a size of the network, e.g. width=64 or dropout=0.2. May be repeated."),
]


def train(
    trace: Trace,
    architecture: Architecture,
    out: Annotated[Path, typer.Option(help="Directory for the weights, the metrics and the learning curve.")],
    epochs: Epochs = 25,
    batch: Annotated[int, typer.Option(help="Number of sequences per training step.")] = 16,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-4,
    validation: Annotated[float, typer.Option(help="Share of the sequences that is held out for validation.")] = 0.2,
    validation_trace: ValidationTrace = None,
    depth: Annotated[int, typer.Option(help="Number of layers to predict ahead.")] = 3,
    features: Features = None,
    override: Override = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 0.05,
    patience: Annotated[int, typer.Option(help="Stop after this many epochs without a better validation loss.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of validation split, weights, data order and dropout.")] = 0,
    device: options.Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in --out.")] = False,
) -> None:
    """Train a network that predicts experts; validation sequences are never trained on."""
    require_torch("safetensors")
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
    if not console.printed([metrics]):
        _report(out, metrics)


def _latest(history: list[dict[str, float]]) -> str:
    return f"loss {history[-1]['validation_loss']:.3f} top-1 {history[-1]['validation_top1']:.3f}"


def _report(out: Path, metrics: dict[str, Any]) -> None:
    found = metrics["validation"]["within_step"]
    console.table([{"ahead": depth.removeprefix("depth"), **tops} for depth, tops in found.items()])
    console.say(f"{out}: best of {len(metrics['epochs'])} epochs: {metrics['best_epoch']}, {metrics['seconds']:.0f} s")
