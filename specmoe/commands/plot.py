"""`specmoe plot` and `specmoe report`: figures of sweeps, and one page about any results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console
from specmoe.errors import InputError

if TYPE_CHECKING:
    from specmoe.analysis.report import Report
    from specmoe.sweep_table import SweepTable


def plot(
    directories: Annotated[
        list[Path], typer.Argument(help="Directories that specmoe sweep wrote (--out).", metavar="DIR...")
    ],
    out: Annotated[
        Path, typer.Option(help="Directory for the figures. For several sweeps: with a directory in it for each.")
    ],
) -> None:
    """Plot a sweep: every figure that its results support, each with its message in one sentence."""
    from specmoe.analysis.answer import answer_of
    from specmoe.sweep_table import MANIFEST, load_sweep

    for directory in directories:
        if directory.is_dir() and not (directory / MANIFEST).exists():
            raise InputError(
                f"{directory}: the results of a sweep expected (of runs, validations, analyses: specmoe report)"
            )
    tables = {place: load_sweep(directory) for place, directory in _places(directories, out).items()}
    answers = {place: answer_of(table) for place, table in tables.items()}
    sweeps: list[dict[str, Any]] = []
    for place, directory in _places(directories, out).items():
        drawn = _drawn(tables[place], place)
        sweeps.append({"sweep": str(directory), "answer": list(answers[place].sentences), "figures": drawn})
    if console.printed(
        sweeps, [{"sweep": sweep["sweep"], **figure} for sweep in sweeps for figure in sweep["figures"]]
    ):
        return
    for sweep in sweeps:
        _show_sweep(sweep)


def _places(directories: list[Path], out: Path) -> dict[Path, Path]:
    """Where the figures of each sweep go; raises InputError if two would go to the same place."""
    if len(directories) == 1:
        return {out: directories[0]}
    places = {out / directory.resolve().name: directory for directory in directories}
    if len(places) < len(directories):
        raise InputError("two sweeps have directories of the same name: plot them one by one")
    return places


def _drawn(table: "SweepTable", place: Path) -> list[dict[str, str]]:
    from specmoe.analysis.figures import each_figure
    from specmoe.analysis.style import save
    from specmoe.files import make_directory

    make_directory(place)
    figures = []
    with console.progress("figures") as bar:
        task = bar.add_task("drawing", total=None)
        for drawn in each_figure(table):
            bar.update(task, advance=1, description=drawn.name)
            png = place / f"{drawn.name}.png"
            save(drawn.figure, png)
            figures.append({"name": drawn.name, "title": drawn.title, "reading": drawn.reading, "file": str(png)})
    return figures


def _show_sweep(sweep: dict[str, Any]) -> None:
    console.say(f"\n{sweep['sweep']}", bold=True)
    for sentence in sweep["answer"]:
        console.say(sentence, fg="green")
    for drawn in sweep["figures"]:
        console.say(f"{drawn['file']}: {drawn['reading']}")


def report(
    directories: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...",
            help="Directories of sweeps, runs (specmoe simulate --out), timelines, validations or analyses of traces.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page to write, an .html file.")],
) -> None:
    """Write one HTML page: which policy is fastest, how fast it is, what to buy next, and the evidence."""
    from specmoe.analysis.report import read_inputs, write_report
    from specmoe.files import directory_for

    if out.suffix != ".html" and not out.is_dir():
        raise InputError(f"--out {out}: a file name that ends in .html expected")
    command = ["specmoe", "report", *map(str, directories), "--out", str(out)]
    with console.progress("figures") as bar, directory_for(out.parent):
        task = bar.add_task("reading", total=None)
        inputs = read_inputs(directories)
        written = write_report(inputs, out, command, lambda name: bar.update(task, advance=1, description=name))
    answers = {name: list(answer.sentences) for name, answer in written.answers.items()}
    notes = list(map(str, written.notes))
    if console.printed([{"file": str(out), "title": written.title, "answers": answers, "notes": notes}]):
        return
    _show_report(written)
    console.say(f"written: {out}")


def _show_report(written: "Report") -> None:
    console.say(written.title, bold=True)
    for name, answer in written.answers.items():
        console.say(f"\n{name}", bold=True)
        for sentence in answer.sentences:
            console.say(sentence, fg="green")
    for note in written.notes:
        console.say(f"warning: {note}", fg="yellow")
