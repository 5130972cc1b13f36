"""Policies: a policy is a choice of predictor, prefetch rule, eviction, sharing of slots, placement and miss rule.

`POLICIES` lists the named ones: published systems and yardsticks, one row each, and those of plug-ins.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from specmoe.errors import InputError, hint
from specmoe.plugins import Table
from specmoe.sim.decide.miss import Rates
from specmoe.sim.decide.misses import ALWAYS_LOAD, MISSES, filled, named

Sharing = Literal["shared", "per-layer", "all-resident"]
EVERY = 1 << 30
ALL = "all"


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


ONE = Prefetch(1)
LATE = Prefetch(1, after_launch=True)  # for slow predictors: they run while the experts do
SURE = Prefetch(1, threshold=0.3, after_launch=True)  # a lower threshold costs more than it gains (validation split)
# Experts on the CPU. Numbers that are no rates: Fiddler's threshold of 10 tokens and FreeToken's of twice the link.
ON_THE_CPU = (
    Policy(
        "cpu-experts",
        "llama.cpp, --cpu-moe (pull request 15077)",
        about="The CPU computes every expert and none is in VRAM.",
        placement="cpu-all",
    ),
    Policy(
        "n-cpu-moe",
        "llama.cpp, --n-cpu-moe N (pull request 15077)",
        about="The CPU computes the experts of the first N layers (n-cpu-moe:N); default: as few as let others fit.",
        placement="cpu-first",
        number="placement",
    ),
    Policy(
        "llama-fit",
        "llama.cpp, --fit (common/fit.cpp)",
        about="The CPU computes the experts of the last N layers (llama-fit:N); default: as few as let others fit.",
        placement="cpu-last",
        number="placement",
    ),
    Policy(
        "ktransformers",
        "KTransformers at 95009ea6, uniform placement",
        about="A share of each layer's experts stays in VRAM (ktransformers:0.3); the CPU computes the others.",
        placement="gpu-uniform",
        miss="cpu",
        number="placement",
    ),
    Policy(
        "ktransformers-popular",
        "KTransformers at 95009ea6, placement by frequency",
        about="The most popular experts stay in VRAM (ktransformers-popular:0.3); the CPU computes the others.",
        placement="gpu-popular",
        miss="cpu",
        number="placement",
    ),
    Policy(
        "fiddler",
        "Fiddler (Kamahori et al. 2024) at 227715b",
        about="The most popular experts stay; others run on the CPU below 10 tokens, else are copied and not kept.",
        placement="gpu-popular",
        miss="cpu-below",
        keep=False,
        number="miss",
    ),
    Policy(
        "freetoken",
        "FreeToken at 0ab982f1",
        about="An LRU; link and CPU share the misses by their rates if the CPU is twice as fast, else all are loaded.",
        miss="freetoken",
    ),
    Policy(
        "law-split",
        "moe-speed-of-light",
        about="An LRU; link and CPU share the misses so that a law of both rates gives the shortest time.",
        miss="law-split",
    ),
    Policy(
        "lru-cpu",
        "caches in forks of llama.cpp, e.g. pull request 24524",
        about="An LRU; the CPU computes every miss, which is loaded for later as well.",
        miss="cpu-and-load",
    ),
    Policy(
        "hybrimoe",
        "HybriMoE (Zhong et al. 2025) at 508a85b9, without its prefetching",
        about="A cache by decayed counts; GPU and CPU take misses in turn, whichever would end one earlier.",
        eviction="lfu-decayed",
        miss="greedy",
    ),
    Policy(
        "hobbit",
        "HOBBIT (Tang et al. 2024), its loading of mixed precision",
        about="Approximate: an LRU; a miss of little weight is loaded with few bits or dropped.",
        miss="hobbit",
    ),
    Policy(
        "deferral",
        "KTransformers at 95009ea6, expert deferral",
        about="Approximate: ktransformers, but a token's last D experts join a layer later (deferral:D, default 1).",
        placement="gpu-uniform",
        miss="defer",
        number="miss",
    ),
)
_ROWS = (
    Policy(
        "gpu-only",
        "lower bound",
        about="Every expert is resident in VRAM and nothing is loaded: the fastest possible step.",
        sharing="all-resident",
    ),
    Policy(
        "on-demand",
        "MoE-OnDemand in Hwang et al., ISCA 2024",
        about="Each expert is loaded when the router chooses it and given up after use: no cache.",
        keep=False,
    ),
    Policy("on-demand-lru", "least recently used, textbook", about="Experts are loaded on demand into one LRU cache."),
    Policy(
        "on-demand-lfu",
        "least frequently used, textbook",
        about="Experts are loaded on demand into one LFU cache that forgets counts at eviction.",
        eviction="lfu",
    ),
    Policy(
        "on-demand-lfu-perfect",
        "LFU of MoE runtimes; Perfect-LFU, Breslau et al. 1999",
        about="Experts are loaded on demand into one LFU cache; counts outlive eviction.",
        eviction="lfu-perfect",
    ),
    Policy(
        "on-demand-lfu-decayed",
        "LRFU, Lee et al. 2001",
        about="Experts are loaded on demand into one LFU cache; a count halves every 16 steps.",
        eviction="lfu-decayed",
    ),
    Policy(
        "on-demand-lfru",
        "vLLM, pull request 37190",
        about="A cache for each layer keeps the experts with the most uses for their age.",
        eviction="lfru",
        sharing="per-layer",
    ),
    Policy(
        "on-demand-least-stale",
        "Least-Stale, SpecMD (Hoang et al. 2026)",
        about="Experts not used in this forward pass leave first, those of the layer furthest ahead before others.",
        eviction="least-stale",
    ),
    Policy(
        "static",
        "popularity placement, e.g. Fiddler (Kamahori et al. 2024)",
        about="The experts most popular in the train split are resident from the start; others are loaded on demand.",
        eviction="static",
        placement="popular-first",
    ),
    Policy(
        "previous-step",
        "temporal locality, e.g. Eliseev & Mazur 2023",
        about="It prefetches the expert that the sequence's last token used in the next layer.",
        predictor="previous_step",
        prefetch=ONE,
    ),
    Policy(
        "layer-minus-1",
        "specMoE, the research code behind specmoe",
        about="It prefetches in the next layer the experts of the same number as this layer's.",
        predictor="layer_minus_1",
        prefetch=Prefetch(2),
    ),
    Policy(
        "multi-layer",
        "specMoE, the research code behind specmoe",
        about="Three layers vote for the next layer's expert.",
        predictor="multi_layer",
        prefetch=ONE,
    ),
    Policy(
        "frequency",
        "popularity, e.g. MoE-Infinity (Xue et al. 2024)",
        about="It prefetches the next layer's most used experts so far.",
        predictor="frequency",
        prefetch=Prefetch(2),
    ),
    Policy(
        "frequency-sequence",
        "HOBBIT (Tang et al. 2024)",
        about="It prefetches the next layer's expert that this sequence used most.",
        predictor="frequency-sequence",
        prefetch=ONE,
    ),
    Policy(
        "frequency-decayed",
        "decayed counts, textbook",
        about="It prefetches the next layer's expert that was used most recently and often.",
        predictor="frequency-decayed",
        prefetch=ONE,
    ),
    Policy(
        "transition",
        "first-order Markov chain between layers",
        about="It prefetches the likeliest next expert, given this layer's.",
        predictor="transition",
        prefetch=SURE,
    ),
    Policy(
        "transition-2",
        "second-order Markov chain between layers",
        about="It prefetches the likeliest next expert, given the last two layers'.",
        predictor="transition-2",
        prefetch=SURE,
    ),
    Policy(
        "adaptive",
        "specMoE, the research code behind specmoe",
        about="It prefetches two experts, and fewer after wrong guesses.",
        predictor="adaptive",
        prefetch=Prefetch(2),
    ),
    Policy(
        "moe-infinity",
        "MoE-Infinity (Xue et al. 2024)",
        about="It prefetches by the most similar of the activation matrices collected before.",
        predictor="activation_match",
        prefetch=ONE,
    ),
    Policy(
        "token-identity",
        "SiDA (Du et al. 2024), a baseline of ProMoE (Song et al. 2024)",
        about="It prefetches the expert that the token's id used most often.",
        predictor="token_identity",
        prefetch=SURE,
    ),
    Policy(
        "lookahead",
        "gate look-ahead, Eliseev & Mazur 2023",
        about="It prefetches what the next layer's router chooses for this layer's input.",
        predictor="lookahead",
        prefetch=ONE,
    ),
    Policy(
        "mixtral-offloading",
        "Eliseev & Mazur 2023",
        about="An LRU for each layer, and two experts prefetched by gate look-ahead.",
        predictor="lookahead",
        prefetch=Prefetch(2),
        sharing="per-layer",
    ),
    Policy(
        "learned-contextual",
        "specmoe",
        about="A trained MLP predicts from recent routing.",
        predictor="learned-contextual",
        prefetch=LATE,
    ),
    Policy(
        "learned-transformer",
        "specmoe",
        about="A trained transformer attends to earlier layers and tokens.",
        predictor="learned-transformer",
        prefetch=LATE,
    ),
    Policy(
        "learned-hierarchical",
        "specmoe",
        about="A trained network predicts a cluster of experts, then the expert.",
        predictor="learned-hierarchical",
        prefetch=LATE,
    ),
    Policy(
        "learned-fusion",
        "specmoe",
        about="A trained network blends attention, counts and gate look-ahead.",
        predictor="learned-fusion",
        prefetch=LATE,
    ),
    Policy(
        "prefetch-all",
        "SE-MoE (Shen et al. 2022), a baseline of Hwang et al., ISCA 2024",
        about="It prefetches every expert of the next layer.",
        predictor="all",
        prefetch=Prefetch(EVERY),
        keep=False,
    ),
    Policy(
        "pregated",
        "Pre-gated MoE (Hwang et al., ISCA 2024)",
        about="The model is trained to choose the next layer's experts one layer early; no cache.",
        predictor="pregated",
        prefetch=Prefetch(EVERY),
        keep=False,
    ),
    Policy(
        "pregated-lru",
        "Pre-gated MoE (Hwang et al., ISCA 2024) with an LRU cache",
        about="The model is trained to choose the next layer's experts one layer early.",
        predictor="pregated",
        prefetch=Prefetch(EVERY),
    ),
    *ON_THE_CPU,
    Policy(
        "noisy-oracle",
        "what-if",
        about="It prefetches the right expert with an assumed precision.",
        predictor="noisy_oracle",
        prefetch=ONE,
    ),
    Policy(
        "belady",
        "Belady 1966",
        about="Fewest loads without prefetching: it evicts the expert whose next use is furthest away.",
        eviction="belady",
    ),
    Policy(
        "oracle",
        "integrated prefetching and caching, Cao, Felten, Karlin & Li 1995",
        about="Perfect knowledge of the future on the same slots: the yardstick of every policy.",
        predictor="oracle",
        eviction="belady",
        prefetch=Prefetch(limit=16, backlog=8),
    ),
)


def _wrong(name: str, value: Any) -> str:
    """What is wrong with a plug-in's value; empty if nothing."""
    if not isinstance(value, Policy):
        return f"{type(value).__name__}: a specmoe.sim.decide.policy.Policy expected"
    return "" if value.name == name else f"a Policy named {value.name!r}: the entry point's name expected"


POLICIES: Table[Policy] = Table("specmoe.policies", {row.name: row for row in _ROWS}, _wrong)


OF_SPECMOE = {  # speculation modes of the research code that this project began as
    "none": "on-demand",
    "layer_minus_1": "layer-minus-1",
    "multi_layer": "multi-layer",
    "learned": "learned-transformer",
}


def policy(name: str, overrides: dict[str, Any] | None = None) -> Policy:
    """A named policy, with fields changed by dotted name (`prefetch.limit`, `eviction`); raises InputError.

    A name may end with a number (`n-cpu-moe:20`). Modes of the research code specMoE are names too (`OF_SPECMOE`).
    """
    name = OF_SPECMOE.get(name, name)
    POLICIES.require_usable(name)
    changed = POLICIES[name] if name in POLICIES else _numbered(name)
    for dotted, value in (overrides or {}).items():
        changed = _changed(changed, dotted, value)
    return changed


def _numbered(name: str) -> Policy:
    """The policy of a name with a number; raises InputError."""
    plain, number = named(name)
    if plain not in POLICIES:
        raise InputError(f"policy {name!r}: {hint(plain, POLICIES)}")
    made = POLICIES[plain]
    if not made.number:
        raise InputError(f"policy {name!r}: {plain} takes no number: {plain} expected")
    completed = f"{named(getattr(made, made.number))[0]}:{number}"
    return _changed(dataclasses.replace(made, name=name), made.number, completed)


def with_rates(chosen: Policy, rates: Rates) -> Policy:
    """A policy whose miss rule is given the times of a machine that it takes and that were not set."""
    return dataclasses.replace(chosen, miss_parameters=filled(chosen.miss, chosen.miss_parameters, rates))


def chosen_names(names: Sequence[str]) -> list[str]:
    """The policies that an option names; `all` alone stands for every policy. Raises InputError."""
    if list(names) == [ALL]:
        return list(POLICIES)
    if not names or "" in names:
        raise InputError(f"--policy: a name expected, e.g. on-demand-lru, or {ALL} (every policy)")
    if ALL in names:
        raise InputError(
            f"--policy {','.join(names)}: {ALL} is every policy: either {ALL} or names expected, and not both"
        )
    return list(names)


def fields() -> list[str]:
    """Dotted names that `policy` can override."""
    own = [
        f.name
        for f in dataclasses.fields(Policy)
        if f.name not in ("name", "source", "about", "prefetch", "number") and not f.name.endswith("_parameters")
    ]
    return [*own, *(f"prefetch.{f.name}" for f in dataclasses.fields(Prefetch))]


def _changed(made: Policy, dotted: str, value: Any) -> Policy:
    first, _, second = dotted.partition(".")
    if first == "eviction" and second:
        return dataclasses.replace(made, eviction_parameters={**made.eviction_parameters, second: value})
    if first == "miss" and second:
        return dataclasses.replace(made, miss_parameters={**made.miss_parameters, second: value})
    if first == "predictor" and second:
        return dataclasses.replace(made, predictor_parameters={**made.predictor_parameters, second: value})
    if dotted not in fields():
        raise InputError(f"{dotted}: no setting of a policy: {hint(dotted, fields())}")
    if not second:
        return dataclasses.replace(made, **{first: value})
    rule = made.prefetch or Prefetch()
    return dataclasses.replace(made, prefetch=dataclasses.replace(rule, **{second: value}))
