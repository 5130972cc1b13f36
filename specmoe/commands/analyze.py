"""`specmoe analyze`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.commands import console, options
from specmoe.commands.options import several, sources
from specmoe.errors import InputError

if TYPE_CHECKING:
    from specmoe.analysis.trace.tables import Analysis


def analyze(
    trace: options.Trace,
    out: Annotated[Path, typer.Option(help="Directory for analysis.json, the tables and the figures.")],
    batch: Annotated[
        list[str] | None,
        typer.Option(
            help="Numbers of sequences that are processed together, e.g. 1,8: reuse and misses depend on them. "
            "Default: 1."
        ),
    ] = None,
    source: options.Source = None,
) -> None:
    """Analyse a trace: use of experts, reuse, misses per cache size, batches, text domains."""
    from specmoe import traces
    from specmoe.analysis.trace.job import analyze as study
    from specmoe.analysis.trace.job import save_analysis, save_figures, work
    from specmoe.commands.traces import warn
    from specmoe.files import directory_for

    opened, batches = traces.open(trace, sources(source)), _numbers(several(batch)) or [1]
    with directory_for(out), console.progress("studies") as bar:
        task = bar.add_task("analysing", total=work(batches))
        analysis = study(opened, lambda done: bar.advance(task, done), name=trace, batches=batches)
        bar.update(task, completed=work(batches), description="drawing")
        written = [*save_figures(analysis, out), *save_analysis(analysis, out)]
    warn(opened.meta)
    if not console.printed([analysis.facts], analysis.facts["layers"]):
        show(analysis)
        console.say(f"\nwritten to {out}: {', '.join(path.name for path in written)}")


def _numbers(texts: list[str]) -> list[int]:
    """Whole numbers; raises InputError."""
    from specmoe.units import COUNTS, scalar, whole

    for text in texts:
        if not text.isdecimal():
            raise InputError(f"--batch {text}: a whole number expected")
    return [whole(f"--batch {text}", scalar(text), *COUNTS["batch"]) for text in texts]


def show(analysis: "Analysis") -> None:
    """Print a row per layer, what the columns mean, and the findings."""
    facts = analysis.facts
    trace = facts["trace"]
    domains = trace["domains"]
    text = f"{len(domains)} text domains" if len(domains) > 1 else "".join(domains) or "no text"
    console.say(
        f"{trace['name']} ({trace['kind']}; {text}), {trace['phase']}: {facts['tokens']:,} tokens of "
        f"{facts['sequences']} sequences, top-{trace['top_k']} of {trace['num_experts']} experts; "
        f"semantics: {facts['semantics']}",
        bold=True,
    )
    if facts["layers"]:
        console.table([_cells(layer, trace["num_experts"]) for layer in facts["layers"]])
        console.say(
            "mean to kurt.: distribution of uses over experts; bits: entropy of use; top: % of uses by the most used\n"
            "expert; repeat: % of uses by the expert of the token before; domain: bits of information in the text\n"
            "domain; ahead: % of experts that look-ahead predicts"
        )
    if facts["domains"]["sources"] > 1:
        console.table(_by_domain(facts["domains"]), "Use of experts by text domain: least to most of the layers")
        console.say(
            "bits: entropy of use, corrected for small samples; CV: standard deviation / mean of an expert's uses;\n"
            "top: % of uses by the most used expert"
        )
    console.say()
    for sentence in facts["findings"]:
        console.say(f"- {sentence}", fg="green")


def _by_domain(domains: dict[str, Any]) -> list[dict[str, str]]:
    """A row for each text domain and one for their mixture."""
    rows = [*domains["use"], {"source": "all together", **domains["mixture"]}]
    return [
        {
            "text domain": row["source"],
            "uses a layer": f"{row['uses']:,.0f}",
            "bits": _ends(row["corrected_bits"], 2),
            "CV": _ends(row["cv"], 2),
            "top": _ends(row["top_share"], 1, 100),
        }
        for row in rows
    ]


def _ends(of: dict[str, float], decimals: int, scale: float = 1) -> str:
    return " to ".join(_number(of[end], decimals, scale) for end in ("min", "max"))


def _cells(layer: dict[str, Any], experts: int) -> dict[str, str]:
    return {
        "layer": str(layer["layer"]),
        "uses": f"{layer['total']:,}",
        "active": f"{layer['active']}/{experts}",
        "mean": _number(layer["mean"], 1),
        "std": _number(layer["std"], 1),
        "CV": _number(layer["cv"], 2),
        "min": str(layer["min"]),
        "median": _number(layer["median"], 1),
        "IQR": _number(layer["iqr"], 1),
        "max": str(layer["max"]),
        "skew": _number(layer["skewness"], 2),
        "kurt.": _number(layer["kurtosis"], 2),
        "bits": _number(layer["entropy_bits"], 2),
        "top": _number(layer["top_share"], 1, 100),
        "repeat": _number(layer["persistence"], 1, 100),
        "domain": _number(layer["domain_bits"], 2),
        "ahead": _number(layer["lookahead_top1"], 0, 100),
    }


def _number(value: float | None, decimals: int, scale: float = 1) -> str:
    return "-" if value is None else f"{scale * value:.{decimals}f}"
