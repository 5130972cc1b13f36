"""Decisions while a model runs: the director and the predictor of a policy, asked event by event.

Fed with a stream, they decide as `decide` does with the trace recorded from it. One thing differs: at the end of a
stream nobody knows that it ends, so the last events may prefetch for a step that never comes.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.decide.director import Director
from specmoe.sim.decide.eviction import Context, proposed_at
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policy import POLICIES, Policy
from specmoe.sim.decide.table import GPU, DecisionTable, Load, Use
from specmoe.sim.speculate.learned.predictor import Learned
from specmoe.sim.speculate.predictor import Predictor, no_predictions, pool_event
from specmoe.sim.speculate.predictors import ON_THE_DEVICE, make_predictor
from specmoe.traces.schema import Block, Phase, TraceMeta
from specmoe.traces.workload import no_steps

LOOK_AHEAD = {"learned-fusion": 1}  # layers that predictors see which are not the model's own routers


class Decided(NamedTuple):
    """What one event adds to the decision table."""

    uses: list[Use]
    loads: list[Load]


class Stream:
    """Decides as routers speak; `popularity` is the number of uses of every key in the train split, if there is one."""

    def __init__(
        self,
        meta: TraceMeta,
        policy: Policy,
        predictor: Predictor,
        slots: int,
        popularity: NDArray[np.int64] | None = None,
    ) -> None:
        asked = predictor.asked(meta)
        if asked is None or not decides_online(policy):
            raise InputError(
                f"policy {policy.name}: it cannot be asked online: one of {', '.join(online_names())} expected"
            )
        self._meta, self._rule, self._asked = meta, policy.prefetch, asked
        workload = no_steps(meta)
        context = Context(slots, workload, lambda: popularity)
        self._director = Director(workload, no_predictions(0), policy, slots, context)
        self._events = 0
        self.after_launch = policy.prefetch is not None and policy.prefetch.after_launch

    @property
    def resident(self) -> dict[int, int]:
        """Slot of each resident key."""
        return self._director.resident

    @property
    def slots(self) -> int:
        """Number of slots in all."""
        return self._director.slots

    def event(self, block: Block) -> Decided:
        """Decide the next layer's event: `block` has the rows of its step, with -1 for layers that come later."""
        meta, layer, recorder = self._meta, self._events % self._meta.num_layers, self._director.recorder
        used = block.experts[:, layer, : meta.top_k]
        experts, tokens = np.unique(used[used >= 0], return_counts=True)
        keys: list[int] = (layer * meta.num_experts + experts.astype(np.int64)).tolist()
        first_use, first_load = recorder.num_uses, recorder.num_loads
        self._director.event(self._events, keys, tokens.tolist(), self._proposed(layer, block))
        self._events += 1
        if self._events % meta.num_layers == 0:
            self._asked.end_step(block)
        return Decided(list(recorder.uses_since(first_use)), list(recorder.loads_since(first_load)))

    def _proposed(self, layer: int, block: Block) -> list[int]:
        """What the predictor proposes; it is asked at every event, as many learn from their own guesses."""
        candidates = pool_event(self._asked.at(layer, block), self._meta.num_experts)
        return proposed_at(self._rule, *candidates, self._events, self._meta) if self._rule else []

    def table(self) -> DecisionTable:
        """The decisions of all whole steps so far."""
        steps = self._events // self._meta.num_layers
        return self._director.table(steps).until(steps)


class Plan:
    """Decisions made beforehand, which a stream of the same routing follows."""

    def __init__(self, meta: TraceMeta, table: DecisionTable) -> None:
        self._meta, self._table, self._events = meta, table, 0
        self.slots, self.after_launch = table.slots, table.after_launch
        uses = table.uses
        there = (uses.load < 0) & (uses.where == GPU)
        self.resident = dict(zip(uses.key[there].tolist(), uses.slot[there].tolist(), strict=True))

    def event(self, block: Block) -> Decided:
        """The next layer's decisions; raises InputError if the plan is for other demand."""
        table, event = self._table, self._events
        layer = event % self._meta.num_layers
        uses, loads = ([rows.event.searchsorted(at) for at in (event, event + 1)] for rows in (table.uses, table.loads))
        columns = [table.uses[place][slice(*uses)].tolist() for place in range(1, len(table.uses))]
        planned = [Use(*row) for row in zip(*columns, strict=True)]
        used = block.experts[:, layer, : self._meta.top_k]
        if {use.key - layer * self._meta.num_experts for use in planned} != set(used[used >= 0].tolist()):
            step = event // self._meta.num_layers
            raise InputError(f"step {step}, layer {layer}: the plan is for other routing than the model's")
        self._events += 1
        return Decided(planned, [self._load(row) for row in range(*loads)])

    def _load(self, row: int) -> Load:
        loads = self._table.loads
        return Load(row, int(loads.key[row]), int(loads.slot[row]), bool(loads.demand[row]), int(loads.wave[row]))

    def table(self) -> DecisionTable:
        """The plan, as far as it was followed in whole steps."""
        return self._table.until(self._events // self._meta.num_layers)


def decides_online(policy: Policy) -> bool:
    """Whether a policy's eviction and its miss rule need neither the future nor whole tables."""
    eviction = EVICTIONS[policy.eviction]
    return not (eviction.peeks or eviction.reads_predictions or policy.approximate)


def online_names(loads_only: bool = False) -> list[str]:
    """Names of the policies that can be asked online; with `loads_only`, of those that load every expert they use."""
    names = [name for name, row in POLICIES.items() if decides_online(row) and not (loads_only and row.uses_cpu)]
    return [name for name in names if _answers(make_predictor(POLICIES[name].predictor))]


def depth_of(policy: Policy) -> int:
    """Layers of look-ahead that a policy's predictor asks the model for."""
    if policy.prefetch is None:
        return 0
    return policy.prefetch.depth if policy.predictor in ON_THE_DEVICE else LOOK_AHEAD.get(policy.predictor, 0)


def source_of(meta: TraceMeta, policy: Policy, slots: int, plan: DecisionTable | None = None) -> Stream | Plan:
    """What decides while a model runs: a plan, or a policy that is asked."""
    if plan is not None:
        return Plan(meta, plan)
    return Stream(meta, policy, predictor_of(policy, meta.phase), slots)


def predictor_of(policy: Policy, phase: Phase) -> Predictor:
    """A policy's predictor for a phase; `checkpoint` has a network for each, in directories named like them."""
    parameters = {"depth": policy.prefetch.depth if policy.prefetch else 1, **policy.predictor_parameters}
    if networks := parameters.get("checkpoint"):
        parameters["checkpoint"] = str(Path(networks) / phase)
    return make_predictor(policy.predictor, parameters)


def require_network(policy: Policy, model: str, phase: Phase) -> None:
    """Raise InputError if a policy needs a trained network for a phase of a model, and there is none."""
    predictor = predictor_of(policy, phase)
    if isinstance(predictor, Learned) and not predictor.is_trained(model, phase):
        raise InputError(
            f"policy {policy.name}: no network for {phase} of {model}: record its routing with `specmoe collect "
            f"--model {model} --text TEXT --phase both --out DIR`, train one with `specmoe train DIR/{phase}.parquet "
            f"--architecture {predictor.architecture} --out NETWORKS/{phase}`, and name it by --networks NETWORKS"
        )


def _answers(predictor: Predictor) -> bool:
    return predictor.of_the_step or type(predictor).asked is not Predictor.asked
