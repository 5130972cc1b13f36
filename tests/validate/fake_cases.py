"""Random decisions on the fake device, with the durations that the engine has of them."""

from __future__ import annotations

from timing_cases import Case

from specmoe.sim.decide.program import program_of
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.timing.durations import Durations
from specmoe.validate.device import Dense, Work
from specmoe.validate.fake import FakeCosts, FakeDevice
from specmoe.validate.replayer import Recording, replay


def work_from(table: DecisionTable, durations: Durations) -> Work:
    """Sizes do not matter to the fake: it is told its costs."""
    events = table.num_steps * table.num_layers
    return Work(
        table,
        program_of(table, any(durations.predict)),
        [Dense(0, 1, 1)] * events,
        [1] * table.num_steps,
        table.uses.tokens.tolist(),
        [False] * len(table.uses.key),
        durations.predict,
    )


def costs_from(durations: Durations) -> FakeCosts:
    return FakeCosts(durations.host, durations.before, durations.expert, durations.after, durations.copy)


def decided(case: Case, policy: str) -> tuple[DecisionTable, Durations]:
    """Decisions of a case, and durations that the replayer has a counterpart of."""
    table = case.decide(policy)
    return table, case.durations(policy, table)._replace(sync_each_layer=False)


def replayed(
    table: DecisionTable, durations: Durations, device: FakeDevice | None = None
) -> tuple[Recording, FakeDevice]:
    """A traced run, on an exact device unless told."""
    device = device or FakeDevice(lambda _: costs_from(durations))
    work = work_from(table, durations)
    device.prepare(work)
    return replay(work, device, traced=True), device
