"""The configuration of a run: one dataclass for `simulate`, `sweep`, `advise`, `validate` and the Python API."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from specmoe.hwprofiles.kernels import RESIDENT, USUAL, Style
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import Format, KvFormat

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
