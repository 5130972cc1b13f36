"""`specmoe traces ...`.

How `specmoe traces` prints what it found, for people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from specmoe.commands import console
from specmoe.errors import InputError, SpecmoeError

if TYPE_CHECKING:
    from specmoe.traces import Trace, TraceMeta
    from specmoe.traces.summary import Summary

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
    from specmoe.traces import Trace, store
    from specmoe.traces.summary import overview

    files = {name: store.path_of(name) for name in store.names()}
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
        print_info(opened, summary)


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
        print_tokens(rows)


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
    warn(opened.meta)
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
    warn(trace.meta)
    _show([overview(trace, str(out))], as_json)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{text!r}: numbers separated by commas expected, such as 0.8,0.1,0.1") from None


def warn(meta: TraceMeta) -> None:
    """Say on standard error what every result made from the trace must repeat."""
    for warning in meta.warnings:
        console.say(f"WARNING: {warning}", err=True, fg="red", bold=True)


def print_info(trace: Trace, summary: Summary) -> None:
    """Three tables: metadata, tokens by text domain, use of experts by layer."""
    warn(trace.meta)
    facts = {name: value for name, value in vars(trace.meta).items() if name != "sources"}
    facts |= {name: getattr(summary, name) for name in ("tokens", "sequences", "dropped", "file_bytes")}
    console.table([{"field": name, "value": _plain(value)} for name, value in facts.items()], title=str(trace.path))
    sources = summary.tokens_by_source.items()
    console.table([{"source": name, "tokens": tokens} for name, tokens in sources], title="Tokens by text domain")
    layers = [
        {
            "layer": number,
            "entropy (bits)": round(layer.entropy_bits, 2),
            "active experts": f"{layer.active_experts}/{trace.meta.num_experts}",
            "top share": round(layer.top_share, 4),
        }
        for number, layer in enumerate(summary.layers)
    ]
    console.table(layers, title="Use of experts")


def print_tokens(rows: list[dict[str, Any]]) -> None:
    """A table a token, a row a layer, of `specmoe.traces.export.first_tokens`."""
    for (sequence, position, source, token), layers in groupby(rows, _token_of):
        title = f"sequence {sequence}, position {position}, {source}, token {token}"
        console.table([_layer_of(row) for row in layers], title=title)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return "; ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _token_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("sequence", "position", "source", "token"))


def _layer_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row's layer with its lists as text; probabilities to three digits, a line for each depth of the look-ahead."""
    ahead = "\n".join(map(_spaced, row["lookahead"]))
    lists = {name: _spaced(row[name]) for name in ("used", "others", "probs")}
    return {"layer": row["layer"], **lists, "lookahead": ahead}


def _spaced(numbers: list[float]) -> str:
    return " ".join(f"{number:.3g}" for number in numbers)
