"""A policy is five choices; this file says what they are, `policies` lists the ones that have names.

The policies that have names: published systems and yardsticks, one row each, and those of plug-ins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from specmoe.errors import InputError, hint
from specmoe.plugins import Table

Sharing = Literal["shared", "per-layer", "all-resident"]


@dataclass(frozen=True)
class Prefetch:
    """Which predictions become loads.

    Of each event that is predicted, at most `limit` candidates of at least `threshold` confidence, up to `depth` layers
    ahead, nearest layer first, best candidate first; none while `backlog` prefetched experts wait unused.

    What is predicted and issued before the event's experts are launched is on the link the sooner; `after_launch`, a
    slow predictor does not keep the experts waiting.
    """

    limit: int = 1
    threshold: float = 0.0
    depth: int = 1
    backlog: int = 1 << 30
    after_launch: bool = False


@dataclass(frozen=True)
class Policy:
    """Who stays, who is fetched ahead, who shares slots.

    `keep` false gives every expert up after its use (no cache). `source` names the paper or program it comes from.
    """

    name: str
    source: str
    predictor: str = "none"
    eviction: str = "lru"
    prefetch: Prefetch | None = None
    sharing: Sharing = "shared"
    keep: bool = True
    eviction_parameters: dict[str, float] = field(default_factory=dict)
    predictor_parameters: dict[str, Any] = field(default_factory=dict)  # keywords, but for its depth, the prefetch's


EVERY = 1 << 30
ONE = Prefetch(1)
LATE = Prefetch(1, after_launch=True)  # what takes its time thinks while the experts run
SURE = Prefetch(1, threshold=0.3, after_launch=True)  # less sure, it costs more than it gains: on a validation split

_ROWS = (
    Policy("gpu-only", "everything resident: the floor", sharing="all-resident"),
    Policy("on-demand", "no cache: MoE-OnDemand of the ISCA'24 Pre-gated MoE paper", keep=False),
    Policy("on-demand-lru", "one LRU over all layers"),
    Policy("on-demand-lfu", "one LFU over all layers", eviction="lfu"),
    Policy("static", "the train split's most popular experts stay", eviction="static"),
    Policy("previous-step", "what the sequence's last token used there", predictor="previous_step", prefetch=ONE),
    Policy("layer-minus-1", "specMoE's layer_minus_1 heuristic", predictor="layer_minus_1", prefetch=Prefetch(2)),
    Policy(
        "multi-layer", "specMoE's multi_layer heuristic: three layers' votes", predictor="multi_layer", prefetch=ONE
    ),
    Policy("frequency", "the experts used most so far", predictor="frequency", prefetch=Prefetch(2)),
    Policy(
        "frequency-sequence",
        "HOBBIT: the experts that this sequence used most",
        predictor="frequency-sequence",
        prefetch=ONE,
    ),
    Policy("frequency-decayed", "the experts used most lately", predictor="frequency-decayed", prefetch=ONE),
    Policy("transition", "from expert to expert of the next layer", predictor="transition", prefetch=SURE),
    Policy("transition-2", "from two layers' experts to the next", predictor="transition-2", prefetch=SURE),
    Policy(
        "adaptive",
        "specMoE's adaptive heuristic: two guesses, fewer when they fail",
        predictor="adaptive",
        prefetch=Prefetch(2),
    ),
    Policy(
        "moe-infinity",
        "Xue et al. 2024: the most alike of collected activation matrices",
        predictor="activation_match",
        prefetch=ONE,
    ),
    Policy("token-identity", "ProMoE's baseline, SiDA's idea: by the token", predictor="token_identity", prefetch=SURE),
    Policy("lookahead", "next layer's router on this layer's input", predictor="lookahead", prefetch=ONE),
    Policy(
        "mixtral-offloading",
        "Eliseev & Mazur 2023: an LRU for each layer, two guesses by look-ahead",
        predictor="lookahead",
        prefetch=Prefetch(2),
        sharing="per-layer",
    ),
    Policy("learned-contextual", "an MLP over recent routing", predictor="learned-contextual", prefetch=LATE),
    Policy("learned-transformer", "attention over layers and tokens", predictor="learned-transformer", prefetch=LATE),
    Policy("learned-hierarchical", "cluster, then expert", predictor="learned-hierarchical", prefetch=LATE),
    Policy(
        "learned-fusion",
        "attention, counts and the gate look-ahead, blended",
        predictor="learned-fusion",
        prefetch=LATE,
    ),
    Policy("prefetch-all", "SE-MoE: all of the next layer", predictor="all", prefetch=Prefetch(EVERY), keep=False),
    Policy("pregated", "Hwang et al., ISCA'24", predictor="pregated", prefetch=Prefetch(EVERY), keep=False),
    Policy("pregated-lru", "Pre-gated MoE with a cache", predictor="pregated", prefetch=Prefetch(EVERY)),
    Policy("noisy-oracle", "right with an assumed precision: a what-if", predictor="noisy_oracle", prefetch=ONE),
    Policy("belady", "the fewest loads without prefetching (Belady 1966); peeks", eviction="belady"),
    Policy(
        "oracle",
        "perfect knowledge (Cao, Felten, Karlin & Li 1995); peeks",
        predictor="oracle",
        eviction="belady",
        prefetch=Prefetch(limit=16, backlog=8),
    ),
)


def _wrong(name: str, value: Any) -> str:
    """What a plug-in of that name should be instead."""
    if not isinstance(value, Policy):
        return f"{type(value).__name__}: a specmoe.sim.decide.policy.Policy expected"
    return "" if value.name == name else f"a Policy named {value.name!r}: the entry point's name expected"


ALL = "all"
POLICIES: Table[Policy] = Table("specmoe.policies", {row.name: row for row in _ROWS}, _wrong)


def policy(name: str, overrides: dict[str, Any] | None = None) -> Policy:
    """A named policy, with fields changed by dotted name (`prefetch.limit`, `eviction`); raises InputError."""
    POLICIES.require_usable(name)
    if name not in POLICIES:
        raise InputError(f"policy {name!r}: {hint(name, POLICIES)}")
    made = POLICIES[name]
    for dotted, value in (overrides or {}).items():
        made = _changed(made, dotted, value)
    return made


def chosen_names(names: Sequence[str]) -> list[str]:
    """The policies that an option names: `all` alone is every one; raises InputError."""
    if list(names) == [ALL]:
        return list(POLICIES)
    if not names or "" in names:
        raise InputError(f"--policy: a name expected, e.g. on-demand-lru, or {ALL} (every policy)")
    if ALL in names:
        raise InputError(f"--policy {','.join(names)}: {ALL} is every policy: either {ALL} or names expected, not both")
    return list(names)


def fields() -> list[str]:
    """Dotted names that `policy` can override."""
    own = [
        f.name
        for f in dataclasses.fields(Policy)
        if f.name not in ("name", "source", "prefetch", "eviction_parameters", "predictor_parameters")
    ]
    return [*own, *(f"prefetch.{f.name}" for f in dataclasses.fields(Prefetch))]


def _changed(made: Policy, dotted: str, value: Any) -> Policy:
    first, _, second = dotted.partition(".")
    if first == "predictor" and second:
        return dataclasses.replace(made, predictor_parameters={**made.predictor_parameters, second: value})
    if dotted not in fields():
        raise InputError(f"{dotted}: not a choice of a policy: {hint(dotted, fields())}")
    if not second:
        return dataclasses.replace(made, **{first: value})
    rule = made.prefetch or Prefetch()
    return dataclasses.replace(made, prefetch=dataclasses.replace(rule, **{second: value}))
