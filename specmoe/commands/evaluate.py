"""`specmoe evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.options import parse_override, several, sources
from specmoe.errors import InputError

PREFIX = "predictor."


def evaluate(
    trace: Annotated[
        str,
        typer.Argument(
            help="Trace to score on, from which nothing is learned: a bundled trace's name or a trace file.",
            autocompletion=options.traces,
        ),
    ],
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            help="Predictors to score, comma-separated or repeated. Default: all that can run on this trace.",
            autocompletion=options.predictors,
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Trace that predictors learn from. Default: the trace's own train split.",
            autocompletion=options.traces,
        ),
    ] = None,
    source: options.Source = None,
    train_source: options.TrainSource = None,
    depth: Annotated[int | None, typer.Option(help="Predict up to this many layers ahead. Default: 3.")] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Keyword of a predictor, e.g. predictor.warm=false. May be repeated."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="Directory of a trained predictor (specmoe train). May be repeated.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Directory for evaluate.json and the figures. Two runs differ only in milliseconds_cpu, which is "
            "measured on this machine."
        ),
    ] = None,
) -> None:
    """Score predictors on held-out sequences: accuracy, calibration, cost, and the highest possible accuracy."""
    from specmoe.files import make_directory
    from specmoe.sim.speculate.scoring.evaluate import Examination, asked_for, run

    asked = asked_for(several(predictor), _parameters(override or []), checkpoint or ())
    if out is not None:
        make_directory(out)
    with console.progress("predictors") as bar:
        task = bar.add_task("scoring", total=len(asked))
        exam = Examination(trace, train, depth, source=sources(source), train_source=sources(train_source))
        rows = run(exam, asked, bool(predictor or checkpoint), lambda: bar.advance(task))
    if out is not None:
        _write(rows, exam.ceilings, out)
    if not console.printed(rows):
        show(rows)


def _parameters(pairs: list[str]) -> dict[str, Any]:
    """The predictors' keywords among `--set`; raises InputError for anything else."""
    found = dict(map(parse_override, pairs))
    for name in found:
        if not name.startswith(PREFIX):
            raise InputError(f"--set {name}: {PREFIX}<keyword> expected")
    return {name.removeprefix(PREFIX): value for name, value in found.items()}


def _write(rows: list[dict[str, Any]], ceilings: dict[str, Any], out: Path) -> None:
    import json

    from specmoe.analysis.figures.predictors import plot_predictions
    from specmoe.files import replacing

    with replacing(out / "evaluate.json") as fresh:
        fresh.write_text(json.dumps({"predictors": rows, "ceilings": ceilings}, indent=2) + "\n")
    plot_predictions(rows, out)


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table, predictors that know the future last; ceilings; and the data behind them."""
    scored = sorted((row for row in rows if "error" not in row), key=lambda row: bool(row["peeks"]))
    if scored:
        console.table([_cells(row) for row in scored])
    console.say(
        "topN: % of first-choice experts among the N best predictions one layer ahead, ± half a 95 % interval\n"
        "d2, d3: top-1 two and three layers ahead; wrap: top-1 of the next token's first layer\n"
        "prec.: precision of prefetching at the policy's limit; ECE: expected calibration error, %\n"
        "CPU, GPU: ms per step and layer; KiB: memory; *: knows the future"
    )
    for line in ceiling_lines(rows[0]):
        console.say(line)
    first = rows[0]
    console.say(
        f"{first['trace']} ({first['trace_kind']}), {first['phase']}: {first['tokens']} tokens of {first['sequences']} "
        f"sequences, batch 1; learned from {first['train'] or 'nothing'}"
    )
    for label, domains in (("text", first["domains"]), ("learned from", first["train_domains"])):
        if domains:
            console.say(f"{label}: {', '.join(domains)}")
    for row in rows:
        if "error" in row:
            console.say(f"not scored: {row['label']}: {row['error'].removeprefix(row['label'] + ': ')}", fg="yellow")
    for warning in first["warnings"]:
        console.say(f"warning: {warning}", fg="yellow")


def _cells(row: dict[str, Any]) -> dict[str, str]:
    half = f"±{_percent((row['top1_interval'][1] - row['top1_interval'][0]) / 2)}" if row["top1_interval"] else ""
    return {
        "predictor": row["label"] + " *" * row["peeks"],
        "top1": f"{_percent(row['top1'])}{half}",
        **{name: _percent(row[name]) for name in ("top2", "top4", "top8")},
        **({"recall": _percent(row["recall"])} if row["top_k"] > 1 else {}),
        "d2": _percent(row["per_depth"].get("2", {}).get("top1")),
        "d3": _percent(row["per_depth"].get("3", {}).get("top1")),
        "wrap": _percent(row["wrapped"]["top1"]),
        "prec.": f"{_percent(row['precision_at_limit'])} @{row['limit']}",
        "ECE": _percent(row["ece"]),
        "CPU": _milliseconds(row["milliseconds_cpu"]),
        "GPU": _milliseconds(row["milliseconds_gpu"]),
        "KiB": f"{row['state_bytes'] / 1024:.0f}",
    }


def ceiling_lines(row: dict[str, Any]) -> list[str]:
    """Accuracy by chance; the entropy that each context leaves, and the accuracy that it allows."""
    lines = [f"chance: top-1 {_percent(row['chance']['top1'])} %, top-8 {_percent(row['chance']['top8'])} %"]
    found = row["ceilings"]
    if not found:
        return [*lines, "ceilings: unknown, since the trace has no train split (see --train)"]
    for what, figure in (("train, biased low", "entropy_bits"), ("held out, biased high", "held_out_bits")):
        parts = "; ".join(f"{name} {each[figure]:.2f}" for name, each in found.items())
        lines.append(f"conditional entropy in bits given ({what}): {parts}")
    parts = "; ".join(
        f"{name} {_percent(each['held_out_accuracy'])} (Fano {_percent(each['fano_accuracy'])})"
        for name, each in found.items()
    )
    return [*lines, f"top-1 accuracy in % of a table of (Fano: optimistic upper bound): {parts}"]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}" if value >= 1e-3 else "<0.001"
