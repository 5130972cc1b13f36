"""`specmoe evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from specmoe.commands import console
from specmoe.commands.values import parse_override, several
from specmoe.errors import InputError

PREFIX = "predictor."


def evaluate(
    trace: Annotated[str, typer.Argument(help="A bundled trace's name or a trace file, of which nothing is learnt.")],
    predictor: Annotated[
        list[str] | None, typer.Option(help="Predictors: a,b,c or repeated. Without: all that can run on this trace.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="Trace that is learnt from; without: the one beside it.")] = None,
    depth: Annotated[int | None, typer.Option(help="Layers ahead, at most; without: 3.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="A predictor's keyword: predictor.warm=false, ...")
    ] = None,
    checkpoint: Annotated[list[Path] | None, typer.Option(help="A trained predictor; may be repeated.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Directory for evaluate.json and the figures. Two runs differ in milliseconds_cpu only, which is "
            "measured on this machine."
        ),
    ] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """How often every predictor is right on held-out sequences, how sure it is, what it costs, and what is possible."""
    from specmoe.files import make_directory
    from specmoe.sim.speculate.scoring.cost import asked_for
    from specmoe.sim.speculate.scoring.evaluate import Examination, run

    asked = asked_for(several(predictor), _parameters(override or []), checkpoint or ())
    if out is not None:
        make_directory(out)
    with console.progress("predictors") as bar:
        task = bar.add_task("scoring", total=len(asked))
        exam = Examination(trace, train, depth)
        rows = run(exam, asked, bool(predictor or checkpoint), lambda: bar.advance(task))
    if out is not None:
        _write(rows, exam.ceilings, out)
    if as_json:
        console.print_json(rows[0] if len(rows) == 1 else rows)
    else:
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
    """A table, those that peek last; what is possible; and what to know before believing it."""
    scored = sorted((row for row in rows if "error" not in row), key=lambda row: bool(row["peeks"]))
    if scored:
        console.table([_cells(row) for row in scored])
    console.say(
        "top-N: first-choice experts among the N best one layer ahead, within the step, %, ± half a 95 % interval\n"
        "d2, d3: top-1 two, three layers ahead; wrap: top-1 of the next token's first layer\n"
        "prec.: of prefetching at the policy's limit; CPU, GPU: ms for one (step, layer); *: peeks"
    )
    for line in ceiling_lines(rows[0]):
        console.say(line)
    first = rows[0]
    console.say(
        f"{first['trace']} ({first['trace_kind']}), {first['phase']}: {first['tokens']} tokens of {first['sequences']} "
        f"sequences, batch 1; learnt from {first['train'] or 'nothing'}"
    )
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
    """Chance, and of each context how much it tells and what can be made of it."""
    lines = [f"chance: top-1 {_percent(row['chance']['top1'])} %, top-8 {_percent(row['chance']['top8'])} %"]
    found = row["ceilings"]
    if not found:
        return [*lines, "ceilings: unknown, for there is no train split (--train)"]
    for what, figure in (("train, biased low", "entropy_bits"), ("held out, biased high", "held_out_bits")):
        told = "; ".join(f"{name} {each[figure]:.2f}" for name, each in found.items())
        lines.append(f"bits of surprise left given ({what}): {told}")
    told = "; ".join(
        f"{name} {_percent(each['held_out_accuracy'])} (Fano {_percent(each['fano_accuracy'])})"
        for name, each in found.items()
    )
    return [*lines, f"top-1 by a table of (and at most, by an optimistic estimate): {told}"]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}" if value >= 1e-3 else "<0.001"
