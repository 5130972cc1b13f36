"""`specmoe plot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console
from specmoe.errors import InputError

if TYPE_CHECKING:
    from specmoe.sweep_table import SweepTable


def plot(
    directories: Annotated[
        list[Path], typer.Argument(help="Directories that `specmoe sweep` wrote.", metavar="DIR...")
    ],
    out: Annotated[Path, typer.Option(help="Directory for the pictures; of several sweeps, one in it for each.")],
    as_json: console.JsonFlag = False,
) -> None:
    """Draw what a sweep found: every figure that its table supports, and what each says in one sentence."""
    from specmoe.analysis.answer import answer_of
    from specmoe.sweep_table import MANIFEST, load_sweep

    for directory in directories:
        if directory.is_dir() and not (directory / MANIFEST).exists():
            raise InputError(
                f"{directory}: no sweep is in it; for pages of runs, validations and analyses: specmoe report"
            )
    tables = {place: load_sweep(directory) for place, directory in _places(directories, out).items()}
    answers = {place: answer_of(table) for place, table in tables.items()}
    told = []
    for place, directory in _places(directories, out).items():
        drawn = _drawn(tables[place], place)
        told.append({"sweep": str(directory), "answer": list(answers[place].sentences), "figures": drawn})
    if as_json:
        console.print_json(told)
        return
    for sweep in told:
        _show(sweep)


def _places(directories: list[Path], out: Path) -> dict[Path, Path]:
    """Where the figures of each sweep go; raises InputError if two would go to the same place."""
    if len(directories) == 1:
        return {out: directories[0]}
    places = {out / directory.resolve().name: directory for directory in directories}
    if len(places) < len(directories):
        raise InputError("two sweeps of one name: plot them one by one")
    return places


def _drawn(table: SweepTable, place: Path) -> list[dict[str, str]]:
    from specmoe.analysis.figures import each_figure
    from specmoe.analysis.style import save
    from specmoe.files import make_directory

    make_directory(place)
    told = []
    with console.progress("figures") as bar:
        task = bar.add_task("drawing", total=None)
        for drawn in each_figure(table):
            bar.update(task, advance=1, description=drawn.name)
            png = place / f"{drawn.name}.png"
            save(drawn.figure, png)
            told.append({"name": drawn.name, "title": drawn.title, "reading": drawn.reading, "file": str(png)})
    return told


def _show(sweep: dict[str, Any]) -> None:
    console.say(f"\n{sweep['sweep']}", bold=True)
    for sentence in sweep["answer"]:
        console.say(sentence, fg="green")
    for drawn in sweep["figures"]:
        console.say(f"{drawn['file']}: {drawn['reading']}")
