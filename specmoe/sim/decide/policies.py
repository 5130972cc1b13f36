"""The policies that have names: published systems and yardsticks, one row each."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from specmoe.errors import InputError
from specmoe.sim.decide.policy import Policy, Prefetch

EVERY = 1 << 30

_ROWS = (
    Policy("gpu-only", "everything resident: the floor", sharing="all-resident"),
    Policy("on-demand", "no cache: MoE-OnDemand of the ISCA'24 Pre-gated MoE paper", keep=False),
    Policy("on-demand-lru", "one LRU over all layers"),
    Policy("on-demand-lfu", "one LFU over all layers", eviction="lfu"),
    Policy("static", "the train split's most popular experts stay", eviction="static"),
    Policy("layer-minus-1", "specMoE's layer_minus_1 heuristic", predictor="layer_minus_1", prefetch=Prefetch(2)),
    Policy("frequency", "the experts used most so far", predictor="frequency", prefetch=Prefetch(2)),
    Policy("lookahead", "next layer's router on this layer's input", predictor="lookahead", prefetch=Prefetch(1)),
    Policy(
        "mixtral-offloading",
        "Eliseev & Mazur 2023: an LRU for each layer, two guesses by look-ahead",
        predictor="lookahead",
        prefetch=Prefetch(2),
        sharing="per-layer",
    ),
    Policy("prefetch-all", "SE-MoE: all of the next layer", predictor="all", prefetch=Prefetch(EVERY), keep=False),
    Policy("pregated", "Hwang et al., ISCA'24", predictor="pregated", prefetch=Prefetch(EVERY), keep=False),
    Policy("pregated-lru", "Pre-gated MoE with a cache", predictor="pregated", prefetch=Prefetch(EVERY)),
    Policy("belady", "the fewest loads without prefetching (Belady 1966); peeks", eviction="belady"),
    Policy(
        "oracle",
        "perfect knowledge (Cao, Felten, Karlin & Li 1995); peeks",
        predictor="oracle",
        eviction="belady",
        prefetch=Prefetch(limit=16, backlog=8),
    ),
)
POLICIES: dict[str, Policy] = {row.name: row for row in _ROWS}


def policy(name: str, overrides: dict[str, Any] | None = None) -> Policy:
    """A named policy, with fields changed by dotted name (`prefetch.limit`, `eviction`); raises InputError."""
    if name not in POLICIES:
        raise InputError(f"policy {name!r}: {_nearest(name, list(POLICIES))}")
    made = POLICIES[name]
    for dotted, value in (overrides or {}).items():
        made = _changed(made, dotted, value)
    return made


def fields() -> list[str]:
    """Dotted names that `policy` can override."""
    own = [
        f.name
        for f in dataclasses.fields(Policy)
        if f.name not in ("name", "source", "prefetch", "eviction_parameters")
    ]
    return [*own, *(f"prefetch.{f.name}" for f in dataclasses.fields(Prefetch))]


def _changed(made: Policy, dotted: str, value: Any) -> Policy:
    if dotted not in fields():
        raise InputError(f"{dotted}: not a choice of a policy: {_nearest(dotted, fields())}")
    first, _, second = dotted.partition(".")
    if not second:
        return dataclasses.replace(made, **{first: value})
    rule = made.prefetch or Prefetch()
    return dataclasses.replace(made, prefetch=dataclasses.replace(rule, **{second: value}))


def _nearest(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    return f"did you mean {', '.join(nearest)}?" if nearest else f"one of {', '.join(known)} expected"
