"""Ranges of predictions of other people's figures: what is not known of the machine, and the model's own error.

Both are independent, so their logarithms add as squares:

    ln(high / usual)^2 = ln(fastest / usual)^2 + spread^2

The fastest and slowest machine are those of the row's host and kernels. The spread is that |ln(predicted / measured)|
below which are eight of ten figures of the shipped list with experts in the same place (`resident`, `cpu`, `loaded`);
all figures of one source on one card count as one. Of n such machines it is the quantile 0.8 (n + 1) / n, which a
further one is below in eight of ten cases. data/public_spread.json has it; docs/build_public.py makes it.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

SPREAD = files("specmoe.hwprofiles") / "data" / "public_spread.json"
COVERED = 0.8  # of machines
FEWEST = 4  # machines of a kind that have a spread of their own: with fewer the quantile is beyond the largest error
KINDS = ("resident", "cpu", "loaded")
Rows = Sequence[dict[str, Any]]


class Rate(NamedTuple):
    """A predicted throughput of all sequences, tokens/s, its range, and how the range was made."""

    tokens_per_second: float
    low: float
    high: float
    range: str = ""


def widened(rate: Rate, kind: str, spread: float | None = None) -> Rate:
    """A rate whose ends are those of the machine, with the model's error (default: that of its kind) added."""
    usual, own = rate.tokens_per_second, spreads()[kind] if spread is None else spread
    low, high = (math.hypot(math.log(end / usual), own) for end in (rate.low, rate.high))
    text = f"{rate.range}; eight of ten public figures of such rows are off by less than {math.expm1(own):.0%}"
    return Rate(usual, usual * math.exp(-low), usual * math.exp(high), text.strip("; ").replace("%", " %"))


@cache
def spreads() -> dict[str, float]:
    """The spread of each kind, as shipped."""
    shipped: dict[str, float] = json.loads(SPREAD.read_text(encoding="utf-8"))
    return shipped


def spreads_of(rows: Rows) -> dict[str, float]:
    """The spread of each kind over predicted rows that have a measured value."""
    known = [row for row in rows if row["error"] is not None]
    return {kind: spread_of(known, kind) for kind in KINDS}


def spread_of(rows: Rows, kind: str) -> float:
    """The spread of a kind; that of all rows if it has too few machines."""
    own = [row for row in rows if row["kind"] == kind]
    if len({machine(row) for row in own}) < FEWEST:
        own = list(rows)
    times, seen = Counter(map(machine, own)), 0.0
    errors = sorted((abs(math.log(row["tokens_per_second"] / row["measured"])), 1 / times[machine(row)]) for row in own)
    for error, weight in errors:
        seen += weight
        if seen >= COVERED * (len(times) + 1) - 1e-9:
            return error
    return errors[-1][0]


def covered_unseen(rows: Rows) -> int:
    """Rows whose measured value is in the range that the figures of all other machines give."""
    known = [row for row in rows if row["error"] is not None]
    return sum(_covered(row, [one for one in known if machine(one) != machine(row)]) for row in known)


def _covered(row: dict[str, Any], others: Rows) -> bool:
    own, wanted = spreads()[row["kind"]], spread_of(others, row["kind"])
    usual = row["tokens_per_second"]
    ends = (math.sqrt(max(0.0, math.log(row[end] / usual) ** 2 - own**2)) for end in ("low", "high"))
    low, high = (math.hypot(end, wanted) for end in ends)
    return -high <= math.log(usual / row["measured"]) <= low


def machine(row: dict[str, Any]) -> tuple[str, str]:
    """Card and first word of the source: figures that share both are of one machine."""
    return row["gpu"], row["source"].split()[0]
