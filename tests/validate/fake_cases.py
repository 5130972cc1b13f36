"""Random decisions on the fake device, with the durations that the engine has of them."""

from __future__ import annotations

from fake_device import FakeCosts, FakeDevice
from timing_cases import Case, Machine, durations_by_hand, on_cpu, table_of, with_cpu
from tiny_routed import tiny_routed

from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.decide.program import program_of
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.timing.cpu_lane import CpuCosts
from specmoe.sim.timing.durations import Durations
from specmoe.validate.replayer import Dense, Recording, Work, replay

HOST = HostCosts(
    launch_ns=1, launch_dense_ns=2, issue_ns=3, event_ns=1, sync_ns=2, bookkeeping_ns=4, begin_ns=1, begin_copy_ns=4
)
PRIMES = HostCosts(2, 3, 5, 7, 11, 13, 17, 19)
WAVES = Case(  # several sequences at once and few slots: demand that does not fit, and a host that predicts
    tiny_routed(40, batch=3, num_layers=2, num_experts=6, top_k=1, candidates=3),
    Machine(PRIMES, 10, 20, 1, 5, 30, 0, False, 80),
    slots=2,
)


def work_from(table: DecisionTable, durations: Durations) -> Work:
    """Sizes do not matter to the fake: it is told its costs."""
    events = table.num_steps * table.num_layers
    return Work(
        table,
        program_of(table, any(durations.predict), durations.launching),
        [Dense(0, 1, 1)] * events,
        [1] * table.num_steps,
        table.uses.tokens.tolist(),
        [False] * len(table.uses.key),
        durations.predict,
        durations.runs_ahead,
    )


def costs_from(durations: Durations) -> FakeCosts:
    cpu = (durations.cpu, durations.to_host, durations.to_device)
    return FakeCosts(durations.host, durations.before, durations.expert, durations.after, durations.copy, *cpu)


def decided(case: Case, policy: str) -> tuple[DecisionTable, Durations]:
    """Decisions of a case, and durations that the replayer has a counterpart of."""
    table = case.decide(policy)
    return table, case.durations(policy, table)._replace(sync_each_layer=False)


def decided_on_cpu(case: Case, policy: str, cpu: CpuCosts, seed: int) -> tuple[DecisionTable, Durations]:
    """The same decisions, but that the CPU computes some uses; neither it nor copies slow the other."""
    table = on_cpu(case.decide(policy), seed)
    durations = case.durations(policy, table)._replace(sync_each_layer=False)
    return table, with_cpu(durations, cpu._replace(slowed_by_copy=0, slows_copy=0), seed)


def replayed(
    table: DecisionTable, durations: Durations, device: FakeDevice | None = None
) -> tuple[Recording, FakeDevice]:
    """A traced run, on an exact device unless told."""
    device = device or FakeDevice(lambda _: costs_from(durations))
    work = work_from(table, durations)
    device.prepare(work)
    return replay(work, device, traced=True), device


def two_layers(after_launch: bool = False) -> tuple[DecisionTable, Durations]:
    """One step: layer 0 loads key 1 and prefetches key 8, which layer 1 uses."""
    loads = [(0, 1, 0, True, 0), (0, 8, 1, False, 0)]
    uses = [(0, 1, 1, 0, 0, False, 0), (1, 8, 1, 1, 1, True, 0)]
    table = table_of(loads, uses, steps=1, layers=2, slots=2)._replace(after_launch=after_launch)
    return table, durations_by_hand(table)._replace(host=HOST)
