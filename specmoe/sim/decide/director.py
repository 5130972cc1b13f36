"""The mechanism that all policies share: slots, pins, waves, counting. A policy only ranks victims and proposes keys.

For every event, in order:

1. What the routers demand is served. It is one demand: none of its experts may evict another. If it does not fit the
   slots, it is served in waves, the resident ones first, and later waves take the slots of earlier ones.
2. What was predicted for later events is prefetched, if that evicts neither this event's demand nor another prediction
   of this event.
3. A policy that keeps nothing gives this event's experts up.

An expert is resident from the moment its load is issued, so no decision depends on a clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from specmoe.errors import InputError
from specmoe.sim.decide.eviction import Context, Eviction
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.proposals import Proposals, proposals_of
from specmoe.sim.decide.table import DecisionTable, Recorder
from specmoe.sim.speculate.table import PredictionTable
from specmoe.traces.workload import Workload


@dataclass
class Pool:
    """Slots that some layers share, and who ranks what is in them."""

    eviction: Eviction
    free: list[int]
    capacity: int
    slot: dict[int, int] = field(default_factory=dict)  # of each resident key
    load: dict[int, int] = field(default_factory=dict)  # the row that brought it
    waiting: set[int] = field(default_factory=set)  # prefetched and not yet used


class Director:
    """Makes the decisions of one policy on one workload."""

    def __init__(self, workload: Workload, predictions: PredictionTable, policy: Policy, slots: int, context: Context):
        self._workload = workload
        self._policy = policy
        self._slots = slots
        self._recorder = Recorder()
        self._pools = _pools(workload, policy, slots, context)
        self._proposals: Proposals = proposals_of(policy, predictions, workload, context)

    def run(self) -> DecisionTable:
        """All decisions, event by event."""
        meta = self._workload.meta
        for event, keys, tokens in _demands(self._workload):
            pool = self._pools[event % meta.num_layers]
            self._serve(pool, event, dict(zip(keys, tokens, strict=True)))
            self._prefetch(event, set(keys))
            if not self._policy.keep:
                self._give_up(pool, keys)
        return self._recorder.table(self._workload.num_steps, meta.num_layers, meta.num_experts, self._slots)

    def _serve(self, pool: Pool, event: int, tokens: dict[int, int]) -> None:
        hits = {key for key in tokens if key in pool.slot}
        for wave, members in enumerate(_waves(list(tokens), hits, pool.capacity)):
            pinned = set(members)
            for key in members:
                if key not in pool.slot:
                    self._load(pool, event, key, pinned, demand=True, wave=wave)
            for key in members:
                pool.eviction.use(key, event)
                pool.waiting.discard(key)
                load = pool.load.get(key, -1)
                self._recorder.use(event, key, tokens[key], pool.slot[key], load, key in hits, wave)

    def _prefetch(self, event: int, demand: set[int]) -> None:
        proposed = self._proposals.at(event)
        if not proposed:
            return
        experts = self._workload.meta.num_experts
        pinned = demand | set(proposed)
        for key in proposed:
            pool = self._pools[key // experts]
            if key not in pool.slot:
                self._load(pool, event, key, pinned, demand=False, wave=0)

    def _load(self, pool: Pool, event: int, key: int, pinned: set[int], *, demand: bool, wave: int) -> None:
        """Bring a key in; a prefetch that finds no slot it may have is not made."""
        evicted = -1
        if not demand and len(pool.waiting) >= self._proposals.backlog:
            return
        if not pool.free:
            victim = pool.eviction.victim(pinned, event)
            if victim is None or not (demand or pool.eviction.may_replace(victim, key, event)):
                return
            evicted = victim
            self._evict(pool, victim)
        slot = pool.free.pop()
        pool.slot[key] = slot
        pool.load[key] = self._recorder.load(event, key, slot, evicted, demand, wave)
        pool.eviction.insert(key, event)
        if not demand:
            pool.waiting.add(key)

    def _evict(self, pool: Pool, key: int) -> None:
        pool.eviction.remove(key)
        pool.free.append(pool.slot.pop(key))
        pool.load.pop(key, None)
        pool.waiting.discard(key)

    def _give_up(self, pool: Pool, keys: list[int]) -> None:
        for key in keys:
            if key in pool.slot and key not in pool.waiting:
                self._evict(pool, key)


def decide(
    workload: Workload, predictions: PredictionTable, policy: Policy, slots: int, context: Context | None = None
) -> DecisionTable:
    """The decisions of a policy with so many slots in all; raises InputError if a layer would have none."""
    return Director(workload, predictions, policy, slots, context or Context(slots, workload)).run()


def _demands(workload: Workload) -> Iterator[tuple[int, list[int], list[int]]]:
    layers, experts = workload.meta.num_layers, workload.meta.num_experts
    offsets, ids, tokens = workload.offsets.tolist(), workload.experts.tolist(), workload.tokens.tolist()
    for event in range(workload.num_events):
        first = event % layers * experts
        span = slice(offsets[event], offsets[event + 1])
        yield event, [first + expert for expert in ids[span]], tokens[span]


def _waves(keys: list[int], hits: set[int], capacity: int) -> Iterator[list[int]]:
    """All keys at once where they fit; else the resident ones and what fits beside them, then the rest."""
    if len(keys) <= capacity:
        yield keys
        return
    ordered = sorted(keys, key=lambda key: key not in hits)
    for start in range(0, len(ordered), capacity):
        yield ordered[start : start + capacity]


def _pools(workload: Workload, policy: Policy, slots: int, context: Context) -> list[Pool]:
    """The pool of each layer; one and the same unless slots are per layer."""
    layers, experts = workload.meta.num_layers, workload.meta.num_experts
    if policy.sharing == "all-resident":
        pool = _pool(policy, range(layers * experts), context)
        for key in range(layers * experts):
            pool.slot[key] = pool.free.pop()
            pool.eviction.insert(key, -1)
        return [pool] * layers
    if policy.sharing == "shared":
        if slots < 1:
            raise InputError(f"{slots} slots: at least 1 expected")
        return [_pool(policy, range(slots), context)] * layers
    if slots < layers:
        raise InputError(f"{slots} slots for {layers} layers: at least one a layer expected")
    edges = [slots * layer // layers for layer in range(layers + 1)]
    return [_pool(policy, range(edges[layer], edges[layer + 1]), context) for layer in range(layers)]


def _pool(policy: Policy, slots: range, context: Context) -> Pool:
    eviction = EVICTIONS[policy.eviction](context, len(slots), **policy.eviction_parameters)
    return Pool(eviction, list(reversed(slots)), len(slots))
