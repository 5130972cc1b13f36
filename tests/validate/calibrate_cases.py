"""Cells of random workloads, measured on a noisy fake device whose constants are known, and simulated."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from fake_cases import costs_from, replayed
from fake_device import FakeDevice, noisy
from timing_cases import Case, Machine
from tiny_routed import tiny_routed

from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.decide.table import DecisionTable, packed
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.retimer import Actions, actions_of, timed
from specmoe.sim.timing.variants import variants_of
from specmoe.validate.fit import MILLION, Constants
from specmoe.validate.grid import Cell, Group, group_of
from specmoe.validate.measured import Steps
from specmoe.validate.replayer import latencies
from specmoe.validation_table import Role

TRUE = Constants(HostCosts(9_000, 14_000, 31_000, 4_000, 12_000, 18_000, 6_000, 11_000), 1_020_000)
ISOLATED = Constants(HostCosts(7_000, 10_000, 27_000, 2_000, 9_000, 8_000, 0, 0))  # microbenchmarks': too little
COPY = {"fp32": 350_000, "fp16": 175_000, "int8": 90_000}
ALL = 6 * 16
B1, B4 = group_of("tiny", "decode", "fp16", None, 1, 40), group_of("tiny", "decode", "fp16", None, 4, 20)
FP32 = group_of("tiny", "decode", "fp32", None, 1, 40)
INT8 = group_of("tiny", "decode", "int8", None, 4, 20)


def cells(group: Group, role: Role, **slots: int) -> list[Cell]:
    return [group.cell(policy.replace("_", "-"), number, role) for policy, number in slots.items()]


FIT = [
    *cells(B1, "fit", gpu_only=ALL, on_demand=24, on_demand_lru=24, lookahead=24, oracle=24, layer_minus_1=24),
    *cells(B4, "fit", gpu_only=ALL, on_demand=40, on_demand_lru=40, lookahead=40),
]
HELD_OUT = [
    *cells(B1, "held_out", on_demand_lru=48, oracle=48, previous_step=24),
    *cells(B4, "held_out", belady=40, pregated_lru=48),
    *cells(FP32, "held_out", gpu_only=ALL, on_demand_lru=24, lookahead=48, oracle=48),
    *cells(INT8, "held_out", on_demand=40, lookahead=40, frequency=40),
]


@cache
def decided(cell: Cell) -> tuple[DecisionTable, Durations]:
    group = cell.group
    routed = tiny_routed(400, group.config.batch, 7, 30, group.config.steps, num_layers=6, num_experts=16, top_k=1)
    machine = Machine(TRUE.host, 90_000, 30_000, 1_500, 40_000, COPY[group.config.format], 0, False, predict=12_000)
    case = Case(routed, machine, cell.slots, late=True)
    table = case.decide(cell.policy)
    return table, case.durations(cell.policy, table)


@cache
def actions(cell: Cell) -> Actions:
    return actions_of(decided(cell)[0], predicts=True)


def lasting(durations: Durations, constants: Constants) -> Durations:
    """With these costs of the host, copies so much longer, and slowing kernels so much."""
    copy = packed(np.round(np.array(durations.copy) * (constants.contention / MILLION)))
    return durations._replace(host=constants.host, copy=copy, interference=constants.interference / MILLION)


def decisions_of(cell: Cell) -> str:
    return f"decisions of {cell.name}"


def measured(some: Iterable[Cell], spread: float, seed: int = 0, repeats: int = 3) -> dict[Cell, Steps]:
    """As real runs would be: everything varies."""
    rng = np.random.default_rng(seed)
    return {cell: _measured(cell, spread, rng, repeats) for cell in some}


def _measured(cell: Cell, spread: float, rng: np.random.Generator, repeats: int) -> Steps:
    table, durations = decided(cell)
    durations = lasting(durations, TRUE)
    device = FakeDevice(lambda _: costs_from(durations), noisy(spread, rng))
    runs = np.stack([latencies(replayed(table, durations, device)[0]) for _ in range(repeats)])
    return Steps(runs, runs, runs, decisions_of(cell))


def simulated(some: Iterable[Cell], constants: Constants) -> dict[Cell, Steps]:
    return {cell: _simulated(cell, constants) for cell in some}


def _simulated(cell: Cell, constants: Constants) -> Steps:
    """By the re-timer, whose times are the engine's: fits ask for thousands of cells."""
    durations = lasting(decided(cell)[1], constants)
    latency = timed(actions(cell), variants_of([durations])).latencies
    return Steps(latency, latency, latency, decisions_of(cell))


def mean_errors(some: Iterable[Cell], constants: Constants, real: dict[Cell, Steps]) -> dict[str, float]:
    said = simulated(some, constants)
    return {cell.name: said[cell].latency.mean() / real[cell].latency.mean() - 1 for cell in some}
