"""From a grid of cells to what was measured of them: decide, replay, and judge the simulator by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from specmoe.results import RunResult
from specmoe.sim.run import Scenario
from specmoe.validate.cells import Cell, Group
from specmoe.validate.device import Device, Work
from specmoe.validate.fidelity import CellFidelity, judge
from specmoe.validate.measured import measured_table
from specmoe.validate.replayer import Recording
from specmoe.validate.resimulate import Resimulation
from specmoe.validate.session import REPEATS, replays_of, runs_of
from specmoe.validate.steps import Steps, steps_of
from specmoe.validate.work import work_of

MakeDevice = Callable[[Scenario, int], Device]  # for a group's scenario and so many slots


class Measured(NamedTuple):
    """What replaying a cell gave: its steps in every repeat, and the run whose starts were taken too."""

    steps: Steps
    work: Work
    traced: Recording


def measure(
    cells: Sequence[Cell],
    simulation: Resimulation,
    make_device: MakeDevice,
    repeats: int = REPEATS,
    on_run: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Cell, Measured]]:
    """Replay cells, a group at a time: cells of one group share an arena and take turns."""
    for group, mine in by_group(cells):
        yield from _measure_group(group, mine, simulation, make_device, repeats, on_run)


def _measure_group(
    group: Group,
    cells: Sequence[Cell],
    simulation: Resimulation,
    make_device: MakeDevice,
    repeats: int,
    on_run: Callable[[], object],
) -> Iterator[tuple[Cell, Measured]]:
    """Cells of one group; its device, and so its slots, are gone when another group's is made."""
    scenario = simulation.scenario(group)
    works = [_work(scenario, cell) for cell in cells]
    device = make_device(scenario, max(work.table.slots for work in works))  # of `gpu-only`, whatever its cell says
    for cell, work, replays in zip(cells, works, replays_of(works, device, repeats, on_run), strict=True):
        runs = [measured_result(simulation, cell, work, recording) for recording in replays.repeats]
        yield cell, Measured(steps_of(runs), work, replays.traced)


def measured_result(simulation: Resimulation, cell: Cell, work: Work, recording: Recording) -> RunResult:
    """A replay in the columns of a simulation of the same cell."""
    scenario = simulation.scenario(cell.group)
    copied = scenario.shape.expert_bytes(cell.group.home_format or cell.group.format)
    table = measured_table(scenario.routed.workload, work, recording, copied)
    return RunResult(table, simulation.run(cell).result.manifest)


def judged(measured: Iterable[tuple[Cell, Steps]], simulation: Resimulation) -> list[CellFidelity]:
    """The simulator beside what was measured; raises InputError if decisions differ."""
    return [judge(cell, steps_of([simulation.run(cell).result]), steps) for cell, steps in measured]


def by_group(cells: Sequence[Cell]) -> Iterator[tuple[Group, list[Cell]]]:
    """Cells by group, in their order."""
    ordered = sorted(cells, key=lambda cell: [other.group for other in cells].index(cell.group))
    for group, mine in groupby(ordered, key=lambda cell: cell.group):
        yield group, list(mine)


def number_of_runs(cells: Sequence[Cell], repeats: int = REPEATS) -> int:
    """How often `measure` calls `on_run`."""
    return runs_of(len(cells), repeats)


def _work(scenario: Scenario, cell: Cell) -> Work:
    chosen = scenario.policy(cell.policy)
    return work_of(scenario, chosen, scenario.decide(chosen, cell.slots))
