"""Decisions written by hand, and random small ones by every named policy, with durations made up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from tiny_routed import tiny_routed

from specmoe.hwprofiles.costs import HostCosts
from specmoe.hwprofiles.kernels import LAUNCHING, Launching
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.decide.program import groups_of
from specmoe.sim.decide.table import DecisionTable, Loads, Recorder
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.predictors import PREDICTORS
from specmoe.sim.timing.cpu_lane import CpuCosts
from specmoe.sim.timing.durations import Durations

RUNNABLE = [  # no network was trained, and neither uses on the CPU nor changed ones are timed
    name
    for name, row in POLICIES.items()
    if not (row.predictor.startswith("learned-") or row.uses_cpu or row.approximate)
]
HOST = HostCosts(launch_ns=1, launch_dense_ns=2, issue_ns=3, event_ns=1, sync_ns=2, bookkeeping_ns=4)
Load = tuple[int, int, int, bool, int]  # event, key, slot, demand, wave
Use = tuple[int, int, int, int, int, bool, int]  # event, key, tokens, slot, load, hit, wave


def table_of(loads: Iterable[Load], uses: Iterable[Use], steps: int, layers: int, slots: int) -> DecisionTable:
    """Decisions as they are written down; who was evicted does not matter to time."""
    recorder = Recorder()
    for event, key, slot, demand, wave in loads:
        recorder.load(event, key, slot, -1, demand, wave)
    for use in uses:
        recorder.use(*use)
    return recorder.table(steps, layers, 8, slots)


def durations_by_hand(
    table: DecisionTable, copy: int = 20, expert: list[int] | None = None, read: int = 0
) -> Durations:
    """Dense parts of 10, heads of 6, experts of 5 unless told."""
    events, uses = table.num_steps * table.num_layers, len(table.uses.key)
    return Durations(
        [10] * events, expert or [5] * uses, [6] * table.num_steps, [copy] * len(table.loads.key), read, HOST
    )


class Machine(NamedTuple):
    """What durations are made of; expert time grows with tokens."""

    host: HostCosts
    before: int
    expert: int
    token: int
    after: int
    copy: int
    read: int
    sync_each_layer: bool
    predict: int = 0

    def durations(self, table: DecisionTable, launching: Launching = "separate") -> Durations:
        layers, steps = table.num_layers, table.num_steps
        return Durations(
            before=[self.before + 3 * (event % 4) for event in range(steps * layers)],
            expert=self.launches(table, launching),
            after=[self.after + step % 3 for step in range(steps)],
            copy=[self.copy] * len(table.loads.key),
            read=self.read,
            host=self.host,
            sync_each_layer=self.sync_each_layer,
            launching=launching,
            runs_ahead=table.all_resident and launching != "separate",
        )

    def launches(self, table: DecisionTable, launching: Launching) -> list[int]:
        """A launch takes as long whatever it serves, and longer for each token of each expert."""
        groups = groups_of(table, launching)
        tokens = np.bincount(groups.number, table.uses.tokens[groups.order], groups.launches).astype(np.int64)
        took = np.zeros(len(groups.order), np.int64)
        took[groups.ends] = self.expert + self.token * tokens
        return [int(time) for time in took]


class Case(NamedTuple):
    """A small workload, a machine and slots."""

    routed: Routed
    machine: Machine
    slots: int
    late: bool = False  # prefetches after the launch
    interference: float = 0.0
    launching: Launching = "separate"

    def decide(self, name: str) -> DecisionTable:
        policy = POLICIES[name]
        if policy.prefetch:
            policy = dataclasses.replace(policy, prefetch=dataclasses.replace(policy.prefetch, after_launch=self.late))
        predictions = PREDICTORS[policy.predictor]().predict(self.routed)
        workload = self.routed.workload
        popularity = np.arange(workload.meta.num_layers * workload.meta.num_experts)[::-1].astype(np.int64)
        return decide(workload, predictions, policy, self.slots, Context(self.slots, workload, lambda: popularity))

    def durations(self, name: str, table: DecisionTable) -> Durations:
        """With the host's time for predictions, if the policy prefetches at all."""
        predict = [self.machine.predict * (1 + event % 3) for event in range(table.num_steps * table.num_layers)]
        predict = predict if POLICIES[name].prefetch else ()
        durations = self.machine.durations(table, self.launching)
        return durations._replace(predict=predict, interference=self.interference)

    @property
    def most_demanded(self) -> int:
        """By one event."""
        return int(np.diff(self.routed.workload.offsets).max())


@st.composite
def cpu_costs(draw: Any) -> CpuCosts:
    """Made-up costs of the CPU; shares from none to twice the time."""
    small, share = st.integers(0, 9), st.sampled_from([0, 70_000, 333_333, 500_000, 2_000_000])
    return CpuCosts(*(draw(small) for _ in range(3)), draw(share), draw(share))


def on_cpu(table: DecisionTable, seed: int) -> DecisionTable:
    """The same decisions, but that the CPU computes some uses; what their loads bring is for later events.

    Events of several waves stay as they are, as others of their uses may overwrite what such a load brings.
    """
    random, uses, loads = np.random.default_rng(seed), table.uses, table.loads
    waves = np.bincount(uses.event, uses.wave, table.num_steps * table.num_layers)
    moves = (random.random(len(uses.key)) < random.choice([0.2, 0.5, 1])) & (waves[uses.event] == 0)
    later = np.isin(np.arange(len(loads.key)), uses.load[moves & ~uses.hit]) & loads.demand
    load, order = (
        np.where(moves, -1, uses.load),
        np.lexsort((later + 2 * loads.prefetch, loads.event)),
    )  # issued behind demand loads
    places = np.append(np.argsort(order), -1)
    moved = uses._replace(
        slot=np.where(moves, -1, uses.slot).astype(np.int32),
        load=places[load].astype(np.int32),
        hit=uses.hit & ~moves,
        where=moves.astype(np.int8),
    )
    loads = Loads._make(column[order] for column in loads._replace(demand=loads.demand & ~later, later=later))
    return table._replace(all_resident=False, uses=moved, loads=loads)


def with_cpu(durations: Durations, cpu: CpuCosts, seed: int) -> Durations:
    """With made-up times of small copies."""
    small = np.random.default_rng(seed).integers(0, 30, len(durations.after)).tolist()
    return durations._replace(cpu=cpu, to_host=small, to_device=small[::-1])


def machines(read: bool = True) -> st.SearchStrategy[Machine]:
    """Made-up machines; experts on NVMe now and then, unless `read` is false."""
    small = st.integers(0, 9)
    hosts = st.builds(HostCosts, *[small] * 8)
    reads = st.sampled_from([0, 0, 17]) if read else st.just(0)
    time, flag = st.integers(1, 40), st.booleans()
    predict = st.sampled_from([0, 0, 3, 80])
    return st.builds(Machine, hosts, time, time, st.integers(0, 9), small, st.integers(1, 60), reads, flag, predict)


@st.composite
def cases(draw: Any, read: bool = True) -> Case:
    """Small workloads with slots for one layer or more; a step's demand, or an event's, may not fit."""
    layers = draw(st.integers(1, 3))
    routed = tiny_routed(
        tokens=draw(st.integers(1, 12)),
        batch=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 10_000)),
        phase=draw(st.sampled_from(["decode", "decode", "encode"])),
        num_layers=layers,
        num_experts=draw(st.integers(3, 6)),
        top_k=draw(st.integers(1, 2)),
        candidates=3,
    )
    machine, launching = draw(machines(read)), draw(st.sampled_from(LAUNCHING))
    return Case(routed, machine, draw(st.integers(layers, 9)), draw(st.booleans()), launching=launching)
