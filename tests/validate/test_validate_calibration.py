"""A profile calibrated on a machine whose constants are known: judged, marked, written, and believed accordingly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_machine import TRACES, fake_machine, grid_file, machine_profile

from specmoe.errors import InputError
from specmoe.hwprofiles.costs import HostCosts
from specmoe.hwprofiles.profile_file import read_profile, write_profile
from specmoe.hwprofiles.quantity import CONTENTION, INTERFERENCE
from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.validate.calibration import Calibrated, calibrated
from specmoe.validate.fidelity import failed, overall
from specmoe.validate.fit import MILLION, NAMES, Constants
from specmoe.validate.grid import Cell, grid
from specmoe.validate.measured import Steps
from specmoe.validate.store import read_steps, write_steps
from specmoe.validate.validation import plan, validate

PROFILE = machine_profile()
START = Constants(HostCosts(10_000, 10_000, 40_000, 5_000, 25_000, 20_000, 2_500))
TRUE = Constants(HostCosts(12_000, 13_000, 45_000, 6_000, 30_000, 28_000, 2_000, 5_000), 1_030_000)
NAMED = list(TRACES.values())


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps of a machine whose calls and copies take longer than microbenchmarks say."""
    home = tmp_path_factory.mktemp("replayed")
    planned = plan(grid(str(grid_file(home))), TRACES, PROFILE)
    found = validate(planned, fake_machine(constants=TRUE), repeats=2)
    write_steps(home / "fake.steps.parquet", {cell: measured.steps for cell, measured in found.measured.items()})
    assert overall(found.cells).median_abs_error > 0.02  # without calibration
    return home / "fake.steps.parquet"


@pytest.fixture(scope="module")
def found(replayed: Path) -> Calibrated:
    return calibrated(replayed, NAMED, PROFILE)


def changed(replayed: Path, path: Path, how: dict[str, float], keep: str | None = None) -> Path:
    """The same with times of one role so many times as long; only the cells of one role, if told."""
    steps = {cell: _longer(of, how.get(cell.role, 1)) for cell, of in read_steps(replayed).items()}
    write_steps(path, {cell: of for cell, of in steps.items() if keep in (None, cell.role)})
    return path


def _longer(steps: Steps, factor: float) -> Steps:
    return Steps(*((times * factor).round().astype(np.int64) for times in steps[:3]), steps.decisions, steps.host)


def test_the_start_is_the_profiles_with_the_calls_that_replays_saw(found: Calibrated) -> None:
    calls = {name: getattr(TRUE.host, name) for name in ("launch_ns", "launch_dense_ns", "issue_ns")}
    assert found.start == START._replace(host=START.host._replace(**calls))


def test_held_out_cells_come_out(found: Calibrated, replayed: Path) -> None:
    assert [cell.cell for cell in found.cells] == [cell.key for cell in read_steps(replayed)]
    held_out = overall([cell for cell in found.cells if cell.cell.role == "held_out"])
    assert held_out.worst_abs_error < 0.005
    assert failed(held_out) == ()
    assert found.fitted.constants.contention == pytest.approx(TRUE.contention, abs=3000)


def test_the_fit_is_made_of_the_cells_that_it_may_read(found: Calibrated, replayed: Path) -> None:
    assert found.fitted.cells == tuple(cell.name for cell in read_steps(replayed, "fit"))
    assert len(found.fitted.cells) == 4


def test_the_profile_holds_what_was_found(found: Calibrated) -> None:
    fitted = found.fitted.constants
    told = {name: value for name, value in fitted.values().items() if value or name != INTERFERENCE}
    for name, value in told.items():
        quantity = found.profile.quantities[name]
        assert (quantity.value, quantity.source) == (value, "derived"), name
        assert quantity.ref == f"calibrated: {found.fitted.ref}"
    others = {*PROFILE.quantities} - {*told}
    assert all(found.profile.quantities[name] == PROFILE.quantities[name] for name in others)
    assert found.profile.points == PROFILE.points
    assert found.profile.hash != PROFILE.hash


def test_the_profile_is_marked_as_met(found: Calibrated) -> None:
    mark = found.profile.calibration
    assert mark is not None and mark.met and mark.shortfall is None
    held_out = overall([cell for cell in found.cells if cell.cell.role == "held_out"])
    assert (mark.cells, mark.fit_cells) == (7, 4)
    assert (mark.median_abs_error, mark.worst_abs_error) == (held_out.median_abs_error, held_out.worst_abs_error)
    assert mark.ref == found.fitted.ref


def test_a_written_profile_is_the_same(found: Calibrated, tmp_path: Path) -> None:
    found.write(tmp_path / "mine.toml")
    again = read_profile(tmp_path / "mine.toml")
    assert again == found.profile
    assert again.hash == found.profile.hash
    scenario = Scenario(RunConfig(NAMED[0], profile=again, format="fp16", slots=40, steps=2, padded=True))
    assert not [line for line in scenario.run("on-demand-lru").result.manifest.warnings if "calibration" in line]


def test_an_interference_of_0_is_left_out(tmp_path: Path) -> None:
    """A profile's file takes no share of 0, and one that was there is no more."""
    slowed = PROFILE.with_calibrated(TRUE._replace(interference=50_000).values(), "x")
    assert slowed.interference == 0.05
    again = slowed.with_calibrated(TRUE.values(), "x")
    assert again.interference == 0 and INTERFERENCE not in again
    write_profile(again, tmp_path / "again.toml")
    assert read_profile(tmp_path / "again.toml") == again


def test_a_missed_target_marks_every_result(replayed: Path, tmp_path: Path) -> None:
    """Held-out cells that no constant explains: calibrated all the same, and marked."""
    poisoned = changed(replayed, tmp_path / "p.steps.parquet", {"held_out": 1.1})
    missed = calibrated(poisoned, NAMED, PROFILE)
    mark = missed.profile.calibration
    assert mark is not None and not mark.met
    assert mark.worst_abs_error == pytest.approx(1 - 1 / 1.1, abs=0.005)
    missed.write(tmp_path / "missed.toml")
    scenario = Scenario(RunConfig(NAMED[0], profile=str(tmp_path / "missed.toml"), format="fp16", slots=40, steps=2))
    (line,) = [line for line in scenario.run("on-demand-lru").result.manifest.warnings if "calibration" in line]
    worst = f"worst held-out error {100 * mark.worst_abs_error:.1f} %, at most 4 % expected"
    assert line == f"fake: its calibration missed its target: {worst}"
    assert scenario.run("gpu-only").result.manifest.warnings[-1] == line


def test_held_out_cells_change_no_constant(found: Calibrated, replayed: Path, tmp_path: Path) -> None:
    poisoned = changed(replayed, tmp_path / "p.steps.parquet", {"held_out": 0.5})
    assert calibrated(poisoned, NAMED, PROFILE).fitted.constants == found.fitted.constants


def test_cells_to_fit_on_do(found: Calibrated, replayed: Path, tmp_path: Path) -> None:
    slower = changed(replayed, tmp_path / "p.steps.parquet", {"fit": 1.05})
    assert calibrated(slower, NAMED, PROFILE).fitted.constants != found.fitted.constants


def test_every_simulation_of_the_fit_is_told(replayed: Path, tmp_path: Path) -> None:
    told: list[int] = []
    few = {cell: steps for cell, steps in read_steps(replayed).items() if cell.config.home.format == "int8"}
    write_steps(tmp_path / "few.steps.parquet", few)
    calibrated(tmp_path / "few.steps.parquet", NAMED, PROFILE, lambda: told.append(1))
    assert len(told) > len(NAMES)


def test_no_cells_to_fit_on(replayed: Path, tmp_path: Path) -> None:
    none = changed(replayed, tmp_path / "h.steps.parquet", {}, keep="held_out")
    with pytest.raises(
        InputError, match="no cells to fit on: replays of a grid with some under `fit` expected"
    ) as error:
        calibrated(none, NAMED, PROFILE)
    assert "\n" not in str(error.value)


def test_no_cells_to_judge_by(replayed: Path, tmp_path: Path) -> None:
    """A calibration that nothing shows to be right is none."""
    only = changed(replayed, tmp_path / "f.steps.parquet", {}, keep="fit")
    with pytest.raises(InputError, match="no cells: there is nothing to judge"):
        calibrated(only, NAMED, PROFILE)


def test_a_trace_that_the_fit_needs_is_missing(replayed: Path) -> None:
    with pytest.raises(InputError, match="no trace of phase decode: one of encode expected"):
        calibrated(replayed, [TRACES["encode"]], PROFILE)


def test_for_people_and_for_programs(found: Calibrated) -> None:
    table, summary = found.table(), found.summary()
    assert list(table) == list(NAMES)
    assert table["issue"]["measured"] == "45.00" and table["contention"]["measured"] == "1000.00"
    assert float(table["issue"]["calibrated"]) == pytest.approx(found.fitted.constants.host.issue_ns / 1000, abs=0.01)
    assert float(table["contention"]["+-"]) >= 0
    assert summary["measured"]["host.graph.issue"] == 45_000 and summary["measured"][CONTENTION] == 1
    assert summary["calibrated"][CONTENTION] == found.fitted.constants.contention / MILLION
    assert summary["held_out"]["cells"] == 7 and summary["failed"] == []


def test_cells_are_judged_with_the_calibrated_profile(found: Calibrated, replayed: Path) -> None:
    cells: tuple[Cell, ...] = tuple(read_steps(replayed))
    again = plan(cells, TRACES, found.profile).simulation.run(cells[0]).result
    assert again.table["end_ns"][-1] / cells[0].config.steps == pytest.approx(found.cells[0].simulated.mean_ns)
