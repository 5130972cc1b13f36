"""The director: the mechanism that all policies share (slots, pins, waves, counting).

A policy only ranks victims and proposes keys to prefetch. For every event, in order:

1. The CPU computes the experts that the policy's placement or its miss rule gives it. They need no slots.
2. The rest of the demand is served as a whole: none of its experts may evict another. If it does not fit into the
   slots it is served in waves, resident experts first, and later waves take the slots of earlier ones.
3. Experts that the CPU computed and that the miss rule wants for later are loaded, as prefetches are.
4. Experts that are predicted for later events are prefetched, unless that evicts an expert of this event's demand or
   of its predictions.
5. A policy without a cache gives up the experts of this event's layer, used or not, except those just predicted.

Experts that a placement puts into slots are there from the start, and no load brought them. They never leave, except
those that it puts there at first only.

An expert is resident from the moment its load is issued, so no decision depends on a clock.
"""

import dataclasses
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from specmoe.errors import InputError, SpecmoeError
from specmoe.sim.decide import compiled
from specmoe.sim.decide.eviction import Context, Eviction, Proposals, proposals_of
from specmoe.sim.decide.evictions import make_eviction
from specmoe.sim.decide.miss import COMPUTE, COMPUTE_AND_LOAD, DEFER, DROP, LOAD, LOAD_LOW, Miss, Misses
from specmoe.sim.decide.misses import make_miss
from specmoe.sim.decide.placement import FIXED, Model, Placed, placed
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import CPU, DEFERRED, DROPPED, LOW, NOWHERE, Changes, DecisionTable, Recorder, Uses
from specmoe.sim.speculate.predictor import PredictionTable
from specmoe.traces.workload import Workload


def decide(
    workload: Workload, predictions: PredictionTable, policy: Policy, slots: int, context: Context | None = None
) -> DecisionTable:
    """The decisions of a policy with `slots` slots in all; raises InputError if a pool of slots would be empty."""
    if len(predictions.experts) != workload.num_events:
        raise InputError(
            f"predictions of {len(predictions.experts)} events: {workload.num_events}, as in the workload, expected"
        )
    context = dataclasses.replace(context or Context(slots, workload), predictions=predictions)
    director = Director(workload, predictions, policy, slots, context)
    start = director.start()
    if start is None or not compiled.takes(start):
        return director.run()
    after_launch = policy.prefetch is not None and policy.prefetch.after_launch
    made = compiled.decided(start)
    return made._replace(after_launch=after_launch, all_resident=policy.sharing == "all-resident")


CHANGES = {LOAD_LOW: LOW, DEFER: DEFERRED, DROP: DROPPED}


class Director:
    """Makes the decisions of one policy on one workload."""

    def __init__(self, workload: Workload, predictions: PredictionTable, policy: Policy, slots: int, context: Context):
        meta = workload.meta
        self._all_resident = policy.sharing == "all-resident"
        self._slots = meta.num_layers * meta.num_experts if self._all_resident else slots
        self._workload = workload
        self._eviction = policy.eviction
        self._keep = policy.keep or self._all_resident
        self._after_launch = policy.prefetch is not None and policy.prefetch.after_launch
        self._recorder = Recorder()
        self._miss = make_miss(policy.miss, policy.miss_parameters, meta.num_experts)
        fixed, self._in_ram, at_first = _placed(policy, self._slots, self._miss, context)
        alike = _alike(policy, self._slots, context)
        self._fixed = _slots_of_fixed(fixed, alike, meta.num_experts)  # keys that never leave
        self._pools = _pools(policy, alike, set(self._fixed.values()), context)
        self._proposals: Proposals = proposals_of(policy, predictions, workload)
        self._slot: dict[int, int] = dict(self._fixed)  # of each resident key
        self._load: dict[int, int] = {}  # the row that brought it
        self._unused: set[int] = set()  # since their loads
        self._gate = context.gate if self._miss is not None and self._miss.weighs else None
        self._changed: dict[int, int] = {}  # what a changed use is, by its place in the workload
        self._fill(range(self._slots) if self._all_resident else at_first)

    def start(self) -> compiled.Start | None:
        """What decisions start from, for the compiled twin; None if layers share pools in groups."""
        workload, pools = self._workload, list({id(pool): pool for pool in self._pools}.values())
        if len(pools) not in (1, len(self._pools)):
            return None
        return compiled.Start(
            workload,
            [pool.eviction for pool in pools],
            [pool.free for pool in pools],
            [pool.capacity for pool in pools],
            *(self.resident, self._slots, self._keep, self._proposals),
            *(self._miss, tuple(self._fixed), self._in_ram),
        )

    def run(self) -> DecisionTable:
        """All decisions, event by event."""
        for event, keys, tokens in _demands(self._workload):
            self.event(event, keys, tokens, self._proposals.at(event))
        table = self.table(self._workload.num_steps)
        return table._replace(changes=self._changes(table.uses)) if self._changed else table

    def event(self, event: int, keys: list[int], tokens: list[int], proposed: list[int]) -> None:
        """Serve the demand of the next event, its keys ascending, and prefetch what is proposed after it."""
        layer = event % self._workload.meta.num_layers
        self._serve(self._pools[layer], event, keys, tokens)
        if proposed:
            self._prefetch(event, keys, proposed)
        if not self._keep:
            self._give_up(layer, proposed)

    def table(self, num_steps: int) -> DecisionTable:
        """The decisions so far, which are those of `num_steps` steps."""
        meta = self._workload.meta
        shape = (num_steps, meta.num_layers, meta.num_experts)
        return self._recorder.table(*shape, self._slots, self._after_launch, self._all_resident)

    @property
    def recorder(self) -> Recorder:
        """Rows of the decisions so far."""
        return self._recorder

    @property
    def resident(self) -> dict[int, int]:
        """Slot of each resident key."""
        return dict(self._slot)

    @property
    def slots(self) -> int:
        """Number of slots in all."""
        return self._slots

    def _changes(self, uses: Uses) -> Changes | None:
        """What an approximate rule changed, in the order of the uses."""
        if self._gate is None:
            return None
        workload, keys = self._workload, self._workload.meta.num_layers * self._workload.meta.num_experts
        kinds = np.zeros(len(workload.experts), np.int8)
        kinds[list(self._changed)] = list(self._changed.values())
        demanded = workload.events * keys + workload.keys  # rising
        place = np.searchsorted(demanded, uses.event.astype(np.int64) * keys + uses.key)
        return Changes(kinds[place], self._gate.mass[place])

    def _fill(self, keys: Iterable[int]) -> None:
        """Make keys resident from the start, as long as slots are free."""
        for key in keys:
            pool = self._pools[key // self._workload.meta.num_experts]
            if pool.free:
                self._slot[key] = pool.free.pop()
                pool.eviction.insert(key, -1)

    def _serve(self, pool: "Pool", event: int, keys: list[int], tokens: list[int]) -> None:
        if self._in_ram or self._miss is not None:
            self._share(pool, event, keys, tokens)
        else:
            self._use(pool, event, keys, tokens)

    def _share(self, pool: "Pool", event: int, keys: list[int], tokens: list[int]) -> None:
        """Serve a demand of which slots serve a part."""
        chosen = self._choices(event, keys, tokens)
        for key, count, choice in zip(keys, tokens, chosen, strict=True):
            if choice not in (LOAD, LOAD_LOW):
                self._recorder.use(event, key, count, -1, -1, False, 0, NOWHERE if choice == DROP else CPU)
        places = [place for place, choice in enumerate(chosen) if choice in (LOAD, LOAD_LOW)]
        self._use(pool, event, [keys[place] for place in places], [tokens[place] for place in places])
        pinned = set(keys)
        for key, choice in zip(keys, chosen, strict=True):
            if choice == COMPUTE_AND_LOAD:
                self._bring(pool, event, key, pinned, demand=False, wave=0, later=True)
            elif choice == LOAD_LOW and key in self._slot:
                self._evict(pool, key)

    def _choices(self, event: int, keys: list[int], tokens: list[int]) -> list[int]:
        """What each demanded expert gets; `LOAD` for those in slots."""
        if event % self._workload.meta.num_layers in self._in_ram:
            return [COMPUTE] * len(keys)
        missing = [place for place, key in enumerate(keys) if key not in self._slot]
        choices = [LOAD] * len(keys)
        if missing and self._miss is not None:
            hits = [count for key, count in zip(keys, tokens, strict=True) if key in self._slot]
            misses = Misses([keys[place] for place in missing], [tokens[place] for place in missing], hits)
            first = int(self._workload.offsets[event]) if self._gate is not None else 0
            for place, choice in zip(missing, self._miss.choose(self._weighed(misses, first, missing)), strict=True):
                choices[place] = choice
                if choice in CHANGES:
                    self._changed[first + place] = CHANGES[choice]
        return choices

    def _weighed(self, misses: Misses, first: int, missing: list[int]) -> Misses:
        """Misses of a demand that begins at `first`, with the routers' weights if the rule needs them."""
        if self._gate is None:
            return misses
        rows = [first + place for place in missing]
        return misses._replace(before=self._gate.before[rows].tolist(), after=self._gate.after[rows].tolist())

    def _use(self, pool: "Pool", event: int, keys: list[int], tokens: list[int]) -> None:
        """Serve a demand from slots."""
        loads_before = self._recorder.num_loads
        for wave, (members, counts) in enumerate(_waves(keys, tokens, self._slot, pool.capacity, self._fixed)):
            missing = [key for key in members if key not in self._slot]
            if missing:
                pinned = set(members)
                for key in missing:
                    self._bring(pool, event, key, pinned, demand=True, wave=wave)
            for key, count in zip(members, counts, strict=True):
                if key not in self._fixed:
                    pool.eviction.use(key, event, key not in self._unused)
                    self._unused.discard(key)
                load = self._load.get(key, -1)
                self._recorder.use(event, key, count, self._slot[key], load, load < loads_before, wave)

    def _prefetch(self, event: int, demand: list[int], proposed: list[int]) -> None:
        experts = self._workload.meta.num_experts
        pinned = {*demand, *proposed}
        for key in proposed:
            if len(self._unused) >= self._proposals.backlog:
                return
            if key not in self._slot and key // experts not in self._in_ram:
                self._bring(self._pools[key // experts], event, key, pinned, demand=False, wave=0)

    def _bring(
        self, pool: "Pool", event: int, key: int, pinned: set[int], *, demand: bool, wave: int, later: bool = False
    ) -> None:
        """Load a key; one that nobody waits for is dropped if it may not take any slot."""
        evicted = -1
        if not pool.free:
            victim = pool.eviction.victim(key, pinned, event)
            if not demand and (victim is None or not pool.eviction.may_replace(victim, key, event)):
                return
            if victim is None or victim in pinned or victim not in self._slot:
                raise SpecmoeError(
                    f"event {event}: eviction {self._eviction} returned {victim}, which is pinned or not resident"
                )
            evicted = victim
            self._evict(pool, victim)
        slot = self._slot[key] = pool.free.pop()
        self._load[key] = self._recorder.load(event, key, slot, evicted, demand, wave, later)
        self._unused.add(key)
        pool.eviction.insert(key, event)

    def _evict(self, pool: "Pool", key: int) -> None:
        pool.eviction.remove(key)
        pool.free.append(self._slot.pop(key))
        self._load.pop(key, None)
        self._unused.discard(key)

    def _give_up(self, layer: int, proposed: list[int]) -> None:
        """Empty the slots of a layer that has run, except those of proposed experts."""
        experts, wanted = self._workload.meta.num_experts, set(proposed)
        wanted.update(self._fixed)
        for key in [key for key in self._slot if key // experts == layer and key not in wanted]:
            self._evict(self._pools[layer], key)


@dataclass(frozen=True)
class Pool:
    """Slots that some layers share, with the eviction policy that ranks their experts."""

    eviction: Eviction
    free: list[int]
    capacity: int


def _demands(workload: Workload) -> Iterator[tuple[int, list[int], list[int]]]:
    """Each event with its keys and their tokens."""
    keys, tokens = workload.keys.data, workload.tokens.data
    for event, (start, end) in enumerate(pairwise(workload.offsets.data)):
        yield event, keys[start:end].tolist(), tokens[start:end].tolist()


def _waves(
    keys: list[int], tokens: list[int], resident: Container[int], capacity: int, fixed: Container[int] = ()
) -> Iterator[tuple[list[int], list[int]]]:
    """Split a demand into waves: all keys at once if they fit, else the resident keys first.

    `capacity` slots are left for keys that are not `fixed`; these belong to the first wave.
    """
    if len(keys) <= capacity:
        yield keys, tokens
        return
    order = sorted(range(len(keys)), key=lambda place: (keys[place] not in fixed, keys[place] not in resident))
    end = sum(key in fixed for key in keys) + capacity
    waves = [order[:end], *(order[start : start + capacity] for start in range(end, len(order), max(1, capacity)))]
    for part in waves:
        yield [keys[place] for place in part], [tokens[place] for place in part]


def _placed(policy: Policy, slots: int, miss: Miss | None, context: Context) -> Placed:
    """What the policy's placement keeps in slots and in RAM; pools keep a slot each if misses may be loaded."""
    if policy.placement and policy.sharing == "all-resident":
        raise InputError(f"placement {policy.placement!r}: every expert is resident (all-resident): none expected")
    meta = context.workload.meta
    reserve = _num_pools(policy, meta.num_layers) if miss is None or miss.loads else 0
    model = Model(meta.num_layers, meta.num_experts, context.sizes)
    try:
        return placed(policy.placement, model, slots, reserve, lambda: context.popularity)
    except InputError as error:
        raise InputError(f"policy {policy.name}: {error}") from None


def _num_pools(policy: Policy, layers: int) -> int:
    return layers if policy.sharing == "per-layer" else 1


class Alike(NamedTuple):
    """Layers whose experts are equally large, and the slots of that size."""

    layers: list[int]
    slots: range


def _alike(policy: Policy, slots: int, context: Context) -> list[Alike]:
    """Layers and slots of each size; where whole layers stay in VRAM nothing is loaded, and sizes do not matter."""
    layers, sizes = context.workload.meta.num_layers, context.sizes
    if sizes is None or policy.placement.startswith("cpu-"):
        return [Alike(list(range(layers)), range(slots))]
    edges = pairwise(accumulate(sizes.slots_of(slots).values(), initial=0))
    return [Alike(group, range(*edge)) for group, edge in zip(sizes.groups, edges, strict=True)]


def _slots_of_fixed(keys: list[int], alike: list[Alike], experts: int) -> dict[int, int]:
    """The first slots of their sizes for keys that never leave."""
    free = {layer: slots for layers, each in alike for slots in [iter(each)] for layer in layers}
    return {key: next(free[key // experts]) for key in keys}


def _pools(policy: Policy, alike: list[Alike], fixed: set[int], context: Context) -> list[Pool]:
    """The pool of each layer, of slots that are not fixed; those alike share one unless slots are per layer."""
    pools: dict[int, Pool] = {}
    for layers, slots in alike:
        parts, own = _num_pools(policy, len(layers)), [slot for slot in slots if slot not in fixed]
        if not policy.placement.startswith(FIXED) and len(own) < parts:
            least = sum(_num_pools(policy, len(each)) for each, _ in alike)
            raise InputError(f"{alike[-1].slots.stop} slots: at least {least} expected, one for each pool of slots")
        edges = [len(own) * part // parts for part in range(parts + 1)]
        made = [_pool(policy, own[start:end], context) for start, end in pairwise(edges)]
        pools |= zip(layers, made * (len(layers) // parts), strict=True)
    return [pools[layer] for layer in sorted(pools)]


def _pool(policy: Policy, slots: list[int], context: Context) -> Pool:
    eviction = make_eviction(policy.eviction, context, len(slots), policy.eviction_parameters)
    return Pool(eviction, list(reversed(slots)), len(slots))
