"""What all commands share: one-line errors, JSON output, progress bars."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from specmoe.errors import SpecmoeError

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

WIDE = 130  # columns of a table that goes to a file or a pipe
SLOW = 10  # units a second, below which the rate has a decimal

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


class Commands(TyperGroup):
    """A command group whose library errors become one line and exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except SpecmoeError as error:
            typer.secho(f"error: {error}", err=True, fg="red")
            raise typer.Exit(1) from None


def group(help_text: str) -> typer.Typer:
    """A new command group."""
    return typer.Typer(cls=Commands, help=help_text, no_args_is_help=True, rich_markup_mode="rich")


def print_json(value: Any) -> None:
    """Print one JSON value on standard output, for programs."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def table(rows: list[dict[str, Any]], title: str | None = None) -> None:
    """Print rows as a table; the first row's keys are the header, numbers are right-aligned.

    Where it is wider than the terminal, gaps shrink and text is broken, between words where it has any; names in the
    first column and numbers stay whole.
    """
    from rich.console import Console

    console = Console(width=None if _on_terminal() else WIDE)
    roomy = _table(rows, title, tight=False)
    fits = console.measure(roomy, options=console.options.update(max_width=10**4)).maximum <= console.width
    console.print(roomy if fits else _table(rows, title, tight=True), crop=False)
    if not fits:
        console.print()  # which is an edge of the roomy one


def _table(rows: list[dict[str, Any]], title: str | None, tight: bool) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    padding = (0, 0) if tight else (0, 1)
    out = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=padding, show_edge=not tight
    )
    columns = zip(rows[0].items(), zip(*(row.values() for row in rows), strict=True), strict=True)
    for place, ((name, value), cells) in enumerate(columns):
        number = isinstance(value, int | float) or str(value)[:1].isdigit()
        whole = [*name.split(), *(map(str, cells) if number or place == 0 else ())]
        least = max(map(len, whole), default=0) if tight else None
        out.add_column(name, justify="right" if number else "left", overflow="fold", min_width=least)
    for row in rows:
        out.add_row(*(str(value) for value in row.values()))
    return out


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def tell_if_slow() -> None:
    """Say on a terminal, before minutes are spent, that an extra would spare them."""
    if sys.stderr.isatty() and find_spec("numba") is None:
        typer.secho(
            "without numba this takes several times as long: pip install 'specmoe[fast]'", err=True, fg="yellow"
        )


def note(text: str, **style: Any) -> None:
    """Print a paragraph; on a terminal, lines end between words."""
    if _on_terminal():
        text = textwrap.fill(text, max(shutil.get_terminal_size().columns, 40), break_on_hyphens=False)
    typer.secho(text, **style)


def progress(unit: str) -> Progress:
    """A progress bar on standard error with rate and time left; silent when that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed or 0
            return Text(f"{speed:,.{0 if speed >= SLOW else 1}f} {unit}/s")

    terminal = Console(stderr=True)
    return Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=terminal,
        disable=not terminal.is_terminal,
    )
