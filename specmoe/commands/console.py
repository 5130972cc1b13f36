"""What all commands share: one-line errors, tables for people and programs, progress bars."""

import csv
import errno
import gc
import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from specmoe.errors import InputError, SpecmoeError, install, one_line, visible
from specmoe.files import ended_by_signals

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

WIDE = 130  # columns of a table that goes to a file or a pipe
SLOW = 10  # units a second, below which the rate has a decimal
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)  # without a file's name: output
PERIOD = 5.0  # seconds between two lines about progress where there is no terminal
SELDOM = (50_000, 20, 20)  # thresholds of `gc`

Function = TypeVar("Function", bound=Callable[..., Any])
HELP = {"help_option_names": ["-h", "--help"]}
OUTPUT = "Output for programs"
_STYLE: ContextVar[str] = ContextVar(
    "style", default=""
)  # of the running command: as_json, as_csv, as_markdown or none


def _styles(
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print JSON: a list of objects.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", rich_help_panel=OUTPUT, help="Print CSV; columns have the names of --json.")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", rich_help_panel=OUTPUT, help="Print a Markdown table of the same columns.")
    ] = False,
) -> None:
    """Declare the options that every command has; `Command` takes them out before the command's function is called."""


@cache
def _style_options() -> list[Any]:
    app = typer.Typer(add_completion=False)
    app.command()(_styles)
    return list(get_command(app).params)


class Command(TyperCommand):
    """A command with `--json`, `--csv` and `--markdown`, whose numbers are within `units.COUNTS` and `units.SHARES`."""

    def __init__(self, name: str | None, **options: Any) -> None:
        options["params"] = [*(options.get("params") or ()), *_style_options()]
        super().__init__(name, **options)

    def invoke(self, ctx: Any) -> Any:
        """Check its numbers, then run it."""
        self._check(ctx)
        styles = [option.name for option in _style_options() if ctx.params.pop(option.name)]
        if len(styles) > 1:
            raise InputError("only one of --json, --csv and --markdown expected")
        token = _STYLE.set("".join(styles))
        try:
            return super().invoke(ctx)
        finally:
            _STYLE.reset(token)

    def _check(self, ctx: Any) -> None:
        from specmoe.units import COUNTS, MOST_OTHER, SHARES, whole

        for option in self.params:
            value, name = ctx.params.get(option.name), max(option.opts, key=len).lstrip("-")
            if type(value) is float:
                least, most = SHARES.get(name, (-MOST_OTHER, MOST_OTHER))
                if not least <= value <= most:
                    raise InputError(f"--{name} {value}: a number from {least:,} to {most:,} expected")
            if type(value) is int:
                whole(f"--{name} {value}", value, *COUNTS.get(name, (-MOST_OTHER, MOST_OTHER)))


class App(typer.Typer):
    """A group of such commands."""

    def command(self, *args: Any, examples: tuple[str, ...] = (), **options: Any) -> Callable[[Function], Function]:
        """Add one; its help ends with the examples, one command each."""
        lines = ("Examples:", *(f"  $ {example}" for example in examples))
        epilog = "\n\n".join(lines) if examples else None
        return super().command(*args, **{"cls": Command, "context_settings": HELP, "epilog": epilog, **options})


@contextmanager
def seldom_searched() -> Iterator[None]:
    """Search for garbage seldom: by default it takes a twelfth of a command that makes many objects, e.g. the demo."""
    usual = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


class Commands(TyperGroup):
    """A command group whose library errors become one line and exit status 1; so does an output that takes no more."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program."""
        with ended_by_signals(), seldom_searched():
            try:
                try:
                    return super().main(*args, **kwargs)
                finally:
                    sys.stdout.flush()
            except OSError as error:
                sys.exit(_failed(error))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read this group's own options."""
        with _usage_in_one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            with _usage_in_one_line():
                return super().invoke(ctx)
        except SpecmoeError as error:
            say(one_line(f"error: {error}"), err=True, fg="red")
            raise typer.Exit(1) from None


@contextmanager
def _usage_in_one_line() -> Iterator[None]:
    """Say what is wrong with a command line in one line, and end with status 1; a bare group shows its help."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "format_message") or type(error).__name__ == "NoArgsIsHelpError":
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "specmoe")
        text = error.format_message().rstrip(".")
        say(one_line(f"error: {command}: {text[:1].lower()}{text[1:]}; for help: {command} -h"), err=True, fg="red")
        raise typer.Exit(1) from None


def _failed(error: OSError) -> int:
    """The exit status after an error of the system, said in a line unless nobody reads the output any more."""
    with suppress(OSError):
        if not isinstance(error, BrokenPipeError):
            place = error.filename or ("standard output" if error.errno in UNWRITABLE else type(error).__name__)
            say(one_line(f"error: {place}: {error.strerror or error}"), err=True, fg="red")
    with suppress(OSError, ValueError):  # what is left in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def group(help_text: str) -> App:
    """A new command group."""
    return App(cls=Commands, help=help_text, no_args_is_help=True, rich_markup_mode="rich", context_settings=HELP)


def printed(objects: list[dict[str, Any]], rows: list[dict[str, Any]] | None = None) -> bool:
    """Print what a command reports for programs; False where neither --json, --csv nor --markdown was given.

    JSON has the objects; CSV and Markdown have the rows (by default the objects), a line each. Lists and dictionaries
    in a cell are JSON.
    """
    writers = {"as_json": _json, "as_csv": _csv, "as_markdown": _markdown}
    style = _STYLE.get()
    if style:
        sys.stdout.write(writers[style](objects if style == "as_json" or rows is None else rows))
    return bool(style)


def _json(objects: list[dict[str, Any]]) -> str:
    return json.dumps(objects, indent=2) + "\n"


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_lines_of(rows) if rows else ())
    return text.getvalue()


def _markdown(rows: list[dict[str, Any]]) -> str:
    header, *body = ([one_line(cell).replace("|", "\\|") for cell in line] for line in _lines_of(rows))
    lines = (header, ["---"] * len(header), *body) if header else ()
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _lines_of(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The header, all names in the order in which they come first, and a line of cells per row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [names, *([_cell(row.get(name)) for name in names] for row in rows)]


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return visible(value)
    return "" if value is None else json.dumps(value)


def table(rows: list[dict[str, Any]], title: str | None = None) -> None:
    """Print rows as a table; the first row's keys are the header, numbers are right-aligned.

    Where it is wider than the terminal, gaps shrink and text is broken, between words where it has any; policies, names
    in the first column and numbers stay whole.
    """
    from rich.console import Console

    if not rows:
        return
    console = Console(width=None if _on_terminal() else WIDE)
    roomy = _table(rows, title, tight=False)
    fits = console.measure(roomy, options=console.options.update(max_width=10**4)).maximum <= console.width
    console.print(roomy if fits else _table(rows, title, tight=True), crop=False)
    if not fits:
        console.print()  # which is an edge of the roomy one


def _table(rows: list[dict[str, Any]], title: str | None, tight: bool) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    padding = (0, 0) if tight else (0, 1)
    heading = None if title is None else _plain(title, "table.title")
    out = Table(
        title=heading, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=padding, show_edge=not tight
    )
    columns = zip(rows[0].items(), zip(*(row.values() for row in rows), strict=True), strict=True)
    for place, ((name, value), cells) in enumerate(columns):
        number = isinstance(value, int | float) or str(value)[:1].isdigit()
        whole = [*name.split(), *(map(str, cells) if number or place == 0 or name == "policy" else ())]
        least = max((_plain(text).cell_len for text in whole), default=0) if tight else None
        out.add_column(_plain(name), justify="right" if number else "left", overflow="fold", min_width=least)
    for row in rows:
        out.add_row(*map(_plain, row.values()))
    return out


def _plain(value: object, style: str = "") -> "Text":
    """A value as text in which nothing is markup."""
    from rich.text import Text

    return Text(visible(str(value)), style=style)


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def say_default_shapes(traces: Iterable[str]) -> None:
    """Say which traces are timed with the shape of their own model."""
    from specmoe.sim.claims import of_default_shape
    from specmoe.traces.store import open as open_trace

    for trace in traces:
        if text := of_default_shape(trace, open_trace(trace).meta):
            note(text)


def tell_if_slow() -> None:
    """Say on a terminal, before minutes are spent, that an extra would spare them."""
    if sys.stderr.isatty() and find_spec("numba") is None:
        say(f"without numba this takes several times as long: {install(['fast'])}", err=True, fg="yellow")


def say(text: str = "", *, head: str = "", err: bool = False, **style: Any) -> None:
    """Print a text after a bold `head`; in both, what a terminal would obey is visible. No colours with NO_COLOR."""
    emphatic = typer.style(visible(head), bold=True) if head else ""
    colours = False if os.environ.get("NO_COLOR") else None
    typer.echo(emphatic + typer.style(visible(text), **style), err=err, color=colours)


def pieces() -> Callable[[str], None] | None:
    """What prints a text piece by piece on a terminal; none where there is no terminal, or programs read the output."""
    if _STYLE.get() or not _on_terminal():
        return None
    return lambda piece: typer.echo(visible(piece), nl=False)


def note(text: str, *, head: str = "", **style: Any) -> None:
    """`say` a paragraph; on a terminal, lines end between words."""
    head, whole = visible(head), visible(head + text)
    if _on_terminal():
        whole = textwrap.fill(whole, max(shutil.get_terminal_size().columns, 40), break_on_hyphens=False)
    say(whole.removeprefix(head), head=head, **style)


@contextmanager
def progress(unit: str) -> "Iterator[Progress]":
    """Progress on standard error: a bar with rate and time left on a terminal, a line every few seconds elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn

    class Name(ProgressColumn):
        def render(self, task: Task) -> "Text":
            return _plain(task.description)

    class Rate(ProgressColumn):
        def render(self, task: Task) -> "Text":
            speed = task.finished_speed or task.speed or 0
            return _plain(f"{speed:,.{0 if speed >= SLOW else 1}f} {unit}/s")

    terminal = Console(stderr=True)
    columns = (Name(), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as bar:
        if terminal.is_terminal:
            yield bar
        else:
            with _lines(bar, unit):
                yield bar


@contextmanager
def _lines(bar: "Progress", unit: str) -> Iterator[None]:
    """A line about each unfinished task every PERIOD."""
    over = Event()

    def watch() -> None:
        while not over.wait(PERIOD):
            for task in [task for task in bar.tasks if task.visible and not task.finished]:
                total = "" if task.total is None else f" of {task.total:,.0f}"
                with suppress(OSError, ValueError):  # nobody listens
                    say(f"{one_line(task.description)}: {task.completed:,.0f}{total} {unit}", err=True)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
