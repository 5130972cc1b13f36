"""What all commands share: one-line errors, JSON output, progress bars."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from specmoe.errors import SpecmoeError

if TYPE_CHECKING:
    from rich.progress import Progress

WIDE = 130  # columns of a table that goes to a file or a pipe

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
    """Print rows as a table; the first row's keys are the header, numbers are right-aligned."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    out = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name, value in rows[0].items():
        number = isinstance(value, int | float) or str(value)[:1].isdigit()
        out.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        out.add_row(*(str(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else WIDE).print(out)


def progress(unit: str) -> Progress:
    """A progress bar on standard error with rate and time left; silent when that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.0f} {unit}/s")

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
