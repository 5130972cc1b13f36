"""`specmoe pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specmoe.commands import console
from specmoe.errors import InputError


def pretrain(
    preset: Annotated[str, typer.Option(help="switch-mini-128, switch-mini-16 or dense-mini.")],
    text: Annotated[list[Path], typer.Option(help="Text files or directories; a file name is a domain.")],
    out: Annotated[Path, typer.Option(help="Checkpoint directory; an unfinished run in it is resumed.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Use the tokenizer saved here instead of training one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of initialisation, data order and corruption.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between saves that a killed run resumes from.")] = 1000,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Change a field of the preset: steps=500, batch=32, ...")
    ] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """Train a small Switch Transformer from scratch, with a tokenizer of its own, on text with held-out documents."""
    from specmoe.analysis.figures.predictors import plot_training
    from specmoe.traces.pretrain import PretrainJob
    from specmoe.traces.pretrain import pretrain as run

    job = PretrainJob(
        preset, tuple(text), out, tokenizer, seed, device, save_every, overrides=_overrides(override or [])
    )
    steps = job.resolved().steps
    with console.progress("steps") as bar:
        task = bar.add_task(preset, total=steps)
        card = run(job, lambda step, terms: bar.update(task, completed=step, description=f"loss {terms['loss']:.3f}"))
    plot_training(out / "history.json", out / "training.png", unigram=card["held_out"]["unigram"])
    if as_json:
        console.print_json(card)
    else:
        loss = card["held_out"]
        console.say(f"{out}: held-out loss {loss['loss']:.3f} nats a token (unigram guess {loss['unigram']:.3f})")


def _overrides(pairs: list[str]) -> tuple[tuple[str, float], ...]:
    parsed = []
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            parsed.append((name, float(value)))
        except ValueError:
            raise InputError(f"--set {pair}: name=number expected") from None
    return tuple(parsed)
