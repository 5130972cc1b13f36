"""Formats of a key-value cache, and how many positions the layers of a model keep in it."""

from dataclasses import dataclass
from typing import Literal, get_args

KvFormat = Literal["f16", "q8_0", "q4_0"]
KV_FORMATS: tuple[KvFormat, ...] = get_args(KvFormat)
KV_SIXTEENTHS: dict[KvFormat, int] = {"f16": 32, "q8_0": 17, "q4_0": 9}  # of a byte per number, scales included


def bytes_of_numbers(numbers: int, held: KvFormat) -> int:
    """Bytes of `numbers` cached numbers, rounded up."""
    return -(-numbers * KV_SIXTEENTHS[held] // 16)


@dataclass(frozen=True)
class Cache:
    """What layers keep where not all keep every position: every `full_every`-th layer keeps the whole context.

    Each other layer keeps the last `window` positions and `state_bytes` of constant state per sequence. `numbers` is
    what a layer keeps of a position; 0: the numbers of the shape's attention.
    """

    source: str
    full_every: int
    numbers: int = 0
    window: int = 0
    state_bytes: int = 0
