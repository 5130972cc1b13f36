"""A policy is five choices; this file says what they are, `policies` lists the ones that have names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

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
