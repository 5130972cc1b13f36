"""A validation: choose the cells that this device can replay, replay them, and judge the simulator by the replays.

Cells of one group share an arena. Each is replayed once to warm up, then all in turn for every repeat, then once more
traced.

Another machine's slower link is emulated on this one: copies are lengthened until they take as long as there. The time
to copy one expert from pinned host memory and the VRAM for slots are emulated. Everything else is that of this machine:
kernels, memory bandwidth, host thread, and delays of the copy engine.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import specmoe.traces
from specmoe.errors import InputError
from specmoe.hwprofiles.curves import Curve, Fact
from specmoe.hwprofiles.measure.host import quiet
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import EVIDENCE
from specmoe.hwprofiles.shape import Phase
from specmoe.results import RunResult
from specmoe.sim.budget import Room
from specmoe.sim.config import ASSUMED_RESERVE
from specmoe.sim.run import Scenario
from specmoe.validate.fidelity import judge, require_quiet
from specmoe.validate.fit import Resimulation
from specmoe.validate.grid import Cell, Group
from specmoe.validate.measured import Steps, host_state, measured_table, steps_of
from specmoe.validate.replayer import Device, Recording, Work, replay, work_of
from specmoe.validation_table import CellFidelity, Circumstances

LINK = "host_to_device.pinned"
MAX_COPY_BYTES = 1 << 40
NOT_EMULATED = "kernels, memory bandwidth and host costs are this machine's"


def emulated(profile: HardwareProfile, other: HardwareProfile) -> HardwareProfile:
    """Profile of this machine with the pinned link and VRAM of another."""
    mine = {name: value for name, value in profile.quantities.items() if not name.startswith(f"{LINK}.")}
    theirs = {name: value for name, value in other.quantities.items() if name.startswith(f"{LINK}.")}
    points = {name: value for name, value in profile.points.items() if not name.startswith(f"{LINK}.")}
    points |= {name: value for name, value in other.points.items() if name.startswith(f"{LINK}.")}
    quantities = {**mine, **theirs, "device.vram": other.quantities["device.vram"]}
    name = f"{other.name}-on-{profile.name}"
    title = f"{profile.title}, with the link and VRAM of {other.title}"
    return dataclasses.replace(profile, name=name, title=title, quantities=quantities, points=points)


def stretch(profile: HardwareProfile, other: HardwareProfile, expert_bytes: int) -> float:
    """Factor by which an expert's copy must be larger here to take as long as on the other machine.

    Raises InputError if the other link is the faster one, or so slow that a copy of `MAX_COPY_BYTES` here is faster.
    """
    mine, wanted = profile.curve(LINK), other.curve(LINK)(expert_bytes)
    if mine(expert_bytes) > wanted:
        raise InputError(f"{other.name}'s link is faster than {profile.name}'s: it cannot be emulated here")
    if mine(MAX_COPY_BYTES) < wanted:
        raise InputError(
            f"{other.name}'s link cannot be emulated here: an expert's copy takes {wanted / 1e9:.3g} s there"
        )
    return _amount(mine, wanted, expert_bytes) / expert_bytes


def fitting(cells: Sequence[Cell], simulation: Resimulation, other: HardwareProfile) -> list[Cell]:
    """Cells whose slots and dense weights fit into the other machine's VRAM."""
    return [cell for cell in cells if _fits(cell, simulation.scenario(cell.group), int(other["device.vram"]))]


def _fits(cell: Cell, scenario: Scenario, vram: int) -> bool:
    return Room(scenario.shape, scenario.format, scenario.config.home).with_slots(cell.slots) <= vram - ASSUMED_RESERVE


def _amount(curve: Curve, wanted_ns: int, least: int) -> int:
    """Smallest amount from `least` to `MAX_COPY_BYTES` whose copy takes at least `wanted_ns`."""
    most = MAX_COPY_BYTES
    while least < most:
        middle = (least + most) // 2
        least, most = (middle + 1, most) if curve(middle) < wanted_ns else (least, middle)
    return least


REPEATS = 3


class Replays(NamedTuple):
    """Replays of one work: the repeats, and a traced run."""

    repeats: list[Recording]
    traced: Recording


def replays_of(
    works: Sequence[Work], device: Device, repeats: int = REPEATS, on_run: Callable[[], object] = lambda: None
) -> list[Replays]:
    """Replay each work `repeats` times, interleaved, so that slow changes of the machine affect all cells alike."""

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
    """Number of runs that `replays_of` makes for `works` works."""
    return works * (repeats + 2)


MakeDevice = Callable[[Scenario, int], Device]  # from a group's scenario and the number of slots


class Measured(NamedTuple):
    """Replays of a cell: its steps in every repeat, and its traced run."""

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
    """Replay cells group by group; cells of one group share an arena and alternate."""
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
    """Replay cells of one group; its device and slots are released before those of the next group are made."""
    scenario = simulation.scenario(group)
    works = [_work(scenario, cell) for cell in cells]
    device = make_device(
        scenario, max(work.table.slots for work in works)
    )  # that of `gpu-only` ignores the cell's slots
    for cell, work, replays in zip(cells, works, replays_of(works, device, repeats, on_run), strict=True):
        runs = [measured_result(simulation, cell, work, recording) for recording in replays.repeats]
        steps = steps_of(runs)._replace(host=host_state(work, replays.repeats))
        yield cell, Measured(steps, work, replays.traced)


def measured_result(simulation: Resimulation, cell: Cell, work: Work, recording: Recording) -> RunResult:
    """Replay as a result with the columns and manifest of the simulation of the same cell."""
    scenario = simulation.scenario(cell.group)
    copied = scenario.copied_bytes
    table = measured_table(scenario.routed.workload, work, recording, copied)
    return RunResult(table, simulation.run(cell).result.manifest)


def judged(measured: Iterable[tuple[Cell, Steps]], simulation: Resimulation) -> list[CellFidelity]:
    """Judge the simulation of each measured cell; raises InputError if decisions differ."""
    return [_judged(cell, steps, simulation) for cell, steps in measured]


def _judged(cell: Cell, steps: Steps, simulation: Resimulation) -> CellFidelity:
    """Judgement with the profile's costs of the host, and if the replay knows them, with those that it saw."""
    found = judge(cell, steps_of([simulation.run(cell).result]), steps)
    if steps.host is None:
        return found
    seen = judge(cell, simulation.steps(cell, simulation.constants(cell.group).seen(steps.host)), steps)
    return dataclasses.replace(found, host=steps.host, with_host=seen.simulated)


def by_group(cells: Sequence[Cell]) -> Iterator[tuple[Group, list[Cell]]]:
    """Cells by group, in their order."""
    ordered = sorted(cells, key=lambda cell: [other.group for other in cells].index(cell.group))
    for group, mine in groupby(ordered, key=lambda cell: cell.group):
        yield group, list(mine)


def number_of_runs(cells: Sequence[Cell], repeats: int = REPEATS) -> int:
    """Number of times that `measure` calls `on_run`."""
    return runs_of(len(cells), repeats)


def _work(scenario: Scenario, cell: Cell) -> Work:
    chosen = scenario.policy(cell.policy)
    return work_of(scenario, chosen, scenario.decide(chosen, cell.slots))


class Machine(NamedTuple):
    """Machine for replays: a maker of devices, facts about it, and the most slots that it holds for a scenario."""

    make_device: MakeDevice
    facts: Mapping[str, Fact]
    most_slots: Callable[[Scenario], int] = lambda scenario: scenario.num_keys


@dataclass(frozen=True)
class Plan:
    """Cells to replay, and notes for the result."""

    cells: tuple[Cell, ...]
    simulation: Resimulation
    profile: HardwareProfile
    notes: tuple[str, ...] = ()


class Validation(NamedTuple):
    """Errors and replays of all cells."""

    cells: list[CellFidelity]
    measured: dict[Cell, Measured]


def traces_by_phase(names: Sequence[str]) -> dict[Phase, str]:
    """Traces by phase; raises InputError if two have the same phase."""
    traces: dict[Phase, str] = {}
    for name in names:
        phase = specmoe.traces.open(name).meta.phase
        if phase in traces:
            raise InputError(f"{name}: {traces[phase]} is a trace of {phase} too: one trace of each phase expected")
        traces[phase] = name
    return traces


def plan(cells: Sequence[Cell], traces: Mapping[Phase, str], profile: HardwareProfile) -> Plan:
    """Plan with the cells whose phase has a trace; raises InputError if there is none."""
    kept_cells = tuple(cell for cell in cells if cell.group.phase in traces)
    if not kept_cells:
        raise InputError(f"no cell of the grid has phase {' or '.join(traces)}: another trace or grid expected")
    left = len(cells) - len(kept_cells)
    notes = (f"{left} cells of the grid left out: no trace of their phase",) if left else ()
    return Plan(kept_cells, Resimulation(traces, profile), profile, notes)


def emulating(
    cells: Sequence[Cell], traces: Mapping[Phase, str], mine: HardwareProfile, other: HardwareProfile
) -> Plan:
    """Plan that emulates another machine's link, with the cells whose slots fit into its VRAM."""
    profile = emulated(mine, other)
    whole = plan(cells, traces, profile)
    kept_cells = tuple(fitting(whole.cells, whole.simulation, other))
    if not kept_cells:
        raise InputError(f"no cell of the grid fits into the VRAM of {other.name}")
    left = len(whole.cells) - len(kept_cells)
    notes = [*whole.notes, f"emulated: {LINK} and VRAM of {other.name}; {NOT_EMULATED}"]
    notes += [f"{left} cells left out: their slots do not fit into its VRAM"] if left else []
    return dataclasses.replace(whole, cells=kept_cells, notes=tuple(notes))


def with_room(planned: Plan, machine: Machine) -> Plan:
    """Plan with the cells whose slots fit into a machine's VRAM; raises InputError if there is none."""
    kept_cells = tuple(
        cell for cell in planned.cells if _has_room(cell, planned.simulation.scenario(cell.group), machine)
    )
    if not kept_cells:
        raise InputError("no cell of the grid has slots that this device's VRAM holds: another grid expected")
    left = len(planned.cells) - len(kept_cells)
    notes = (f"{left} cells left out: this device's VRAM does not hold their slots",) if left else ()
    return dataclasses.replace(planned, cells=kept_cells, notes=planned.notes + notes)


def _has_room(cell: Cell, scenario: Scenario, machine: Machine) -> bool:
    stays = scenario.policy(cell.policy).sharing == "all-resident"
    return (scenario.num_keys if stays else cell.slots) <= machine.most_slots(scenario)


def require_same_device(profile: HardwareProfile, facts: Mapping[str, Fact], force: bool) -> tuple[str, ...]:
    """Raise InputError if a profile is of another device or library of products; with `force`, return a note instead.

    A profile that does not say its library is taken to have this one's.
    """
    there, here = profile.machine.get("device"), facts.get("device")
    library, ours = profile.machine.get("blas"), facts.get("blas")
    if there != here or there is None:
        of = f"was measured on {there}" if there else "does not say which device it was measured on"
        what = f"profile {profile.name} {of}, and this is {here}"
    elif library and ours and library != ours:
        what = f"profile {profile.name} was measured with {library}, and torch prefers {ours} here"
    else:
        return ()
    if not force:
        raise InputError(f"{what}: measure it, or --force the comparison")
    return (f"forced: {what}",)


def validate(plan: Plan, machine: Machine, repeats: int, on_run: Callable[[], object] = lambda: None) -> Validation:
    """Replay and judge all cells of a plan; raises InputError if the device is too busy."""
    measured = dict(measure(plan.cells, plan.simulation, machine.make_device, repeats, on_run))
    cells = judged(((cell, found.steps) for cell, found in measured.items()), plan.simulation)
    require_quiet(cells)
    return Validation(cells, measured)


def rejudged(measured: Mapping[Cell, Steps], plan: Plan) -> list[CellFidelity]:
    """Judge the profile of a plan by stored replays."""
    return judged(((cell, measured[cell]) for cell in plan.cells), plan.simulation)


def circumstances(
    plan: Plan, name: str, device: Mapping[str, Fact], seconds: float, date: str, versions: Mapping[str, str]
) -> Circumstances:
    """Circumstances of a validation, which its result depends on."""
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
