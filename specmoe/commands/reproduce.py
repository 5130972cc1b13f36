"""`specmoe reproduce ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from specmoe.commands import console

app = console.group("Simulate a published experiment, next to what its authors measured.")


@app.command()
def isca24(
    shape: Annotated[str, typer.Option(help="Any shipped Switch shape; measured was switch-base-64.")] = (
        "switch-base-64"
    ),
    as_json: console.JsonFlag = False,
) -> None:
    """Pre-gated MoE (Hwang et al., ISCA 2024): latency of a MoE block and throughput of four ways to offload."""
    from specmoe.sim.reproduce.isca24 import reproduce
    from specmoe.sim.reproduce.report import to_json, to_markdown

    made = reproduce(shape)
    console.print_json(to_json(made)) if as_json else console.say(to_markdown(made))
