"""What the authors of Pre-gated MoE measured of switch-base-64, and how far a simulation is from it.

Their raw numbers (github.com/kaleid-liner/FasterTransformer, performance_data/) are in hwprofiles/data. By their own
repeated runs a block latency is good to 3 or 4 %, a throughput to 10 %, printed as a whole number besides.
"""

from __future__ import annotations

import csv
import re
from importlib.resources import files
from itertools import combinations
from typing import NamedTuple

from specmoe.sim.reproduce.isca24 import METHODS, Figures, Methods

SHAPE = "switch-base-64"
NAMES = dict(zip(("GPU-only", "Pre-gated MoE", "MoE-OnDemand", "MoE-Prefetch"), METHODS, strict=True))
LATENCY_LIMIT = 0.10
RATIO_LIMIT = 0.05


class Target(NamedTuple):
    """The worst relative error of a kind, and what it was to be at most."""

    what: str
    limit: float
    worst: float

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.worst <= self.limit


def measured(shape: str) -> Figures | None:
    """Their figures of a model; None unless it is switch-base-64."""
    if shape != SHAPE:
        return None
    found = Figures({}, {}, {})
    table = files("specmoe.hwprofiles") / "data" / "isca24_switch_base_64.csv"
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        _place(found, row)[NAMES[row["method"]]] = float(row["value"])
    return found


def errors(ours: Figures, theirs: Figures) -> Figures:
    """Relative, above 0 where the simulation's number is the larger one."""
    active = {number: _relative(bars, theirs.active_experts[number]) for number, bars in ours.active_experts.items()}
    return Figures(
        _relative(ours.block_latency_ms, theirs.block_latency_ms),
        _relative(ours.tokens_per_second, theirs.tokens_per_second),
        active,
    )


def ratio_errors(off: Methods) -> Methods:
    """Relative errors of the ratio of every two methods ("second / first"), from the methods' own."""
    return {f"{b} / {a}": (1 + off[b]) / (1 + off[a]) - 1 for a, b in combinations(off, 2)}


def targets(off: Figures) -> tuple[Target, Target]:
    """Block latencies and the ratios between them, figures 10 and 14 together."""
    bars = [off.block_latency_ms, *off.active_experts.values()]
    return (
        Target("block latency", LATENCY_LIMIT, max(abs(error) for bar in bars for error in bar.values())),
        Target("ratio between methods", RATIO_LIMIT, max(abs(e) for bar in bars for e in ratio_errors(bar).values())),
    )


def _place(figures: Figures, row: dict[str, str]) -> Methods:
    """Where a row of their table belongs."""
    active = re.search(r"active=(\d+)", row["metric"])
    if active:
        return figures.active_experts.setdefault(int(active[1]), {})
    return figures.block_latency_ms if row["unit"] == "ms" else figures.tokens_per_second


def _relative(ours: Methods, theirs: Methods) -> Methods:
    return {method: value / theirs[method] - 1 for method, value in ours.items()}
