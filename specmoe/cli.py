"""The `specmoe` command."""

from typing import Annotated

import typer

from specmoe import __version__
from specmoe.commands import console, profile, reproduce, shape, traces
from specmoe.commands.advise import advise
from specmoe.commands.analyze import analyze
from specmoe.commands.budget import budget
from specmoe.commands.collect import collect
from specmoe.commands.demo import demo
from specmoe.commands.evaluate import evaluate
from specmoe.commands.generate import generate
from specmoe.commands.plot import plot, report
from specmoe.commands.pretrain import pretrain
from specmoe.commands.simulate import simulate
from specmoe.commands.status import policies, status
from specmoe.commands.sweep import sweep
from specmoe.commands.train import train
from specmoe.commands.validate import calibrate, checksums, validate

app = console.group("Which expert-offloading policy is fastest for this MoE model, this VRAM and this link?")

ANSWERS, ROUTING, HARDWARE = "Answers", "Routing: record, analyse, predict", "Hardware: profiles, validation"

app.command(
    rich_help_panel=ANSWERS,
    examples=(
        "specmoe demo",
        "specmoe demo --steps 200 --out out/short",
    ),
)(demo)
app.command(
    rich_help_panel=ANSWERS,
    examples=(
        "specmoe advise --model switch-base-128 --profile rtx3090 --vram 8GiB",
        "specmoe advise --model switch-base-128 --profile rtx3090 --vram 8GiB --target 600tok/s",
    ),
)(advise)
app.command(
    rich_help_panel=ANSWERS,
    examples=(
        "specmoe budget --model qwen3-30b-a3b --vram 24GiB --context 32k --format q4_k",
        "specmoe budget --model gpt-oss-20b --vram 8GiB --context 16k --kv-format q8_0 --json",
    ),
)(budget)
app.command(
    rich_help_panel=ANSWERS,
    examples=(
        "specmoe simulate switch-mini-128/decode/test --policy on-demand-lru,lookahead --slots 154",
        "specmoe simulate switch-mini-128/decode/test --policy all --vram 4GiB --profile rtx4090 --csv",
    ),
)(simulate)
app.command(
    rich_help_panel=ANSWERS,
    examples=(
        "specmoe sweep --trace switch-mini-128/decode/test --policy all --slots 64,154 --out swept",
        "specmoe sweep SWEEP.toml --vram 4GiB..24GiB:6 --out swept",
    ),
)(sweep)
app.command(
    rich_help_panel=ANSWERS,
    examples=("specmoe report swept --out report.html",),
)(report)
app.command(
    rich_help_panel=ANSWERS,
    examples=("specmoe plot swept --out figures",),
)(plot)
app.command(
    rich_help_panel=ANSWERS,
    examples=(
        "specmoe policies",
        "specmoe policies --csv",
    ),
)(policies)
app.command(
    rich_help_panel=ANSWERS,
    examples=(
        "specmoe status",
        "specmoe status traces/",
    ),
)(status)
app.add_typer(traces.app, name="traces", rich_help_panel=ROUTING)
app.command(
    rich_help_panel=ROUTING,
    examples=(
        "specmoe analyze switch-mini-128/decode/test --out analysis",
        "specmoe analyze switch-mini-128/decode/test --batch 1,8 --out analysis",
    ),
)(analyze)
app.command(
    rich_help_panel=ROUTING,
    examples=(
        "specmoe collect --model switch-mini-128 --text book.txt --out mine.parquet",
        "specmoe collect --model google/switch-base-8 --dataset wikitext --out mine.parquet --sequences 100",
    ),
)(collect)
app.command(
    rich_help_panel=ROUTING,
    examples=("specmoe pretrain --preset switch-mini-16 --text books/ --out checkpoint",),
)(pretrain)
app.command(
    rich_help_panel=ROUTING,
    examples=("specmoe train switch-mini-128/decode/train --architecture contextual --out predictor",),
)(train)
app.command(
    rich_help_panel=ROUTING,
    examples=(
        "specmoe evaluate switch-mini-128/decode/test",
        "specmoe evaluate switch-mini-128/decode/test --predictor lookahead,frequency --depth 1 --markdown",
    ),
)(evaluate)
app.add_typer(profile.app, name="profile", rich_help_panel=HARDWARE)
app.add_typer(shape.app, name="shape", rich_help_panel=HARDWARE)
app.command(
    rich_help_panel=HARDWARE,
    examples=(
        "specmoe validate switch-mini-128/decode/test --profile h100-sxm5-80gb --out validated",
        "specmoe validate switch-mini-128/decode/test --profile mine.toml --grid full --out validated",
    ),
)(validate)
app.command(
    rich_help_panel=HARDWARE,
    examples=(
        "specmoe calibrate validated/mine.steps.parquet switch-mini-128/decode/test --profile mine.toml --out fit.toml",
    ),
)(calibrate)
app.command(
    rich_help_panel=HARDWARE,
    examples=("specmoe checksums switch-mini-128/decode/test --policy on-demand-lru,lookahead",),
)(checksums)
app.command(
    rich_help_panel=HARDWARE,
    examples=('specmoe generate --model switch-mini-16 --prompt "It is a truth" --slots 8 --compare',),
)(generate)
app.add_typer(reproduce.app, name="reproduce", rich_help_panel=HARDWARE)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.say(f"specmoe {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version of specmoe.")
    ] = False,
) -> None:
    """Which expert-offloading policy is fastest for this MoE model, this VRAM and this link?"""
