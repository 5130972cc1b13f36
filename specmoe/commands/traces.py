"""`specmoe traces ...`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from specmoe.commands import console, trace_tables
from specmoe.errors import InputError, SpecmoeError

app = console.group("Look at, check, cut, convert and make traces: what a model's routers chose.")

MOST_TOKENS = 1000  # that are printed

TraceName = Annotated[str, typer.Argument(help="A trace file, or a bundled name such as switch-mini-128/decode/test.")]
Out = Annotated[Path, typer.Option(help="The trace file to write.")]
Phase = Annotated[Literal["encode", "decode"], typer.Option(help="Which phase the rows are of.")]


@app.command("list")
def list_traces(
    directories: Annotated[list[Path] | None, typer.Argument(help="Also list the traces below these.")] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """Show the bundled traces, and those in directories."""
    from specmoe.traces import Trace, bundled
    from specmoe.traces.summary import overview

    files = {name: bundled.path_of(name) for name in bundled.names()}
    for directory in directories or ():
        if not directory.is_dir():
            raise InputError(f"{directory}: a directory expected")
        files |= {str(path): path for path in sorted(directory.rglob("*.parquet"))}
    rows: list[dict[str, Any]] = []
    for name, path in files.items():
        try:
            rows.append(overview(Trace(path), name))
        except SpecmoeError as error:
            console.say(f"left out: {error}", err=True, fg="yellow")
    _show(rows, as_json)


@app.command()
def info(trace: TraceName, as_json: console.JsonFlag = False) -> None:
    """Show a trace's metadata and how evenly its layers use their experts."""
    from specmoe import traces
    from specmoe.traces.summary import summarize

    opened = traces.open(trace)
    with _counting("reading", len(opened)) as advance:
        summary = summarize(opened, advance)
    if as_json:
        parts = {"metadata": dataclasses.asdict(opened.meta), "summary": dataclasses.asdict(summary)}
        console.print_json({"path": str(opened.path), "warnings": opened.meta.warnings, **parts})
    else:
        trace_tables.print_info(opened, summary)


@app.command()
def validate(
    traces: Annotated[list[str], typer.Argument(help="Trace files or bundled names.")],
    as_json: console.JsonFlag = False,
) -> None:
    """Check every row against the schema; the first thing wrong is named and the exit status is 1."""
    from specmoe.traces import open as open_trace
    from specmoe.traces.validation import validate

    rows = []
    for name in traces:
        opened = open_trace(name)
        with _counting(name, len(opened)) as advance:
            rows.append({"trace": name, "valid": True, "tokens": validate(opened, advance)})
    _show(rows, as_json)


@app.command()
def head(
    trace: TraceName,
    tokens: Annotated[int, typer.Option("-n", help=f"Number of tokens, at most {MOST_TOKENS}.")] = 3,
    as_json: console.JsonFlag = False,
) -> None:
    """Show the first tokens, a row for each layer."""
    from specmoe import traces
    from specmoe.traces.export import first_tokens

    if tokens > MOST_TOKENS:
        raise InputError(f"-n {tokens}: at most {MOST_TOKENS} expected; `specmoe traces export` writes all tokens")
    rows = first_tokens(traces.open(trace), tokens)
    if as_json:
        console.print_json(rows)
    else:
        trace_tables.print_tokens(rows)


@app.command()
def split(
    trace: TraceName,
    out: Annotated[Path, typer.Option(help="Directory for train, validation and test .parquet.")],
    fractions: Annotated[str, typer.Option(help="Shares of train, validation and test.")] = "0.8,0.1,0.1",
    seed: Annotated[int, typer.Option(help="Of the shuffle within each text domain.")] = 0,
    prob_bits: Annotated[int | None, typer.Option(help="Round probabilities to so many significant bits.")] = None,
    lookahead_depth: Annotated[int | None, typer.Option(help="Keep the look-ahead over 1 to so many layers.")] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """Cut a trace in three by whole sequences, in equal shares of every text domain."""
    from specmoe import traces
    from specmoe.traces.splitting import SPLITS, split_trace
    from specmoe.traces.summary import overview

    opened = traces.open(trace)
    with _counting("splitting", len(SPLITS) * len(opened)) as advance:
        written = split_trace(opened, _numbers(fractions), seed, out, advance, prob_bits, lookahead_depth)
    _show([overview(traces.Trace(path), str(path)) for path in written.values()], as_json)


@app.command()
def export(
    trace: TraceName,
    out: Annotated[Path, typer.Option(help="A .parquet or .csv file.")],
    as_json: console.JsonFlag = False,
) -> None:
    """Write the long form, a row per token and layer, for pandas and DuckDB."""
    from specmoe import traces
    from specmoe.traces.export import export

    opened = traces.open(trace)
    trace_tables.warn(opened.meta)
    with _counting("exporting", len(opened)) as advance:
        rows = export(opened, out, advance)
    _show([{"rows": rows, "file": str(out)}], as_json)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What somebody else recorded.")],
    out: Out,
    format_name: Annotated[str, typer.Option("--format", help="gptoss, vllm, long or policylang.")],
    phase: Phase = "decode",
    kind: Annotated[
        Literal["pretrained", "trained-here", "random", "synthetic"], typer.Option(help="What the model's weights are.")
    ] = "pretrained",
    model: Annotated[str | None, typer.Option(help="Name, where the file does not tell.")] = None,
    num_experts: Annotated[int | None, typer.Option(help="Per layer, where the file does not tell.")] = None,
    top_k: Annotated[int | None, typer.Option(help="How many were used, if fewer than the file names.")] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """Bring a trace in another format into the schema."""
    from specmoe.traces.importers import Options, import_trace

    import_trace(file, format_name, out, Options(phase, kind, model, num_experts, top_k))
    _show_written(out, as_json)


@app.command()
def synthesize(
    counts: Annotated[Path, typer.Argument(help='JSON {"expert_counts": {layer: {expert: count}}}.')],
    out: Out,
    tokens: Annotated[int, typer.Option(help="How many in all.")],
    sequences: Annotated[int, typer.Option(help="Among how many sequences.")],
    assumed_stickiness: Annotated[float, typer.Option(help="How often a token repeats the last one's expert.")],
    candidates: Annotated[int, typer.Option(help="Experts named per layer, the one used first.")] = 8,
    phase: Phase = "encode",
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    as_json: console.JsonFlag = False,
) -> None:
    """Draw a top-1 trace from expert counts; all that is made from it says that it is synthetic."""
    from specmoe.traces.synthesize import load_counts, synthesize

    with _counting("drawing", tokens) as advance:
        synthesize(
            load_counts(counts),
            out,
            tokens=tokens,
            sequences=sequences,
            assumed_stickiness=assumed_stickiness,
            candidates=candidates,
            phase=phase,
            seed=seed,
            advance=advance,
        )
    _show_written(out, as_json)


@contextmanager
def _counting(title: str, tokens: int) -> Iterator[Callable[[int], object]]:
    """A progress bar over tokens; gives the function that moves it."""
    with console.progress("tokens") as bar:
        task = bar.add_task(title, total=tokens)
        yield lambda rows: bar.advance(task, rows)


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        console.print_json(rows)
    elif rows:
        console.table(rows)


def _show_written(out: Path, as_json: bool) -> None:
    from specmoe.traces import Trace
    from specmoe.traces.summary import overview

    trace = Trace(out)
    trace_tables.warn(trace.meta)
    _show([overview(trace, str(out))], as_json)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{text!r}: numbers separated by commas expected, such as 0.8,0.1,0.1") from None
