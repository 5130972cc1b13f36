"""`specmoe budget`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.errors import InputError

GIB = 1 << 30


def budget(
    model: Annotated[str, typer.Option("--model", "--shape", help=options.SHAPE, autocompletion=options.shapes)],
    vram: Annotated[str, typer.Option(help="All of the VRAM, e.g. 8GiB.")],
    context: Annotated[
        str, typer.Option(help="Tokens of each sequence whose keys and values stay in VRAM, e.g. 4096 or 32k.")
    ],
    batch: options.Batch = 1,
    held: Annotated[
        str | None, typer.Option("--format", help=options.FORMAT + options.OWN, autocompletion=options.formats)
    ] = None,
    dense_format: options.DenseFormat = None,
    kv_format: options.KvFormat = "f16",
    assumed_reserve: options.AssumedReserve = "1GiB",
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the slots that each context leaves, a line for each format of the cache: a .png file."),
    ] = None,
) -> None:
    """Show what VRAM holds: weights that stay, the KV cache of a context, a reserve, and slots for experts."""
    from specmoe.vram import budget as budget_of

    formats: dict[str, Any] = {"format": held, "dense_format": dense_format, "kv_format": kv_format}
    answer = budget_of(model, vram, context, batch=batch, assumed_reserve=assumed_reserve, **formats)
    if plot is not None:
        if plot.suffix != ".png":
            raise InputError(f"--plot {plot}: a file name that ends in .png expected")
        from specmoe.analysis.figures.memory import plot_slots

        plot_slots(answer.slots_by_context, answer.row, plot)
    if console.printed([answer.row]):
        return
    found, row = answer.found, answer.row
    lines = [{"what": what, "GiB": f"{size / GIB:.2f}"} for what, size in answer.lines]
    console.table(lines, title=f"{found.vram_bytes / GIB:.2f} GiB of VRAM for {row['model']} in {row['format']}")
    fits = "every expert" if found.fits else f"{found.slots:,} of {found.experts:,} experts"
    console.say(f"VRAM holds {fits} beside a context of {row['context']:,} tokens")
    console.say(f"the longest context that leaves a slot has {found.longest_context:,} tokens")
    if plot is not None:
        console.say(f"written: {plot}")
