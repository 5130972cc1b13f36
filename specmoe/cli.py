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
from specmoe.commands.plot import plot, report
from specmoe.commands.policies import policies
from specmoe.commands.pretrain import pretrain
from specmoe.commands.simulate import simulate
from specmoe.commands.status import status
from specmoe.commands.sweep import sweep
from specmoe.commands.train import train
from specmoe.commands.validate import calibrate, checksums, validate

app = console.group("Which expert-offloading policy is fastest for this MoE model, this VRAM and this link?")

ANSWERS, ROUTING, HARDWARE = "Answers", "Routing: recorded, looked at, foreseen", "Hardware: measured, validated"

app.command(rich_help_panel=ANSWERS)(demo)
app.command(rich_help_panel=ANSWERS)(advise)
app.command(rich_help_panel=ANSWERS)(simulate)
app.command(rich_help_panel=ANSWERS)(sweep)
app.command(rich_help_panel=ANSWERS)(report)
app.command(rich_help_panel=ANSWERS)(plot)
app.command(rich_help_panel=ANSWERS)(policies)
app.command(rich_help_panel=ANSWERS)(status)
app.add_typer(traces.app, name="traces", rich_help_panel=ROUTING)
app.command(rich_help_panel=ROUTING)(analyze)
app.command(rich_help_panel=ROUTING)(collect)
app.command(rich_help_panel=ROUTING)(pretrain)
app.command(rich_help_panel=ROUTING)(train)
app.command(rich_help_panel=ROUTING)(evaluate)
app.add_typer(profile.app, name="profile", rich_help_panel=HARDWARE)
app.command(rich_help_panel=HARDWARE)(validate)
app.command(rich_help_panel=HARDWARE)(calibrate)
app.command(rich_help_panel=HARDWARE)(checksums)
app.add_typer(reproduce.app, name="reproduce", rich_help_panel=HARDWARE)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.say(f"specmoe {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Which expert-offloading policy is fastest for this MoE model, this VRAM and this link?"""
