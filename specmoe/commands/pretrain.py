"""`specmoe pretrain`."""

from pathlib import Path
from typing import Annotated

import typer

from specmoe.commands import console, options
from specmoe.errors import InputError

PRESETS = ("switch-mini-128", "switch-mini-16", "dense-mini", "decoder-mini-64", "decoder-mini-dense")


def pretrain(
    preset: Annotated[
        str,
        typer.Option(
            help=f"Model to train: {', '.join(PRESETS[:-1])} or {PRESETS[-1]}.",
            autocompletion=options.completing(lambda: PRESETS),
        ),
    ],
    text: Annotated[
        list[Path], typer.Option(help="Text file or directory; each file is a text domain. May be repeated.")
    ],
    out: Annotated[Path, typer.Option(help="Directory for the checkpoint. An unfinished run in it continues.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Directory of a saved tokenizer. Default: train one on the text.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of initialisation, data order and span corruption.")] = 0,
    save_every: Annotated[
        int, typer.Option(help="Save the state every this many steps, so that an interrupted run can continue.")
    ] = 1000,
    minutes: Annotated[
        float | None,
        typer.Option(help="End training after this time; the learning rate follows it. Default: no limit."),
    ] = None,
    device: options.Device = "auto",
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a number of the preset, e.g. steps=500 or batch=32. May be repeated."),
    ] = None,
) -> None:
    """Train a small MoE model and its tokenizer from scratch on text; some documents are held out."""
    from specmoe.analysis.figures.predictors import plot_training
    from specmoe.traces.pretrain import PretrainJob
    from specmoe.traces.pretrain import pretrain as run

    job = PretrainJob(
        preset,
        tuple(text),
        out,
        tokenizer,
        seed,
        device,
        save_every,
        minutes=minutes,
        overrides=_overrides(override or []),
    )
    steps = job.resolved().steps
    with console.progress("steps") as bar:
        task = bar.add_task(preset, total=steps)
        card = run(job, lambda step, terms: bar.update(task, completed=step, description=f"loss {terms['loss']:.3f}"))
    plot_training(out / "history.json", out / "training.png", unigram=card["held_out"]["unigram"])
    if not console.printed([card]):
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
