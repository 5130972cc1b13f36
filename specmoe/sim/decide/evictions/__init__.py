"""The eviction policies by name, including those of plug-ins, in files by what they rank by."""

import inspect
from functools import cache
from typing import Any

from specmoe.errors import InputError, hint
from specmoe.plugins import Table
from specmoe.sim.decide.eviction import Context, Eviction
from specmoe.sim.decide.evictions.counts import Lfru, Lfu, LfuDecayed, LfuPerfect, Static
from specmoe.sim.decide.evictions.lru import Lru
from specmoe.sim.decide.evictions.next_use import Belady, BeladyBypass, Predicted
from specmoe.sim.decide.evictions.queues import Arc, Fifo, LeastStale, S3Fifo, Sieve, Slru

_BUILT_IN: dict[str, type[Eviction]] = {
    "lru": Lru,
    "lfu": Lfu,
    "lfu-perfect": LfuPerfect,
    "lfu-decayed": LfuDecayed,
    "lfru": Lfru,
    "least-stale": LeastStale,
    "fifo": Fifo,
    "slru": Slru,
    "s3fifo": S3Fifo,
    "sieve": Sieve,
    "arc": Arc,
    "static": Static,
    "predicted": Predicted,
    "belady": Belady,
    "belady-bypass": BeladyBypass,
}


def _wrong(name: str, value: Any) -> str:
    """What is wrong with a plug-in's value; empty if nothing."""
    fits = isinstance(value, type) and issubclass(value, Eviction) and not inspect.isabstract(value)
    return "" if fits else f"{value!r}: a class that implements specmoe.sim.decide.eviction.Eviction expected"


EVICTIONS: Table[type[Eviction]] = Table("specmoe.evictions", _BUILT_IN, _wrong)


def parameters_of(name: str) -> list[str]:
    """Names of the parameters of an eviction policy."""
    return _parameters(EVICTIONS[name])[2:]


@cache
def _parameters(made: type[Eviction]) -> list[str]:
    return list(inspect.signature(made).parameters)


def make_eviction(name: str, context: Context, capacity: int, parameters: dict[str, float]) -> Eviction:
    """The eviction policy `name` for `capacity` slots; raises InputError for an unknown name or parameter."""
    EVICTIONS.require_usable(name)
    if name not in EVICTIONS:
        raise InputError(f"eviction {name!r}: {hint(name, EVICTIONS)}")
    known = parameters_of(name)
    unknown = [parameter for parameter in parameters if parameter not in known]
    if unknown:
        has = hint(unknown[0], known) if known else "it has none"
        raise InputError(f"eviction {name}: no parameter {unknown[0]!r}: {has}")
    return EVICTIONS[name](context, capacity, **parameters)
