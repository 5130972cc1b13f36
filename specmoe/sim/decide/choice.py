"""A policy is a choice of predictor, prefetch rule, eviction, sharing of slots, placement and miss rule."""

from dataclasses import dataclass, field
from typing import Any, Literal

from specmoe.sim.decide.misses import ALWAYS_LOAD, MISSES, named

Sharing = Literal["shared", "per-layer", "all-resident"]


@dataclass(frozen=True)
class Prefetch:
    """The prefetch rule: which predictions become loads.

    For each event up to `depth` layers ahead, at most `limit` candidates of at least `threshold` confidence are
    prefetched, nearest layer first, best candidate first; none while `backlog` loaded experts wait unused.

    By default the host predicts before it launches the event's experts, so that prefetches start earlier; with
    `after_launch` it predicts behind them, so that a slow predictor does not delay them.
    """

    limit: int = 1
    threshold: float = 0.0
    depth: int = 1
    backlog: int = 1 << 30
    after_launch: bool = False


@dataclass(frozen=True)
class Policy:
    """A policy: which experts stay, which are prefetched, and which layers share slots.

    With `keep` false every expert is given up after its use (no cache). `miss` says what a demanded expert gets that is
    in no slot (see `misses.py`), and `placement` which experts hold slots from the start (see `placement.py`). A name
    may end with a number, e.g. `n-cpu-moe:20`: that of the field `number`. `source` names the paper or program that
    the policy comes from, and `about` says in a sentence what it does.
    """

    name: str
    source: str
    predictor: str = "none"
    eviction: str = "lru"
    prefetch: Prefetch | None = None
    sharing: Sharing = "shared"
    keep: bool = True
    miss: str = ALWAYS_LOAD
    placement: str = ""
    number: Literal["", "miss", "placement"] = ""  # the field that a number behind the policy's name completes
    eviction_parameters: dict[str, float] = field(default_factory=dict)
    miss_parameters: dict[str, Any] = field(default_factory=dict)
    predictor_parameters: dict[str, Any] = field(
        default_factory=dict
    )  # keywords except the depth, which is that of `prefetch`
    about: str = ""

    @property
    def uses_cpu(self) -> bool:
        """Whether the CPU may compute experts."""
        rule = MISSES.get(named(self.miss)[0])
        return self.placement.startswith("cpu-") or (rule is not None and rule.on_cpu)

    @property
    def approximate(self) -> bool:
        """Whether it may change what a model computes."""
        rule = MISSES.get(named(self.miss)[0])
        return rule is not None and rule.weighs
