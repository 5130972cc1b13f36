"""The tables of docs/live.md: `python docs/build_generate.py`.

They are made of docs/runs/generate/h200-MODEL.json, which `specmoe generate --compare --rounds 5 --record` wrote on a
GPU, and of a text's timeline beside them. The texts were taken out of these records, and the directories out of the
models' names.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from page_tables import fill

Row = dict[str, Any]

DOCS = Path(__file__).parent
PAGE, RUNS = DOCS / "live.md", DOCS / "runs" / "generate"
MODELS = ("switch-base-128", "olmoe-8-layers", "switch-mini-128", "switch-mini-16")
TIMELINE = RUNS / "h200-switch-base-128.timeline.json"
PARTS = {"code": "code of the model", "launch": "launching experts", "decide": "director", "issue": "issuing loads"}


def main() -> None:
    """Write the page's tables."""
    fill(PAGE, tables())


def tables() -> dict[str, list[str]]:
    """The lines of each table, by its name in the page."""
    made = {"errors": errors(), "policies": policies(), "parts": parts(), "timeline": timeline(), "cells": cells()}
    return {name: list(lines) for name, lines in made.items()}


def record(model: str) -> dict[str, Any]:
    """What a model's run left."""
    kept: dict[str, Any] = json.loads((RUNS / f"h200-{model}.json").read_text(encoding="utf-8"))
    return kept


def rows_of(*models: str) -> list[Row]:
    """Rows of models' runs, without those of the resident models."""
    return [row for model in models for row in record(model)["rows"] if row["slots"] is not None]


def middle_and_worst(errors: Sequence[float]) -> tuple[float, float]:
    """Median and worst error, without signs, as shares."""
    sizes = list(map(abs, errors))
    return median(sizes), max(sizes)


def errors() -> Iterator[str]:
    """Median and worst error, of cells and of single rounds."""
    yield "| model | cells | median | worst | rounds | median | worst | cells, of medians: median | worst |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for name, models in [*((model, (model,)) for model in MODELS), ("**all**", MODELS)]:
        rows = rows_of(*models)
        single = [error for row in rows for error in row["error_of"]]
        kinds = [row["error"] for row in rows], single, [row["foretold_ms"] / row["step_ms"] - 1 for row in rows]
        cell, each, of_medians = (" | ".join(map(_percent, middle_and_worst(kind))) for kind in kinds)
        yield f"| {name} | {len(rows)} | {cell} | {len(single)} | {each} | {of_medians} |"


def policies() -> Iterator[str]:
    """Mean signed error of cells, a row a policy and a column a model."""
    names = list(dict.fromkeys(row["policy"] for row in rows_of(*MODELS)))
    yield f"| policy | {' | '.join(MODELS)} | all |"
    yield f"|---|{'---:|' * (len(MODELS) + 1)}"
    for name in [*names, "all"]:
        means = []
        for models in [*((model,) for model in MODELS), MODELS]:
            signed = [row["error"] for row in rows_of(*models) if name in (row["policy"], "all")]
            means.append(f"{100 * sum(signed) / len(signed):+.1f} %")
        yield f"| {name} | {' | '.join(means)} |"


def parts() -> Iterator[str]:
    """The host's time of a measured step, by what it is spent on: the median of a model's cells."""
    yield f"| model | step, ms | {' | '.join(PARTS.values())} |"
    yield f"|---|---:|{'---:|' * len(PARTS)}"
    for model in MODELS:
        rows = rows_of(model)
        spent = {part: median(row["parts_ms"][part][0] for row in rows) for part in PARTS}
        shares = {part: median(_share(row, part) for row in rows) for part in PARTS}
        shown = " | ".join(f"{spent[part]:.2f} ms, {100 * shares[part]:.0f} %" for part in PARTS)
        yield f"| {model} | {median(row['step_ms'] for row in rows):.1f} | {shown} |"


def timeline() -> Iterator[str]:
    """What the host does in the decode steps of the text whose timeline is kept."""
    spent: Counter[str] = Counter()
    for event in json.loads(TIMELINE.read_text(encoding="utf-8"))["traceEvents"]:
        if event["ph"] == "X" and (event["pid"], event["tid"]) == (2, 1):
            spent[event["name"].split(": ")[1]] += event["dur"]
    yield "| the host, in decode steps | share |"
    yield "|---|---:|"
    for name, duration in spent.most_common():
        yield f"| {name} | {100 * duration / spent.total():.1f} % |"


def cells() -> Iterator[str]:
    """A row for each cell."""
    yield "| model | policy | slots | step, ms | of rounds, ms | foretold, ms | error | of rounds |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for model in MODELS:
        for row in rows_of(model):
            least, most = (f"{100 * end(row['error_of']):+.1f}" for end in (min, max))
            times = f"{row['step_ms']:.1f} | {min(row['step_ms_of']):.1f} to {max(row['step_ms_of']):.1f}"
            figures = f"{times} | {row['foretold_ms']:.1f} | {100 * row['error']:+.1f} % | {least} to {most} %"
            yield f"| {model} | {row['policy']} | {row['slots']} | {figures} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _share(row: Row, part: str) -> float:
    spent: dict[str, float] = {name: measured for name, (measured, _) in row["parts_ms"].items()}
    return spent[part] / sum(spent.values())


if __name__ == "__main__":
    main()
