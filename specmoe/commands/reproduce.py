"""`specmoe reproduce ...`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from specmoe.commands import console, options

app = console.group("Simulate a published experiment and compare it with what its authors measured.")


@app.command(examples=("specmoe reproduce isca24", "specmoe reproduce isca24 --shape switch-base-128 --json"))
def isca24(
    shape: Annotated[
        str,
        typer.Option(
            help="Model: a shipped Switch shape. The authors' measurements are of switch-base-64.",
            autocompletion=options.shapes,
        ),
    ] = "switch-base-64",
) -> None:
    """Reproduce Pre-gated MoE (Hwang et al., ISCA 2024): block latency and throughput of four offloading methods."""
    from specmoe.sim.reproduce.isca24 import reproduce
    from specmoe.sim.reproduce.report import to_json, to_markdown

    made = reproduce(shape)
    if not console.printed([to_json(made)]):
        console.say(to_markdown(made))


@app.command(examples=("specmoe reproduce public", "specmoe reproduce public --rows mine.csv --json"))
def public(
    rows: Annotated[
        Path | None,
        typer.Option(
            help="CSV table with the columns gpu, model, quant, runtime, policy, batch and context; "
            "tokens_per_second, if there, is the measured value. Default: the list that comes with specmoe."
        ),
    ] = None,
    host: options.Host = None,
) -> None:
    """Predict tokens per second that others published, and compare."""
    from specmoe.sim.reproduce.public import reproduce
    from specmoe.sim.reproduce.public_rows import read_rows

    made = reproduce(read_rows(rows), host)
    if not console.printed(made):
        notes = list(dict.fromkeys(one["reason"] for one in made if one["reason"]))
        console.table([_shown(one, notes) for one in made])
        for number, note in enumerate(notes, start=1):
            console.note(f"[{number}] {note}")


def _shown(one: dict[str, Any], notes: list[str]) -> dict[str, str]:
    """A row as people read it, with the number of its note."""
    rate, error = one["tokens_per_second"], one["error"]
    return {name: one[name] for name in ("gpu", "model", "quant", "runtime", "policy", "context")} | {
        "measured": "" if one["measured"] is None else f"{one['measured']:.1f}",
        "predicted": "" if rate is None else f"{rate:.1f}",
        "range": "" if rate is None else f"{one['low']:.3g}-{one['high']:.3g}",
        "error": "" if error is None else f"{100 * error:+.0f} %",
        "note": f"[{notes.index(one['reason']) + 1}]" if one["reason"] else "",
    }
