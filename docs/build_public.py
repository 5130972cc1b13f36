"""Predict every row of the list of public figures and fill in docs/public.md: `make figures`. Needs no GPU.

With --spread the errors also become the spread of predictions (specmoe/hwprofiles/data/public_spread.json).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from specmoe.analysis.style import COLOURS, MARKERS, describe, figure, save
from specmoe.hwprofiles.shape import is_compressed
from specmoe.sim.reproduce.public import SPREAD, covered_unseen, reproduce, spreads_of
from specmoe.sim.reproduce.public_rows import read_rows

DOCS = Path(__file__).parent
PAGE, IMAGE = DOCS / "public.md", DOCS / "img" / "public.png"
TWICE = 2.0
Rows = list[dict[str, Any]]
FILLS = ("full", "none", "left", "right")  # of markers


def main() -> None:
    """Predict, draw, and fill in the page."""
    if "--spread" in sys.argv:
        Path(str(SPREAD)).write_text(json.dumps(rounded(spreads_of(reproduce(read_rows())))) + "\n")
    rows = reproduce(read_rows())
    plot(rows, IMAGE)
    PAGE.write_text(filled(PAGE.read_text(), rows))


def rounded(spreads: dict[str, float]) -> dict[str, float]:
    """Spreads as the package holds them."""
    return {kind: round(spread, 3) for kind, spread in spreads.items()}


def filled(text: str, rows: Rows) -> str:
    """The page with everything between its markers made anew."""
    parts = {"summary": summary(rows), "predicted": predicted_table(rows), "far": far(rows), "missed": missed(rows)}
    for name, part in parts.items():
        text = re.sub(
            f"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda m, part=part: m[1] + part + "\n" + m[2],
            text,
            flags=re.DOTALL,
        )
    return text


def compared(rows: Rows) -> Rows:
    """Rows with a prediction and a measured value."""
    return [row for row in rows if row["error"] is not None]


def quantised(rows: Rows) -> Rows:
    """Compared rows of resident models in a compressed format."""
    return [row for row in compared(rows) if row["kind"] == "resident" and is_compressed(row["format"])]


def on_cpu(rows: Rows) -> Rows:
    """Compared rows whose experts are on the CPU."""
    return [row for row in compared(rows) if row["kind"] == "cpu"]


def off(row: dict[str, Any]) -> float:
    """By what factor a prediction is off, in either direction."""
    ratio = float(row["tokens_per_second"] / row["measured"])
    return max(ratio, 1 / ratio)


def summary(rows: Rows) -> str:
    """How good the predictions are, in a sentence each."""
    shown, some, cpu = compared(rows), quantised(rows), on_cpu(rows)
    within = sum(row["low"] <= row["measured"] <= row["high"] for row in shown)
    far_off = sum(off(row) > TWICE for row in shown)
    return (
        f"{len(shown)} of {len(rows)} rows can be predicted. The median error of the {len(some)} resident quantised "
        f"models is {percent(median(abs(row['error']) for row in some))} without its sign and "
        f"{percent(median(row['error'] for row in some), '+')} with it. The median error of the {len(cpu)} rows with "
        f"experts on the CPU is {percent(median(abs(row['error']) for row in cpu))}, the largest "
        f"{percent(max((row['error'] for row in cpu), key=abs), '+')}. "
        f"{within} of {len(shown)} measured values are within the predicted range, {covered_unseen(rows)} are in the "
        f"range that the figures of the other machines alone give, and {far_off} is off by more than 2 times."
    )


def predicted_table(rows: Rows) -> str:
    """Every predicted row, in the list's order."""
    header = [
        "card",
        "host",
        "model",
        "format",
        "runtime",
        "context",
        "measured",
        "predicted",
        "range",
        "error",
        "source",
    ]
    lines = [
        [
            row["gpu"],
            row["host"],
            row["model"],
            row["quant"],
            row["runtime"] if row["policy"] == "resident" else f"{row['runtime']}, {row['policy']}",
            row["context"],
            f"{row['measured']:g}",
            f"{row['tokens_per_second']:.1f}",
            f"{row['low']:.3g}-{row['high']:.3g}",
            percent(row["error"], "+"),
            f"{row['source']}, {row['date']}",
        ]
        for row in compared(rows)
    ]
    return markdown(header, lines, left=6)


def missed(rows: Rows) -> str:
    """Every row without a prediction."""
    header = ["card", "model", "format", "runtime", "policy", "measured", "why", "source"]
    lines = [
        [
            *(row[name] for name in ("gpu", "model", "quant", "runtime", "policy")),
            f"{row['measured']:g}",
            row["reason"],
            f"{row['source']}, {row['date']}",
        ]
        for row in rows
        if row["error"] is None
    ]
    return markdown(header, lines, left=8)


def far(rows: Rows) -> str:
    """A sentence for each row that is off by more than 2 times."""
    lines = [
        f"- {row['model']} in {row['quant']} on {row['gpu']} ({row['runtime']}): "
        f"predicted {row['tokens_per_second']:.0f}, measured {row['measured']:g}: "
        f"{row['reason'] or 'no reason is known'}."
        for row in compared(rows)
        if off(row) > TWICE
    ]
    return "\n".join(lines) or "No row is."


def plot(rows: Rows, png: Path) -> None:
    """Predicted against measured, with the diagonal and twice and half of it."""
    shown = compared(rows)
    chart, axes = figure(1, 1, 6.4, 5.0)
    least, most = min(min(r["measured"], r["low"]) for r in shown), max(max(r["measured"], r["high"]) for r in shown)
    ends = np.array([least / 1.2, most * 1.2])
    axes.plot(ends, ends, color="0.4", linewidth=1)
    axes.fill_between(ends, ends / 2, ends * 2, color="0.93", linewidth=0)
    cards, models = (list(dict.fromkeys(row[name] for row in shown)) for name in ("gpu", "model"))
    for row in shown:
        x, y = row["measured"], row["tokens_per_second"]
        marker = MARKERS[models.index(row["model"]) % len(MARKERS)]
        bar: Any = {"yerr": [[y - row["low"]], [row["high"] - y]], "elinewidth": 0.7, "markersize": 5}
        axes.errorbar(x, y, fmt=marker, **look(cards.index(row["gpu"])), **bar)
    for number, card in enumerate(cards):
        axes.plot([], [], "s", label=card, **look(number))
    for number, model in enumerate(models):
        axes.plot([], [], MARKERS[number % len(MARKERS)], color="0.4", label=model)
    ticks = [at for at in (1, 2.5, 5, 10, 25, 50, 100, 200, 400, 800) if ends[0] < at < ends[1]]
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, labels=[f"{at:g}" for at in ticks])
        axis.set_ticks([], minor=True)
    axes.set(xlabel="measured, tokens/s", ylabel="predicted, tokens/s")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    typical = percent(median(abs(row["error"]) for row in shown))
    describe(
        chart,
        f"Half of the predictions are within {typical} of what others measured",
        "Experts in VRAM, on the CPU or loaded; one sequence. Bars: predicted range. Grey: off by less than 2 times.",
    )
    save(chart, png)


def look(card: int) -> dict[str, Any]:
    """Colour and filling of a card: no two cards have both alike."""
    return {"color": COLOURS[card % len(COLOURS)], "fillstyle": FILLS[card // len(COLOURS)]}


def markdown(header: list[str], lines: list[list[str]], left: int) -> str:
    """A table whose first `left` columns and last column are text."""
    rules = ["---"] * left + ["---:"] * (len(header) - left - 1) + ["---"]
    cells = [header, rules[: len(header)], *lines]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in cells)


def percent(value: float, sign: str = "") -> str:
    """A share as a whole percentage."""
    return f"{100 * value:{sign}.0f} %"


if __name__ == "__main__":
    main()
