"""The configuration of a run: one dataclass for `simulate`, `sweep`, `advise`, `validate` and the Python API.

`sorted_overrides` sorts values set by dotted name (`--set`): whether each belongs to the policy or the profile, and
whether it is valid.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.kernels import RESIDENT, USUAL, Style
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import QUANTITIES
from specmoe.hwprofiles.shape import Format, KvFormat
from specmoe.hwprofiles.what_if import instead, settable
from specmoe.sim.decide.evictions import EVICTIONS, parameters_of
from specmoe.sim.decide.misses import MISSES, keywords_of
from specmoe.sim.decide.policy import Sharing, fields
from specmoe.sim.speculate.predictors import PREDICTORS
from specmoe.units import Dimension, exact, quantity, within

Order = Literal["fifo", "priority", "chunked"]  # how the link orders copies
Pairs = tuple[tuple[str, Any], ...]  # dotted names and their values


class Home(NamedTuple):
    """Where experts live, in what form, and how many compressed copies VRAM holds besides the slots."""

    tier: Literal["host-pinned", "host-pageable", "nvme"] = "host-pinned"
    format: Format | None = None  # None: that of the slots
    compressed_slots: int = 0


ASSUMED_RESERVE = 1 << 30  # bytes of VRAM for the runtime and activations
AT_HOME = Home()  # pinned in the host's memory, in the format of the slots


class RoutingKey(NamedTuple):
    """What decides the workload and what predictors learn from: runs with equal keys share both.

    `shape` is that of the configuration: it says how many layers the workload has.
    """

    trace: str
    batch: int
    steps: int | None
    train: str | None
    staggered: bool = True
    shape: str | None = None
    truncated: bool = False
    source: tuple[str, ...] = ()
    train_source: tuple[str, ...] = ()
    verify: int = 0
    assumed_acceptance: tuple[float, ...] = ()
    prefill: str | None = None


@dataclass(frozen=True)
class RunConfig:
    """One run: which trace, policy, machine and model, and what is changed of them.

    `shape` is by default that of the trace's own model if it is shipped, else switch-base-128.
    `profile` is a shipped name or the path of a TOML file, of a device in its usual host or with another one
    (rtx3090+laptop-x8), or a profile itself. `slots` are experts that VRAM holds, `cache_bytes` the bytes of these
    slots, and `vram` all bytes of VRAM (see `sim.budget`); with none of them, the whole device is used.
    `context` is the number of tokens of each sequence that VRAM keeps in `kv_format`, and to which tokens are then
    decoded (default: the longest sequence of the trace is kept, and each token attends to those before it). `padded`:
    kernels exist for powers of two of tokens only, as captured graphs do. `train` is the trace that popularity and
    predictors are learnt from. `warm_up` is the number of first steps that figures leave out (default: see
    `traces.workload.warm_up_of`), `staggered` says that a batch of decode sequences starts at spread positions, and
    `truncated` that a model deeper than the trace runs without its other layers, which are otherwise repetitions.
    `settings` change the policy or the profile by dotted name: a profile's number is text with its unit (26.2GB/s) or a
    number in base units (bytes, bytes/s, ns, flop/s). `scales` multiply numbers of the profile (see
    `hwprofiles.what_if`) before anything is set. `policy` is empty where several policies share everything else.
    `style` says how experts are multiplied and launched (see `style_for`), and `dense_format` is the format of all
    weights that are no experts (default: that in which experts are computed). `threads` of the CPU compute experts
    where a policy has it compute any (default: as many as the profile says).
    Only whole sequences of the text domains `source` run (default: all), and what is learnt comes from the same domains
    of the train split, or from those of `train_source` (`("all",)`: from every one).
    Each decode step verifies `verify` drafted tokens of each sequence (see `traces.arranged.verified`), of which
    `assumed_acceptance` are kept. `prefill` is the trace of the prefills of the trace's sequences: each runs before its
    sequence, through the same slots (see `traces.arranged.sessions`).
    The trace's sequences may run in `pieces` that are simulated apart and added up (see `sim.sweep.job`; 0: as one).
    `draws` machines are drawn from the ranges of the profile by `seed`, and the decisions are timed on each (see
    `sim.sweep.retiming`).
    """

    trace: str
    policy: str = ""
    profile: str | HardwareProfile = "rtx3090"
    shape: str | None = None
    format: Format | None = None
    slots: int | None = None
    vram: int | None = None
    cache_bytes: int | None = None
    context: int | None = None
    kv_format: KvFormat = "f16"
    assumed_reserve: int = ASSUMED_RESERVE
    batch: int = 1
    steps: int | None = None
    warm_up: int | None = None
    staggered: bool = True
    truncated: bool = False
    link: Order = "fifo"
    home: Home = AT_HOME
    host_set: str = "graph"
    padded: bool = False
    train: str | None = None
    source: tuple[str, ...] = ()
    train_source: tuple[str, ...] = ()
    settings: Pairs = ()
    scales: tuple[tuple[str, float], ...] = ()
    style: Style | None = None
    dense_format: Format | None = None
    threads: int | None = None
    verify: int = 0
    assumed_acceptance: tuple[float, ...] = ()
    prefill: str | None = None
    pieces: int = 0
    draws: int = 0
    seed: int = 0

    def style_for(self, all_resident: bool) -> Style:
        """The style of a policy: the one given, else packed weights read by the multiplication.

        Unless one is given, a launch serves one expert where experts are loaded, and all of a layer's experts where
        every expert is resident.
        """
        return self.style or (RESIDENT if all_resident else USUAL)

    @property
    def routing(self) -> RoutingKey:
        """The fields that decide the workload."""
        layers = (self.staggered, self.shape, self.truncated)
        domains, drafts = (self.source, self.train_source), (self.verify, self.assumed_acceptance)
        return RoutingKey(self.trace, self.batch, self.steps, self.train, *layers, *domains, *drafts, self.prefill)

    def having(self, settings: Mapping[str, Any] | None = None, **changes: Any) -> "RunConfig":
        """A copy with some fields changed; `settings` are added to its own and replace those of the same name."""
        pairs = tuple((dict(self.settings) | dict(settings or {})).items())
        return dataclasses.replace(self, settings=pairs, **changes)

    @property
    def fields(self) -> dict[str, Any]:
        """All fields as plain values, by the names of a result's columns; `settings` and `scales` are dictionaries."""
        profile = self.profile if isinstance(self.profile, str) else self.profile.name
        same = (
            "trace",
            "policy",
            "shape",
            "format",
            "dense_format",
            "slots",
            "vram",
            "kv_format",
            "batch",
            "steps",
            "link",
            "train",
        )
        at, held, compressed = self.home
        own = {"profile": profile, "host_set": self.host_set, "context": self.context or 0}
        own |= {"threads": self.threads or 0}
        own |= {"source": ",".join(self.source), "train_source": ",".join(self.train_source)}
        own["style"] = None if self.style is None else str(self.style)
        home = {"tier": at, "home_format": held, "compressed_slots": compressed}
        changed = {"settings": dict(self.settings), "scales": dict(self.scales)}
        return {name: getattr(self, name) for name in same} | own | home | changed


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
