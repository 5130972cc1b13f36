"""The table of docs/guides/generate.md: `python docs/build_generate.py`.

It is made of docs/runs/generate/h200-compare-MODEL.json, which `specmoe generate --compare --record` wrote on a GPU.
The texts were taken out of these records, and the directories out of the models' names.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from page_tables import fill

DOCS = Path(__file__).parent
PAGE = DOCS / "guides" / "generate.md"
MODELS = ("switch-base-128", "olmoe-8-layers", "switch-mini-16")
FIRST = tuple(f"first-{model}" for model in (*MODELS, "switch-mini-128"))  # an earlier run, in one round


def main() -> None:
    """Write the page's table."""
    fill(PAGE, {"foretold": foretold()})


def cells(model: str) -> list[dict[str, Any]]:
    """Rows of a model's run, without that of the resident model."""
    text = (DOCS / "runs" / "generate" / f"h200-compare-{model}.json").read_text(encoding="utf-8")
    return [row for row in json.loads(text)["rows"] if row["slots"] is not None]


def errors(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Median and worst error of foretold steps, as shares."""
    found = [abs(row["error"]) for row in rows]
    return median(found), max(found)


def foretold() -> Iterator[str]:
    """A row for each cell."""
    yield "| model | policy | slots | step, ms | of two runs | foretold, ms | error | the host's own, ms |"
    yield "|---|---|---:|---:|---|---:|---:|---:|"
    for model in MODELS:
        for row in cells(model):
            runs = " and ".join(f"{one:.1f}" for one in row["step_ms_of"])
            figures = f"{row['step_ms']:.1f} | {runs} | {row['foretold_ms']:.1f} | {100 * row['error']:+.1f} %"
            yield f"| {model} | {row['policy']} | {row['slots']} | {figures} | {row['host_ms']:.1f} |"


if __name__ == "__main__":
    main()
