"""The `specmoe` command."""

from __future__ import annotations

from typing import Annotated

import typer

from specmoe import __version__
from specmoe.commands import console, profile, reproduce, traces
from specmoe.commands.advise import advise
from specmoe.commands.analyze import analyze
from specmoe.commands.collect import collect
from specmoe.commands.demo import demo
from specmoe.commands.evaluate import evaluate
from specmoe.commands.plot import plot
from specmoe.commands.pretrain import pretrain
from specmoe.commands.report import report
from specmoe.commands.simulate import simulate
from specmoe.commands.status import status
from specmoe.commands.sweep import sweep
from specmoe.commands.train import train
from specmoe.commands.validate import calibrate, checksums, validate

app = console.group("Which expert-offloading policy is fastest for this MoE model, this VRAM and this link?")

app.command()(demo)
app.command()(collect)
app.command()(pretrain)
app.command()(simulate)
app.command()(plot)
app.command()(sweep)
app.command()(report)
app.command()(train)
app.command()(evaluate)
app.command()(validate)
app.command()(calibrate)
app.command()(checksums)
app.command()(advise)
app.command()(analyze)
app.command()(status)
app.add_typer(traces.app, name="traces")
app.add_typer(profile.app, name="profile")
app.add_typer(reproduce.app, name="reproduce")


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
