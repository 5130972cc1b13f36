"""`specmoe report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specmoe.commands import console
from specmoe.errors import InputError

if TYPE_CHECKING:
    from specmoe.analysis.report import Report


def report(
    directories: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...",
            help="Directories of sweeps, of runs (`simulate --out`), timelines, validations or analyses of traces.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page, an .html file.")],
    as_json: console.JsonFlag = False,
) -> None:
    """One page that answers first (which policy, how fast, what to buy next) and then shows what that rests on."""
    from specmoe.analysis.report import read_inputs, write_report
    from specmoe.files import directory_for

    if out.suffix != ".html" and not out.is_dir():
        raise InputError(f"--out {out}: a file name that ends in .html expected")
    command = ["specmoe", "report", *map(str, directories), "--out", str(out)]
    with console.progress("figures") as bar, directory_for(out.parent):
        task = bar.add_task("reading", total=None)
        inputs = read_inputs(directories)
        written = write_report(inputs, out, command, lambda name: bar.update(task, advance=1, description=name))
    if as_json:
        answers = {name: list(answer.sentences) for name, answer in written.answers.items()}
        notes = list(map(str, written.notes))
        console.print_json({"file": str(out), "title": written.title, "answers": answers, "notes": notes})
        return
    _show(written)
    console.say(f"written: {out}")


def _show(written: Report) -> None:
    console.say(written.title, bold=True)
    for name, answer in written.answers.items():
        console.say(f"\n{name}", bold=True)
        for sentence in answer.sentences:
            console.say(sentence, fg="green")
    for note in written.notes:
        console.say(f"warning: {note}", fg="yellow")
