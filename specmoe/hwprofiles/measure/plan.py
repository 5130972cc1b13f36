"""How much is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from specmoe.hwprofiles.measure import copies, disk
from specmoe.hwprofiles.measure.device_time import Effort
from specmoe.hwprofiles.shape import Phase

USUAL = Effort()
SHAPES = ("switch-base-128", "mixtral-8x7b")


def _powers(least: int, most: int) -> tuple[int, ...]:
    """Powers of two, ends included."""
    return tuple(1 << power for power in range(least.bit_length() - 1, most.bit_length()))


def _tokens() -> dict[Phase, tuple[int, ...]]:
    return {"decode": _powers(1, 64), "encode": _powers(16, 4096)}


def _contexts() -> dict[Phase, tuple[int, ...]]:
    return {"decode": (32, 256), "encode": (32, 256, 512)}


@dataclass(frozen=True)
class Plan:
    """Where points are taken: bytes, tokens, positions; all rising."""

    copies: tuple[int, ...] = copies.SIZES
    reads: tuple[int, ...] = disk.SIZES
    expansions: tuple[int, ...] = tuple(1 << power for power in range(20, 30, 2))  # 1 MiB .. 256 MiB
    expert_tokens: tuple[int, ...] = _powers(1, 1024)
    dense_tokens: Mapping[Phase, tuple[int, ...]] = field(default_factory=_tokens)
    contexts: Mapping[Phase, tuple[int, ...]] = field(default_factory=_contexts)
    product: int = 8192  # rows and columns of the large matrices
    effort: Effort = USUAL
