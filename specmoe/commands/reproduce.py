"""`specmoe reproduce ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from specmoe.commands import console, options

app = console.group("Simulate a published experiment and compare it with what its authors measured.")


@app.command(examples=("specmoe reproduce isca24", "specmoe reproduce isca24 --shape switch-base-128 --json"))
def isca24(
    shape: Annotated[
        str,
        typer.Option(
            help="Model: a shipped Switch shape. The authors' measurements are of switch-base-64.",
            autocompletion=options.shapes,
        ),
    ] = "switch-base-64",
) -> None:
    """Reproduce Pre-gated MoE (Hwang et al., ISCA 2024): block latency and throughput of four offloading methods."""
    from specmoe.sim.reproduce.isca24 import reproduce
    from specmoe.sim.reproduce.report import to_json, to_markdown

    made = reproduce(shape)
    if not console.printed([to_json(made)]):
        console.say(to_markdown(made))
