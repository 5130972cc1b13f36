"""The report on a reproduction, for programs and for people: simulated numbers beside those of Pre-gated MoE's authors.

Their raw numbers for switch-base-64 (github.com/kaleid-liner/FasterTransformer, performance_data/) are in
hwprofiles/data. By their own repeated runs a block latency is accurate to 3 or 4 %, a throughput to 10 % (it is also
printed as a whole number).
"""

import csv
import re
from importlib.resources import files
from itertools import combinations
from typing import Any, NamedTuple

from specmoe.sim.reproduce.isca24 import INPUT_TOKENS, METHODS, OUTPUT_TOKENS, PROFILE, Figures, Methods, Reproduction

SHAPE = "switch-base-64"
NAMES = dict(zip(("GPU-only", "Pre-gated MoE", "MoE-OnDemand", "MoE-Prefetch"), METHODS, strict=True))
LATENCY_LIMIT = 0.10
RATIO_LIMIT = 0.05


def to_json(reproduction: Reproduction) -> dict[str, Any]:
    """One JSON object; what compares is null where nobody measured."""
    seen = measured(reproduction.shape)
    off = errors(reproduction.figures, seen) if seen else None
    return {
        "shape": reproduction.shape,
        "profile": PROFILE,
        "format": "fp32",
        "trace_kind": "synthetic",
        "batch": 1,
        "input_tokens": INPUT_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
        **reproduction.figures._asdict(),
        "on_demand_lru": reproduction.on_demand_lru._asdict(),
        "measured": seen and seen._asdict(),
        "errors": off and off._asdict(),
        "ratio_errors": off and ratio_errors(off.block_latency_ms),
        "targets": off and [target._asdict() | {"met": target.met} for target in targets(off)],
        "evidence": reproduction.evidence,
        "assumed": reproduction.assumed,
        "warnings": reproduction.warnings,
    }


def to_markdown(reproduction: Reproduction) -> str:
    """Tables of simulated and measured numbers, then what to know before believing them."""
    seen = measured(reproduction.shape)
    blocks = [
        f"{reproduction.shape} on {PROFILE}, fp32, batch 1, {INPUT_TOKENS} tokens in and {OUTPUT_TOKENS} out",
        *_tables(reproduction.figures, seen),
        _cache_line(reproduction),
        *([_verdict(errors(reproduction.figures, seen))] if seen else []),
        f"Evidence: {reproduction.evidence}. Assumed: {', '.join(reproduction.assumed)}.",
        "\n".join(f"- {warning}" for warning in reproduction.warnings),
    ]
    return "\n\n".join(blocks)


def _tables(figures: Figures, seen: Figures | None) -> list[str]:
    forced = _labelled(figures.active_experts)
    return [
        _table("MoE block, ms (figure 10)", figures.block_latency_ms, seen and seen.block_latency_ms),
        _table("output tokens a second (figure 11)", figures.tokens_per_second, seen and seen.tokens_per_second),
        _table("block with active experts, ms (figure 14)", forced, seen and _labelled(seen.active_experts)),
    ]


def _labelled(active_experts: dict[int, Methods]) -> Methods:
    return {f"{active}: {method}": ms for active, bars in active_experts.items() for method, ms in bars.items()}


def _table(what: str, simulated: Methods, theirs: Methods | None) -> str:
    if theirs is None:
        rows = [f"| {label} | {value:.4g} |" for label, value in simulated.items()]
        return "\n".join([f"| {what} | simulated |", "|---|---:|", *rows])
    rows = [
        f"| {label} | {value:.4g} | {theirs[label]:g} | {100 * (value / theirs[label] - 1):+.1f} % |"
        for label, value in simulated.items()
    ]
    return "\n".join([f"| {what} | simulated | measured | error |", "|---|---:|---:|---:|", *rows])


def _cache_line(reproduction: Reproduction) -> str:
    intercept, slope = reproduction.on_demand_lru
    return f"On demand with an LRU cache, a block takes {intercept:.4g} ms - {-slope:.4g} ms * hit rate."


def _verdict(off: Figures) -> str:
    ratios = ", ".join(f"{name} {100 * error:+.1f} %" for name, error in ratio_errors(off.block_latency_ms).items())
    return "\n".join([f"Errors of ratios, figure 10: {ratios}.", "", *map(_target, targets(off))])


def _target(target: "Target") -> str:
    verdict = "met" if target.met else "MISSED"
    return (
        f"- {target.what}: worst error {100 * target.worst:.1f} %, at most {100 * target.limit:.0f} % wanted: {verdict}"
    )


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
    values = Figures({}, {}, {})
    table = files("specmoe.hwprofiles") / "data" / "isca24_switch_base_64.csv"
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        _place(values, row)[NAMES[row["method"]]] = float(row["value"])
    return values


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
