"""`specmoe traces ...`: list, check, cut, convert and make traces."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from specmoe.commands import console, options
from specmoe.errors import InputError, SpecmoeError

if TYPE_CHECKING:
    from specmoe.traces import Trace, TraceMeta
    from specmoe.traces.summary import Summary

app = console.group("List, check, cut, convert and make traces of routing (which experts a model uses for each token).")

IMPORTS = ("gptoss", "vllm", "megatron", "llama", "long", "policylang")
MOST_TOKENS = 1000  # that are printed

Out = Annotated[Path, typer.Option(help="The trace file to write.")]
Phase = Annotated[Literal["encode", "decode"], typer.Option(help="Phase of the rows.")]


@app.command("list", examples=("specmoe traces list", "specmoe traces list out/ --csv"))
def list_traces(
    directories: Annotated[list[Path] | None, typer.Argument(help="Directories whose traces to list, too.")] = None,
) -> None:
    """List the bundled traces, and those in directories."""
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
            console.say(f"not listed: {error}", err=True, fg="yellow")
    _show(rows)


@app.command(examples=("specmoe traces info switch-mini-128/decode/test",))
def info(trace: options.Trace) -> None:
    """Show a trace's metadata, and how evenly its layers use their experts."""
    from specmoe import traces
    from specmoe.traces.summary import summarize

    opened = traces.open(trace)
    with _counting("reading", len(opened)) as advance:
        summary = summarize(opened, advance)
    parts = {"metadata": dataclasses.asdict(opened.meta), "summary": dataclasses.asdict(summary)}
    layers = [{"layer": number, **dataclasses.asdict(layer)} for number, layer in enumerate(summary.layers)]
    if not console.printed([{"path": str(opened.path), "warnings": opened.meta.warnings, **parts}], layers):
        print_info(opened, summary)


@app.command(examples=("specmoe traces validate mine.parquet",))
def validate(
    traces: Annotated[
        list[str],
        typer.Argument(help="Bundled traces' names or trace files.", autocompletion=options.traces),
    ],
) -> None:
    """Check every row of traces against the schema; the first fault ends the command with exit status 1."""
    from specmoe.traces import open as open_trace
    from specmoe.traces.validation import validate

    rows = []
    for name in traces:
        opened = open_trace(name)
        with _counting(name, len(opened)) as advance:
            rows.append({"trace": name, "valid": True, "tokens": validate(opened, advance)})
    _show(rows)


@app.command(examples=("specmoe traces head switch-mini-128/decode/test -n 5",))
def head(
    trace: options.Trace,
    tokens: Annotated[int, typer.Option("-n", help=f"Number of tokens to show, at most {MOST_TOKENS}.")] = 3,
) -> None:
    """Show a trace's first tokens, with a row for each layer."""
    from specmoe import traces
    from specmoe.traces.summary import first_tokens

    if tokens > MOST_TOKENS:
        raise InputError(f"-n {tokens}: at most {MOST_TOKENS} expected; `specmoe traces export` writes all tokens")
    rows = first_tokens(traces.open(trace), tokens)
    if not console.printed(rows):
        print_tokens(rows)


@app.command(examples=("specmoe traces split mine.parquet --out splits",))
def split(
    trace: options.Trace,
    out: Annotated[Path, typer.Option(help="Directory for train.parquet, validation.parquet and test.parquet.")],
    fractions: Annotated[str, typer.Option(help="Shares of train, validation and test.")] = "0.8,0.1,0.1",
    seed: Annotated[int, typer.Option(help="Seed of the shuffle within each text domain.")] = 0,
    prob_bits: Annotated[
        int | None, typer.Option(help="Round probabilities to this many significant bits. Default: no rounding.")
    ] = None,
    lookahead_depth: Annotated[
        int | None, typer.Option(help="Keep look-ahead predictions up to this many layers ahead. Default: all.")
    ] = None,
) -> None:
    """Cut a trace into train, validation and test by whole sequences, with equal shares of each text domain."""
    from specmoe import traces
    from specmoe.traces.splitting import SPLITS, split_trace
    from specmoe.traces.summary import overview

    opened = traces.open(trace)
    with _counting("splitting", len(SPLITS) * len(opened)) as advance:
        written = split_trace(opened, _numbers(fractions), seed, out, advance, prob_bits, lookahead_depth)
    _show([overview(traces.Trace(path), str(path)) for path in written.values()])


@app.command(examples=("specmoe traces export switch-mini-128/decode/test --out test.csv",))
def export(
    trace: options.Trace,
    out: Annotated[Path, typer.Option(help="The file to write, .parquet or .csv.")],
) -> None:
    """Write a trace in long form, one row per token and layer, e.g. for pandas or DuckDB."""
    from specmoe import traces
    from specmoe.traces.summary import export

    opened = traces.open(trace)
    warn(opened.meta)
    with _counting("exporting", len(opened)) as advance:
        rows = export(opened, out, advance)
    _show([{"rows": rows, "file": str(out)}])


@app.command(
    "import",
    examples=(
        "specmoe traces import routing.npy --format vllm --model qwen3-30b-a3b --prompt-tokens 512 --out mine.parquet",
        "specmoe traces import router_trace_rank0.jsonl --format megatron --num-experts 64 --out mine.parquet",
    ),
)
def import_(
    files: Annotated[list[Path], typer.Argument(help="Files in another format, of one model.")],
    out: Out,
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="Format of the files: gptoss, vllm, megatron, llama (llama-moe-trace), long or policylang.",
            autocompletion=options.completing(lambda: IMPORTS),
        ),
    ],
    phase: Phase = "decode",
    kind: Annotated[
        Literal["pretrained", "trained-here", "random", "synthetic"],
        typer.Option(help="Origin of the model's weights."),
    ] = "pretrained",
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of the model; a shipped shape's name gives the number of experts. Default: the file's."
        ),
    ] = None,
    num_experts: Annotated[
        int | None, typer.Option(help="Number of experts per layer. Default: the model's, or as the file says.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Number of experts used per token. Default: all that the file names.")
    ] = None,
    prompt_tokens: Annotated[
        str | None,
        typer.Option(
            help="Tokens of the prompt (vllm), one number for all requests or one for each, e.g. 512,96. They are "
            "encode, later ones decode. Default: all tokens are of --phase."
        ),
    ] = None,
) -> None:
    """Convert files in another format into a trace."""
    from specmoe.hwprofiles.catalogue import load_shape, shape_of_model
    from specmoe.traces.importers import Options, import_trace
    from specmoe.units import whole

    shipped = None if model is None else shape_of_model(model)
    if num_experts is None and shipped:
        num_experts = load_shape(shipped).experts.number
    prompts = tuple(whole(f"--prompt-tokens {prompt_tokens}", each) for each in _numbers(prompt_tokens or ""))
    import_trace(files, format_name, out, Options(phase, kind, model, num_experts, top_k, prompts))
    _show_written(out)


@app.command(
    examples=(
        "specmoe traces synthesize counts.json --tokens 5000 --sequences 10 --assumed-stickiness 0.3 --out t.parquet",
    )
)
def synthesize(
    counts: Annotated[Path, typer.Argument(help='JSON file of {"expert_counts": {layer: {expert: count}}}.')],
    out: Out,
    tokens: Annotated[int, typer.Option(help="Number of tokens in all sequences.")],
    sequences: Annotated[int, typer.Option(help="Number of sequences.")],
    assumed_stickiness: Annotated[
        float, typer.Option(help="Probability that a token uses the expert of the token before it.")
    ],
    candidates: Annotated[int, typer.Option(help="Number of candidates per layer, the used expert first.")] = 8,
    phase: Phase = "encode",
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
) -> None:
    """Draw a synthetic top-1 trace from expert counts; each result made from it names it as synthetic."""
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
    _show_written(out)


@contextmanager
def _counting(title: str, tokens: int) -> Iterator[Callable[[int], object]]:
    """A progress bar over tokens; gives the function that moves it."""
    with console.progress("tokens") as bar:
        task = bar.add_task(title, total=tokens)
        yield lambda rows: bar.advance(task, rows)


def _show(rows: list[dict[str, Any]]) -> None:
    if not console.printed(rows):
        console.table(rows)


def _show_written(out: Path) -> None:
    from specmoe.traces import Trace
    from specmoe.traces.summary import overview

    trace = Trace(out)
    warn(trace.meta)
    _show([overview(trace, str(out))])


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if text)
    except ValueError:
        raise InputError(f"{text!r}: numbers separated by commas expected, such as 0.8,0.1,0.1") from None


def warn(meta: "TraceMeta") -> None:
    """Say on standard error what every result made from the trace must repeat."""
    for warning in meta.warnings:
        console.say(f"WARNING: {warning}", err=True, fg="red", bold=True)


def print_info(trace: "Trace", summary: "Summary") -> None:
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
    """A table a token, a row a layer, of `specmoe.traces.summary.first_tokens`."""
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
