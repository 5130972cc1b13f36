"""Values set by dotted name (`--set`): whether each belongs to the policy or the profile, and whether it is valid."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, get_args

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import QUANTITIES
from specmoe.hwprofiles.what_if import instead, settable
from specmoe.sim.decide.evictions import EVICTIONS, parameters_of
from specmoe.sim.decide.misses import MISSES, keywords_of
from specmoe.sim.decide.policy import Sharing, fields
from specmoe.sim.speculate.predictors import PREDICTORS
from specmoe.units import Dimension, exact, quantity, within

MOST_COUNT = 10**12  # upper limit of any number that a policy takes


class Kind(NamedTuple):
    """A kind of value: what is expected, in words and as a test."""

    expected: str
    fits: Callable[[Any], bool]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


COUNT = Kind("a whole number, 0 or more", lambda value: type(value) is int and value >= 0)
SHARE = Kind("a number, 0 .. 1", lambda value: _number(value) and 0 <= value <= 1)
NUMBER = Kind("a number, 0 or more", lambda value: _number(value) and value >= 0)
SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
WORDS = Kind("a name, or a name and a number (cpu-below:10)", lambda value: isinstance(value, str))
LOADS = Kind("loads of 1, 2, ... misses, e.g. 0/1/1/2,", lambda value: isinstance(value, str) or type(value) is int)
KINDS = {
    "miss": WORDS,
    "placement": WORDS,
    "keep": SWITCH,
    "prefetch.threshold": SHARE,
    "prefetch.after_launch": SWITCH,
}  # a policy's others are counts
OF_EVICTION = "eviction."  # the prefix of an eviction's parameters
OF_MISS = "miss."  # of a miss rule's
TABLE = "miss.table"  # the parameter that is no number
PREDICT_NS = "assumed_predict_ns"  # of an event, whatever the predictor
NAMES: dict[str, Collection[str]] = {"predictor": PREDICTORS, "eviction": EVICTIONS, "sharing": get_args(Sharing)}


class Sorted(NamedTuple):
    """The values that a user sets, sorted by what they change."""

    policy: dict[str, Any]
    profile: dict[str, Any]
    predict_ns: int | None


def sorted_overrides(overrides: dict[str, Any], profile: HardwareProfile) -> Sorted:
    """Sort values into those of the policy, the profile and the run.

    Raises InputError for an unknown name and for a value that is out of range or of the wrong kind.
    """
    if not overrides:
        return Sorted({}, {}, None)
    known = [*names_of_policies(), *eviction_parameters(), *miss_parameters(), *settable(profile)]
    for name, value in overrides.items():
        if name.startswith("predictor."):  # which checks them itself
            continue
        if name not in known:
            raise InputError(
                f"--set {name}: no setting of a policy or of profile {profile.name}: {instead(name, known)}"
            )
        if name.startswith((OF_EVICTION, OF_MISS)):
            _require(name, value, LOADS if name == TABLE else NUMBER)
        elif name in NAMES:
            _require_name(name, value)
        elif is_of_policy(name):
            _require(name, value, KINDS.get(name, COUNT))
    mine = {name: value for name, value in overrides.items() if is_of_policy(name)}
    predict_ns = mine.pop(PREDICT_NS, None)
    numbers = {name: in_base(name, value) for name, value in overrides.items() if not is_of_policy(name)}
    return Sorted(mine, numbers, predict_ns)


def in_base(name: str, value: Any) -> float:
    """A profile's number in base units, from text with a unit or a number; raises InputError if it is invalid."""
    where, dimension = f"--set {name}={value}", dimension_of(name) or "1"
    return quantity(where, name, value, dimension) if isinstance(value, str) else within(where, value, dimension)


def dimension_of(name: str) -> Dimension | None:
    """The dimension of a profile's number by its dotted name; None for other names."""
    return QUANTITIES.get(name)


def pair_of(name: str, value: Any) -> str:
    """`name=value` as `--set` accepts it, with the unit if the profile's number has one."""
    dimension = dimension_of(name)
    return f"{name}={value}" if dimension is None else f"{name}={exact(in_base(name, value), dimension)}"


def names_of_policies() -> tuple[str, ...]:
    """Dotted names that change a policy, except `eviction.KEYWORD` and `predictor.KEYWORD`."""
    return (*fields(), PREDICT_NS)


def is_of_policy(name: str) -> bool:
    """Whether a dotted name changes a policy (and not a profile)."""
    return name in names_of_policies() or name.startswith(("predictor.", OF_EVICTION, OF_MISS))


def eviction_parameters() -> tuple[str, ...]:
    """Dotted names of the parameters of all evictions."""
    return tuple(dict.fromkeys(f"{OF_EVICTION}{keyword}" for name in EVICTIONS for keyword in parameters_of(name)))


def miss_parameters() -> tuple[str, ...]:
    """Dotted names of the parameters of all miss rules."""
    return tuple(dict.fromkeys(f"{OF_MISS}{keyword}" for name in MISSES for keyword in keywords_of(name)))


def _require_name(name: str, value: Any) -> None:
    if value not in NAMES[name]:
        raise InputError(f"--set {name}={value}: {hint(str(value), NAMES[name])}")


def _require(name: str, value: Any, kind: Kind) -> None:
    if not kind.fits(value):
        raise InputError(f"--set {name}={value}: {kind.expected} expected")
    if _number(value) and value > MOST_COUNT:
        raise InputError(f"--set {name}: at most {MOST_COUNT:,} expected")
