"""The interface of a miss rule: what each demanded expert gets that is in no slot. Rules are in `misses.py`.

A rule sees the misses of an event and its own parameters, never a clock. Where it weighs a copy against the CPU it is
given the times of one expert as parameters (`Rates`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from specmoe.errors import InputError

LOAD, COMPUTE, COMPUTE_AND_LOAD = range(3)  # load and wait; use the CPU; use it now, and load for later events
LOAD_LOW, DEFER, DROP = range(3, 6)  # approximate: a copy of few bits; the CPU, joined a layer later; nothing
EVERY = 1 << 30


class Misses(NamedTuple):
    """The demanded experts of an event that are in no slot, and the tokens of those that are."""

    keys: list[int]
    tokens: list[int]
    hits: list[int]
    before: Sequence[float] = ()  # for rules that weigh: see `Gate`
    after: Sequence[int] = ()


class Rates(NamedTuple):
    """Times of one expert, ns. The CPU takes `cpu_ns` for few tokens and `cpu_token_ns` a token for many."""

    copy_ns: float  # over the link
    cpu_ns: float
    both_ns: float  # of each of many experts, where copies and the CPU read host memory at once
    cpu_token_ns: float = 0.0
    gpu_ns: float = 0.0  # compute of a resident expert


def required(rule: str, **rates: float | None) -> list[float]:
    """Rates above 0; raises InputError naming those that are missing."""
    missing = [name for name, rate in rates.items() if rate is None or rate <= 0]
    if missing:
        wanted = ", ".join(f"miss.{name}" for name in missing)
        raise InputError(f"miss {rule}: {wanted} expected: ns of one expert, above 0")
    return [float(rate) for rate in rates.values() if rate is not None]


class Miss(ABC):
    """Chooses what each miss gets. Keywords of the constructor are its configuration, besides `most`, which is the
    most misses that an event may have."""

    source: ClassVar[str] = ""  # the paper or program it comes from
    argument: ClassVar[str] = ""  # the keyword that a number behind the rule's name gives, e.g. of `cpu-below:10`
    loads: ClassVar[bool] = True  # whether a miss may be loaded and waited for
    on_cpu: ClassVar[bool] = True  # whether the CPU may compute a miss
    weighs: ClassVar[bool] = False  # whether it needs the routers' weights: approximate rules do

    def __init__(self, most: int) -> None:
        self._most = most

    @abstractmethod
    def choose(self, misses: Misses) -> list[int]:
        """`LOAD`, `COMPUTE` or another constant of this module for each miss."""
