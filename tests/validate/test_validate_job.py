"""A whole validation on a machine that takes as long as the simulator says: whatever else comes out is a defect."""

from __future__ import annotations

import dataclasses
import weakref
from pathlib import Path

import numpy as np
import pytest
from fake_device import FakeDevice
from fake_machine import NAME, TRACES, fake_machine, grid_file, machine_profile, prices, unsteady_machine

import specmoe.traces
from specmoe.errors import InputError
from specmoe.files import hash_of_bytes
from specmoe.hwprofiles.catalogue import load_profile
from specmoe.results import DECISIONS
from specmoe.sim.run import Scenario
from specmoe.validate.fidelity import failed, overall
from specmoe.validate.grid import Cell, grid
from specmoe.validate.replayer import Work, replay
from specmoe.validate.store import load, read_steps, save, verdict
from specmoe.validate.validation import (
    Plan,
    Validation,
    by_group,
    circumstances,
    judged,
    measure,
    measured_result,
    number_of_runs,
    plan,
    rejudged,
    require_same_device,
    traces_by_phase,
    validate,
    with_room,
)
from specmoe.validation_table import PARTS

PROFILE = machine_profile()


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, ...]:
    return grid(str(grid_file(tmp_path_factory.mktemp("grid"))))


@pytest.fixture(scope="module")
def planned(cells: tuple[Cell, ...]) -> Plan:
    return plan(cells, TRACES, PROFILE)


@pytest.fixture(scope="module")
def exactly(planned: Plan) -> Validation:
    return validate(planned, fake_machine(), repeats=2)


# Without noise


def test_the_grid_has_what_a_replay_may_meet(planned: Plan, exactly: Validation) -> None:
    """Waves, expansion, a host that predicts, prefetches, both phases: else the next test shows little."""
    works = {cell: found.work for cell, found in exactly.measured.items()}
    assert {cell.group.phase for cell in works} == {"encode", "decode"}
    assert max(work.table.uses.wave.max() for work in works.values()) > 0
    assert any(any(work.expands) for work in works.values())
    assert any(any(work.predict) for work in works.values())
    assert any(work.table.prefetch_loads for work in works.values())
    assert {dense.routers for work in works.values() for dense in work.dense} == {1, 2}


def test_errors_are_exactly_none(planned: Plan, exactly: Validation) -> None:
    assert [cell.cell for cell in exactly.cells] == [cell.key for cell in planned.cells]
    for cell in exactly.cells:
        assert (cell.error, cell.p50_error, cell.p95_error, cell.spread, cell.noise_ns) == (0, 0, 0, 0, 0), cell.cell
        assert cell.step_correlation in (None, pytest.approx(1)), cell.cell  # None where all steps are alike
        assert cell.repeats == 2
        assert sum(map(cell.part_error, PARTS)) == pytest.approx(0, abs=1e-12)


def test_all_targets_are_met(exactly: Validation) -> None:
    found = overall([cell for cell in exactly.cells if cell.cell.role == "held_out"])
    assert found.kendall_tau == 1
    assert failed(found) == ()


def test_decisions_are_the_simulators(planned: Plan, exactly: Validation) -> None:
    for cell, found in exactly.measured.items():
        replayed = measured_result(planned.simulation, cell, found.work, found.traced)
        simulated = planned.simulation.run(cell).result
        for name in (*DECISIONS, "bytes_loaded", "bytes_wasted", "late_hits"):
            assert np.array_equal(replayed.table[name], simulated.table[name]), (cell.name, name)
        assert replayed.manifest == simulated.manifest


def test_the_traced_run_has_starts(exactly: Validation) -> None:
    assert all((found.traced.device.use_start >= 0).all() for found in exactly.measured.values())


# On disk


def test_evidence_is_saved_and_judged_again(planned: Plan, exactly: Validation, tmp_path: Path) -> None:
    told = circumstances(planned, "fake", {"device": NAME}, 1.23, "2026-01-02", {"specmoe": "0"})
    steps = {cell: found.steps for cell, found in exactly.measured.items()}
    saved = load(save(tmp_path, told, exactly.cells, steps)[0])
    assert saved.circumstances == told
    assert list(saved.cells) == exactly.cells
    stored = read_steps(saved.steps)
    assert list(stored) == list(planned.cells)
    fresh = plan(tuple(stored), TRACES, PROFILE)
    assert rejudged(stored, fresh) == exactly.cells
    assert verdict(saved.cells)["failed"] == []


def test_another_profile_is_judged_by_the_same_replays(planned: Plan, exactly: Validation) -> None:
    steps = {cell: found.steps for cell, found in exactly.measured.items()}
    slow = plan(planned.cells, TRACES, machine_profile(sync=500_000))
    errors = [cell.error for cell in rejudged(steps, slow)]
    assert min(errors) > 0 and max(errors) > 0.5  # least where copies are waited for anyway


def test_replays_of_other_decisions_are_not_judged(planned: Plan, exactly: Validation) -> None:
    one, *_ = planned.cells
    steps = exactly.measured[one].steps._replace(decisions="others")
    with pytest.raises(InputError, match=f"{one.name}: simulated and measured decisions differ"):
        judged([(one, steps)], planned.simulation)


def test_circumstances(planned: Plan) -> None:
    told = circumstances(
        dataclasses.replace(planned, notes=("a note",)), "x", {"device": NAME}, 1.26, "today", {"a": "1"}
    )
    assert (told.profile, told.profile_hash, told.seconds) == ("fake", PROFILE.hash, 1.3)
    assert (told.notes, told.versions, told.device) == (("a note",), {"a": "1"}, {"device": NAME})
    paths = {name: specmoe.traces.open(name).path for name in TRACES.values()}
    assert told.traces == {name: hash_of_bytes(path.read_bytes()) for name, path in paths.items()}
    assert told.evidence == planned.simulation.run(planned.cells[0]).result.manifest.evidence


# Machines that differ


def test_a_slower_machine_gives_its_error(planned: Plan) -> None:
    slower = validate(planned, fake_machine(lambda ns: round(1.03 * ns)), repeats=2)
    for cell in slower.cells:
        assert cell.error == pytest.approx(1 / 1.03 - 1, abs=2e-4), cell.cell
        assert cell.p50_error == pytest.approx(1 / 1.03 - 1, abs=2e-4)
    assert "median error of the mean step 2.91 %" in failed(overall(slower.cells))[0]


def test_a_busy_machine_is_refused(planned: Plan) -> None:
    short = dataclasses.replace(planned, cells=planned.cells[:2])
    with pytest.raises(InputError, match=r"the device is busy: repeated runs differ by .*: at most 10 % expected"):
        validate(short, unsteady_machine(1, 1, 1, 1.3, 1.3), repeats=3)


def test_what_is_a_little_unsteady_is_not_refused(planned: Plan) -> None:
    short = dataclasses.replace(planned, cells=planned.cells[:1])
    found = validate(short, unsteady_machine(1, 1.01, 0.99, 1), repeats=3)
    assert found.cells[0].spread == pytest.approx(0.02, abs=1e-3)
    assert abs(found.cells[0].error) < 1e-3  # the median of the means


def test_a_device_that_issues_at_another_time_is_found_out(planned: Plan) -> None:
    """Decisions are counted from what was executed."""
    cell = next(cell for cell in planned.cells if cell.policy == "on-demand")
    found = next(measure([cell], planned.simulation, fake_machine().make_device, repeats=1))[1]
    late = found.traced._replace(order=np.minimum(found.traced.order + 1, found.traced.order.max()))
    table = measured_result(planned.simulation, cell, found.work, late).table
    assert not np.array_equal(table["demand_loads"], planned.simulation.run(cell).result.table["demand_loads"])


# Groups and devices


def test_runs_are_told_one_by_one(planned: Plan) -> None:
    told: list[int] = []
    short = dataclasses.replace(planned, cells=planned.cells[:2])
    validate(short, fake_machine(), 2, lambda: told.append(1))
    assert len(told) == number_of_runs(short.cells, 2) == 8


def test_cells_of_a_group_come_together_in_the_order_of_groups(cells: tuple[Cell, ...]) -> None:
    mixed = [cells[0], cells[-1], cells[1], cells[-2]]
    assert [mine for _, mine in by_group(mixed)] == [[cells[0], cells[1]], [cells[-1]], [cells[-2]]]


def test_one_device_for_a_group_and_never_two_at_once(planned: Plan) -> None:
    """Two would need both their slots at once."""
    made: list[weakref.ref[FakeDevice]] = []
    slots: list[int] = []

    def make(scenario: Scenario, number: int) -> FakeDevice:
        assert not [one for one in made if one() is not None]
        device = FakeDevice(prices(scenario))
        made.append(weakref.ref(device))
        slots.append(number)
        return device

    few = [planned.cells[1], *planned.cells[-2:]]
    assert [cell for cell, _ in measure(few, planned.simulation, make, 1)] == few
    assert slots == [40, 40, 16]


def test_the_arena_holds_all_experts_of_a_model_that_stays(planned: Plan) -> None:
    """Whatever its cell says."""
    slots: list[int] = []
    cell = planned.cells[0].group.cell("gpu-only", 40, planned.cells[0].role)

    def make(scenario: Scenario, number: int) -> FakeDevice:
        slots.append(number)
        return FakeDevice(prices(scenario))

    found = dict(measure([cell], planned.simulation, make, 2))
    assert slots == [768] and found[cell].work.table.uses.slot.max() >= 40


# What is planned


def test_cells_without_a_trace_of_their_phase_are_left_out(cells: tuple[Cell, ...]) -> None:
    one = plan(cells, {"decode": TRACES["decode"]}, PROFILE)
    assert one.cells == cells[:-1]
    assert one.notes == ("1 cells of the grid left out: no trace of their phase",)
    assert plan(cells, TRACES, PROFILE).notes == ()


def test_cells_that_the_device_does_not_hold_are_left_out_before_the_first_run(planned: Plan) -> None:
    most = sorted({cell.slots for cell in planned.cells})[0]
    small = fake_machine()._replace(most_slots=lambda scenario: most)
    left = with_room(planned, small)
    assert {cell.slots for cell in left.cells} == {most} and "gpu-only" not in {cell.policy for cell in left.cells}
    number = len(planned.cells) - len(left.cells)
    assert left.notes == (*planned.notes, f"{number} cells left out: this device's VRAM does not hold their slots")
    assert with_room(planned, fake_machine()) == planned


def test_a_model_that_stays_needs_room_for_all_its_experts(planned: Plan) -> None:
    cell = planned.cells[0].group.cell("gpu-only", 1, planned.cells[0].role)
    with pytest.raises(InputError, match="no cell of the grid has slots that this device's VRAM holds"):
        with_room(dataclasses.replace(planned, cells=(cell,)), fake_machine()._replace(most_slots=lambda _: 767))


def test_no_cell_has_a_trace(cells: tuple[Cell, ...]) -> None:
    with pytest.raises(InputError, match="no cell of the grid has phase encode: another trace or grid expected"):
        plan(cells[:2], {"encode": TRACES["encode"]}, PROFILE)


def test_traces_by_phase() -> None:
    assert traces_by_phase(list(TRACES.values())) == TRACES
    train = "switch-mini-128/decode/train"
    with pytest.raises(InputError, match=f"{train}: {TRACES['decode']} is a trace of decode too: one trace of each"):
        traces_by_phase([TRACES["decode"], train])
    with pytest.raises(InputError, match="no-such-trace"):
        traces_by_phase(["no-such-trace"])


def test_the_same_device() -> None:
    assert require_same_device(PROFILE, {"device": NAME}, force=False) == ()
    assert require_same_device(PROFILE, {"device": NAME}, force=True) == ()


@pytest.mark.parametrize(
    ("machine", "facts", "words"),
    [
        ({"device": "another"}, {"device": NAME}, f"profile fake was measured on another, and this is {NAME}"),
        ({}, {"device": NAME}, f"profile fake does not say which device it was measured on, and this is {NAME}"),
        ({}, {}, "profile fake does not say which device it was measured on, and this is None"),
    ],
)
def test_another_device_is_refused_or_marked(machine: dict[str, str], facts: dict[str, str], words: str) -> None:
    profile = dataclasses.replace(PROFILE, machine=machine)
    with pytest.raises(InputError, match=f"{words}: measure it, or --force"):
        require_same_device(profile, facts, force=False)
    assert require_same_device(profile, facts, force=True) == (f"forced: {words}",)


def test_shipped_profiles_that_nobody_measured_here_are_of_another_device() -> None:
    with pytest.raises(InputError, match="rtx3090 does not say which device"):
        require_same_device(load_profile("rtx3090"), {"device": NAME}, force=False)


def test_products_of_another_library_are_another_machine() -> None:
    lt = dataclasses.replace(PROFILE, machine={**PROFILE.machine, "blas": "cublaslt"})
    assert require_same_device(lt, {"device": NAME}, force=False) == ()  # an older torch does not say
    assert require_same_device(lt, {"device": NAME, "blas": "cublaslt"}, force=False) == ()
    with pytest.raises(InputError, match="was measured with cublaslt, and torch prefers cublas here: measure it"):
        require_same_device(lt, {"device": NAME, "blas": "cublas"}, force=False)


def test_a_work_can_be_replayed_again(planned: Plan, exactly: Validation) -> None:
    """Nothing of a run is left in its work."""
    cell, found = next(iter(exactly.measured.items()))
    device = FakeDevice(prices(planned.simulation.scenario(cell.group)))
    device.prepare(found.work)
    work: Work = found.work
    first, second = replay(work, device), replay(work, device)
    assert first.step_end.tolist() == second.step_end.tolist()
