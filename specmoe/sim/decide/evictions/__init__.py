"""The eviction policies by name."""

from __future__ import annotations

from collections.abc import Callable

from specmoe.sim.decide.eviction import Eviction
from specmoe.sim.decide.evictions.lru import Lru

EVICTIONS: dict[str, Callable[..., Eviction]] = {
    "lru": Lru,
}
