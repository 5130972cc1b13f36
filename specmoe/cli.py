"""The `specmoe` command."""

from __future__ import annotations

from typing import Annotated

import typer

from specmoe import __version__
from specmoe.commands import console

app = console.group("Which expert-offloading policy is fastest for this MoE model, this VRAM and this link?")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"specmoe {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Which expert-offloading policy is fastest for this MoE model, this VRAM and this link?"""
