"""Workloads, predictions and decisions small enough to be written down, and hypothesis strategies of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from random_traces import META

from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.miss import Rates
from specmoe.sim.decide.misses import MISSES, filled
from specmoe.sim.decide.placement import PLACEMENTS
from specmoe.sim.decide.policy import Policy, Prefetch
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.speculate.predictor import PredictionTable, no_predictions
from specmoe.traces.workload import Workload

Demand = Sequence[Sequence[Sequence[int]]]  # experts by step and layer; one named twice serves two tokens
Guess = Sequence[Sequence[tuple[int, float]]]  # candidates with confidence by depth, from 1

HIT, MISS = True, False
DEMAND, PREFETCH = True, False
USED, WASTED = True, False


def workload_of(demand: Demand, experts: int = 4) -> Workload:
    """A workload that demands just this."""
    layers = len(demand[0])
    counted = [np.unique(np.array(wanted, np.int64), return_counts=True) for step in demand for wanted in step]
    meta = dataclasses.replace(META, num_experts=experts, num_layers=layers, top_k=1, candidates=1)
    return Workload(
        meta=meta,
        rows=np.arange(len(demand)),
        row_offsets=np.arange(len(demand) + 1),
        offsets=np.concatenate([[0], np.cumsum([len(ids) for ids, _ in counted])]).astype(np.int64),
        experts=np.concatenate([ids for ids, _ in counted]).astype(np.int32),
        tokens=np.concatenate([tokens for _, tokens in counted]).astype(np.int32),
        batch=1,
    )


def predictions_of(workload: Workload, guesses: Mapping[int, Guess], depth: int = 1, width: int = 4) -> PredictionTable:
    """A table with these guesses at these events, and none at others."""
    shape = (workload.num_events, depth, width)
    experts, confidence = np.full(shape, -1, np.int16), np.zeros(shape, np.float32)
    for event, guess in guesses.items():
        for place, candidates in enumerate(guess):
            for rank, (expert, sure) in enumerate(candidates):
                experts[event, place, rank], confidence[event, place, rank] = expert, sure
    return PredictionTable(experts, confidence)


def certain(*experts: int) -> Guess:
    """Experts of the next layer, each for certain."""
    return [[(expert, 1.0) for expert in experts]]


def policy_of(**fields: Any) -> Policy:
    return Policy("tested", "a test", **fields)


def decisions(
    demand: Demand, slots: int, guesses: Mapping[int, Guess] | None = None, depth: int = 1, **fields: Any
) -> DecisionTable:
    """Decisions on a demand by a policy with these fields."""
    workload = workload_of(demand)
    predictions = predictions_of(workload, guesses or {}, depth)
    return decide(workload, predictions, policy_of(**fields), slots)


def uses_of(table: DecisionTable) -> list[tuple[int | bool, ...]]:
    """(event, key, tokens, slot, load, hit, wave) of every use; `where` aside."""
    return list(zip(*(column.tolist() for column in table.uses[:7]), strict=True))


def loads_of(table: DecisionTable) -> list[tuple[int | bool, ...]]:
    """(event, key, slot, evicted, demand, used, wave) of every load; `later` aside."""
    return list(zip(*(column.tolist() for column in table.loads[:7]), strict=True))


def accesses_of(accesses: Sequence[int]) -> Workload:
    """One access after the other to keys of one layer: what a generic cache sees."""
    return workload_of([[[key]] for key in accesses], experts=max(accesses, default=0) + 1)


def hits_of(
    accesses: Sequence[int], slots: int, eviction: str, popularity: Sequence[int] | None = None, **parameters: float
) -> list[bool]:
    """Which of the accesses hit."""
    workload = accesses_of(accesses)
    context = Context(slots, workload, lambda: None if popularity is None else np.array(popularity))
    policy = policy_of(eviction=eviction, eviction_parameters=parameters)
    hits: list[bool] = decide(workload, no_predictions(len(accesses)), policy, slots, context).uses.hit.tolist()
    return hits


@dataclasses.dataclass(frozen=True)
class Case:
    """What a decision is made from; readable when hypothesis prints it."""

    demand: list[list[list[int]]]
    experts: int
    slots: int
    guesses: dict[int, list[list[tuple[int, float]]]]
    depth: int
    fields: dict[str, Any]

    @property
    def workload(self) -> Workload:
        return workload_of(self.demand, self.experts)

    @property
    def predictions(self) -> PredictionTable:
        return predictions_of(self.workload, self.guesses, self.depth, self.experts)

    def decide(self, **fields: Any) -> DecisionTable:
        """Its decisions, with other fields of the policy."""
        return decide(self.workload, self.predictions, policy_of(**{**self.fields, **fields}), self.slots)


PREFETCHES = st.builds(
    Prefetch,
    limit=st.integers(1, 4),
    threshold=st.sampled_from([0.0, 0.5]),
    depth=st.integers(1, 3),
    backlog=st.sampled_from([1, 2, 1 << 30]),
)


@st.composite
def cases(draw: st.DrawFn, prefetch: bool = True) -> Case:
    """Anything that may be decided; hypothesis draws its shape, a generator fills it."""
    layers, experts, depth = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    steps, most = draw(st.integers(1, 8)), draw(st.integers(1, experts))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    sharing = draw(st.sampled_from(["shared", "shared", "per-layer", "all-resident"]))
    slots = draw(st.integers(layers if sharing == "per-layer" else 1, layers * experts + 1))
    demand = [[some_of(rng, experts, most) for _ in range(layers)] for _ in range(steps)]
    guesses = {
        event: [[(expert, float(rng.choice(SURE))) for expert in some_of(rng, experts, 4)] for _ in range(depth)]
        for event in range(steps * layers)
    }
    fields = {
        "sharing": sharing,
        "keep": draw(st.booleans()),
        "predictor": draw(st.sampled_from(["none", "none", "oracle"])),
        "prefetch": draw(st.none() | PREFETCHES | PREFETCHES) if prefetch else None,
    }
    return Case(demand, experts, slots, guesses, depth, fields)


RATES = Rates(copy_ns=100, cpu_ns=40, both_ns=35, cpu_token_ns=15, gpu_ns=3)
RULES: list[dict[str, Any]] = [
    {"miss": "load"},
    {"miss": "cpu"},
    {"miss": "cpu-and-load"},
    {"miss": "cpu-below:2"},
    {"miss": "split", "miss_parameters": {"table": "0/1/1/2"}},
    {"miss": "admit-after:2"},
    *({"miss": name, "miss_parameters": filled(name, {}, RATES)} for name in MISSES if filled(name, {}, RATES)),
]
PLACEMENTS_DRAWN = ["", "", *PLACEMENTS]


@st.composite
def cpu_cases(draw: st.DrawFn, prefetch: bool = True) -> Case:
    """Anything in which the CPU may compute experts."""
    case, rule = draw(cases(prefetch)), draw(st.sampled_from(RULES))
    fits = case.fields["sharing"] != "all-resident"
    placement = draw(st.sampled_from(PLACEMENTS_DRAWN)) if fits else ""
    return dataclasses.replace(case, fields={**case.fields, **rule, "placement": placement})


SURE = (0.25, 0.5, 1.0)


def some_of(rng: np.random.Generator, experts: int, most: int) -> list[int]:
    """Up to `most` distinct experts, in order; now and then none, as when all tokens are dropped."""
    chosen: list[int] = sorted(rng.permutation(experts)[: rng.integers(0, most + 1)].tolist())
    return chosen
