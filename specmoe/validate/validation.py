"""Replaying cells that share an arena: every cell once to warm up, then all of them in turn, then once more traced.

From a grid of cells to what was measured of them: decide, replay, and judge the simulator by it.

A whole validation: which cells can be had here, their replays, and how the simulator fares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import specmoe.traces
from specmoe.errors import InputError
from specmoe.hwprofiles.measure.host import quiet
from specmoe.hwprofiles.profile import Fact, HardwareProfile
from specmoe.hwprofiles.quantity import EVIDENCE
from specmoe.hwprofiles.shape import Phase
from specmoe.results import RunResult
from specmoe.sim.run import Scenario
from specmoe.validate.device import Device, Work
from specmoe.validate.emulate import LINK, NOT_EMULATED, emulated, fitting
from specmoe.validate.fidelity import judge, require_quiet
from specmoe.validate.fit import Resimulation
from specmoe.validate.grid import Cell, Group
from specmoe.validate.measured import Steps, measured_table, steps_of
from specmoe.validate.replayer import Recording, replay
from specmoe.validate.work import work_of
from specmoe.validation_table import CellFidelity, Circumstances

REPEATS = 3


class Replays(NamedTuple):
    """Runs of one work."""

    repeats: list[Recording]
    traced: Recording


def replays_of(
    works: Sequence[Work], device: Device, repeats: int = REPEATS, on_run: Callable[[], object] = lambda: None
) -> list[Replays]:
    """Replay each work `repeats` times, interleaved, so that a slow change of the machine is no cell's own."""

    def once(work: Work, traced: bool = False) -> Recording:
        device.prepare(work)
        with quiet():
            recording = replay(work, device, traced)
        on_run()
        return recording

    for work in works:
        once(work)
    rounds = [[once(work) for work in works] for _ in range(repeats)]
    traced = [once(work, traced=True) for work in works]
    return [Replays(list(runs), last) for *runs, last in zip(*rounds, traced, strict=True)]


def runs_of(works: int, repeats: int = REPEATS) -> int:
    """How many runs `replays_of` makes of so many works."""
    return works * (repeats + 2)


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
    copied = scenario.copied_bytes
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


class Machine(NamedTuple):
    """Where replays run: how to make a device for a group's scenario and slots, facts about it, and its room."""

    make_device: MakeDevice
    facts: Mapping[str, Fact]
    most_slots: Callable[[Scenario], int] = lambda scenario: scenario.num_keys


@dataclass(frozen=True)
class Plan:
    """What is to be replayed, and what must be said of the result."""

    cells: tuple[Cell, ...]
    simulation: Resimulation
    profile: HardwareProfile
    notes: tuple[str, ...] = ()


class Validation(NamedTuple):
    """The simulator beside the device."""

    cells: list[CellFidelity]
    measured: dict[Cell, Measured]


def traces_by_phase(names: Sequence[str]) -> dict[Phase, str]:
    """Traces by their phase; raises InputError if two have the same."""
    found: dict[Phase, str] = {}
    for name in names:
        phase = specmoe.traces.open(name).meta.phase
        if phase in found:
            raise InputError(f"{name}: {found[phase]} is a trace of {phase} too: one trace of each phase expected")
        found[phase] = name
    return found


def plan(cells: Sequence[Cell], traces: Mapping[Phase, str], profile: HardwareProfile) -> Plan:
    """Cells whose phase has a trace; raises InputError if there is none."""
    known = tuple(cell for cell in cells if cell.group.phase in traces)
    if not known:
        raise InputError(f"no cell of the grid has phase {' or '.join(traces)}: another trace or grid expected")
    left = len(cells) - len(known)
    notes = (f"{left} cells of the grid left out: no trace of their phase",) if left else ()
    return Plan(known, Resimulation(traces, profile), profile, notes)


def emulating(
    cells: Sequence[Cell], traces: Mapping[Phase, str], mine: HardwareProfile, other: HardwareProfile
) -> Plan:
    """The same with another machine's link, and no more slots than fit into its VRAM."""
    profile = emulated(mine, other)
    whole = plan(cells, traces, profile)
    known = tuple(fitting(whole.cells, whole.simulation, other))
    if not known:
        raise InputError(f"no cell of the grid fits into the VRAM of {other.name}")
    left = len(whole.cells) - len(known)
    notes = [*whole.notes, f"emulated: {LINK} and VRAM of {other.name}; {NOT_EMULATED}"]
    notes += [f"{left} cells left out: their slots do not fit into its VRAM"] if left else []
    return dataclasses.replace(whole, cells=known, notes=tuple(notes))


def with_room(planned: Plan, machine: Machine) -> Plan:
    """The cells whose slots a machine has room for, so that none is met in the middle; InputError if there is none."""
    known = tuple(cell for cell in planned.cells if _has_room(cell, planned.simulation.scenario(cell.group), machine))
    if not known:
        raise InputError("no cell of the grid has slots that this device's VRAM holds: another grid expected")
    left = len(planned.cells) - len(known)
    notes = (f"{left} cells left out: this device's VRAM does not hold their slots",) if left else ()
    return dataclasses.replace(planned, cells=known, notes=planned.notes + notes)


def _has_room(cell: Cell, scenario: Scenario, machine: Machine) -> bool:
    stays = scenario.policy(cell.policy).sharing == "all-resident"
    return (scenario.num_keys if stays else cell.slots) <= machine.most_slots(scenario)


def require_same_device(profile: HardwareProfile, facts: Mapping[str, Fact], force: bool) -> tuple[str, ...]:
    """Raise InputError if a profile is not of this device, or, with `force`, a note that says so."""
    there, here = profile.machine.get("device"), facts.get("device")
    if there == here and there is not None:
        return ()
    of = f"was measured on {there}" if there else "does not say which device it was measured on"
    if not force:
        raise InputError(f"profile {profile.name} {of}, and this is {here}: measure it, or --force the comparison")
    return (f"forced: profile {profile.name} {of}, and this is {here}",)


def validate(plan: Plan, machine: Machine, repeats: int, on_run: Callable[[], object] = lambda: None) -> Validation:
    """Replay and judge; raises InputError if the device is too busy to tell."""
    measured = dict(measure(plan.cells, plan.simulation, machine.make_device, repeats, on_run))
    cells = judged(((cell, found.steps) for cell, found in measured.items()), plan.simulation)
    require_quiet(cells)
    return Validation(cells, measured)


def rejudged(measured: Mapping[Cell, Steps], plan: Plan) -> list[CellFidelity]:
    """Judge another profile by replays of former days."""
    return judged(((cell, measured[cell]) for cell in plan.cells), plan.simulation)


def circumstances(
    plan: Plan, name: str, device: Mapping[str, Fact], seconds: float, date: str, versions: Mapping[str, str]
) -> Circumstances:
    """What the result depends on."""
    manifests = [plan.simulation.run(cell).result.manifest for cell in plan.cells]
    return Circumstances(
        name=name,
        device=dict(device),
        profile=plan.profile.name,
        profile_hash=plan.profile.hash,
        evidence=max((manifest.evidence for manifest in manifests), key=[*map(str, EVIDENCE)].index),
        traces={manifest.trace: manifest.hashes["trace"] for manifest in manifests},
        versions=dict(versions),
        date=date,
        seconds=round(seconds, 1),
        notes=plan.notes,
    )
