"""A reproduction for programs and for people; both pure functions of it and of what was measured."""

from __future__ import annotations

from typing import Any

from specmoe.sim.reproduce.isca24 import INPUT_TOKENS, OUTPUT_TOKENS, PROFILE, Figures, Methods, Reproduction
from specmoe.sim.reproduce.measured import Target, errors, measured, ratio_errors, targets


def to_json(made: Reproduction) -> dict[str, Any]:
    """One JSON object; what compares is null where nobody measured."""
    seen = measured(made.shape)
    off = errors(made.figures, seen) if seen else None
    return {
        "shape": made.shape,
        "profile": PROFILE,
        "format": "fp32",
        "trace_kind": "synthetic",
        "batch": 1,
        "input_tokens": INPUT_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
        **made.figures._asdict(),
        "on_demand_lru": made.on_demand_lru._asdict(),
        "measured": seen and seen._asdict(),
        "errors": off and off._asdict(),
        "ratio_errors": off and ratio_errors(off.block_latency_ms),
        "targets": off and [target._asdict() | {"met": target.met} for target in targets(off)],
        "evidence": made.evidence,
        "assumed": made.assumed,
        "warnings": made.warnings,
    }


def to_markdown(made: Reproduction) -> str:
    """Tables of simulated and measured numbers, then what to know before believing them."""
    seen = measured(made.shape)
    blocks = [
        f"{made.shape} on {PROFILE}, fp32, batch 1, {INPUT_TOKENS} tokens in and {OUTPUT_TOKENS} out",
        *_tables(made.figures, seen),
        _cache_line(made),
        *([_verdict(errors(made.figures, seen))] if seen else []),
        f"Evidence: {made.evidence}. Assumed: {', '.join(made.assumed)}.",
        "\n".join(f"- {warning}" for warning in made.warnings),
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


def _cache_line(made: Reproduction) -> str:
    intercept, slope = made.on_demand_lru
    return f"On demand with an LRU cache, a block takes {intercept:.4g} ms - {-slope:.4g} ms * hit rate."


def _verdict(off: Figures) -> str:
    ratios = ", ".join(f"{name} {100 * error:+.1f} %" for name, error in ratio_errors(off.block_latency_ms).items())
    return "\n".join([f"Errors of ratios, figure 10: {ratios}.", "", *map(_target, targets(off))])


def _target(target: Target) -> str:
    verdict = "met" if target.met else "MISSED"
    return (
        f"- {target.what}: worst error {100 * target.worst:.1f} %, at most {100 * target.limit:.0f} % wanted: {verdict}"
    )
