"""docs/cpu.md and the package's errors with experts on the CPU are made of the committed replays."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from doc_pages import builder_of

from specmoe.hwprofiles import load_profile
from specmoe.validate.calibration import calibrated
from specmoe.validate.fidelity import overall
from specmoe.validate.fit import CPU_NAMES, Resimulation, fit_cpu
from specmoe.validate.grid import Cell
from specmoe.validate.measured import Steps, steps_of
from specmoe.validate.store import read_steps, write_steps


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return builder_of("cpu")


def test_the_tables_are_those_of_the_replays(builder: ModuleType) -> None:
    text = builder.PAGE.read_text()
    for name, lines in builder.tables().items():
        assert f"<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- end {name} -->" in text


def test_the_package_has_the_same_errors(builder: ModuleType) -> None:
    assert json.loads(builder.ACCURACY.read_text())["rows"] == builder.accuracies()


def test_the_target_is_missed_as_the_page_says(builder: ModuleType) -> None:
    fitted, alone = (
        overall([one for grid in builder.GRIDS for one in builder.held_out(grid, constants)])
        for constants in ("own", "microbenchmarks")
    )
    assert 0.03 < fitted.median_abs_error < 0.6 * alone.median_abs_error
    assert 0.10 < fitted.worst_abs_error < 0.6 * alone.worst_abs_error
    assert fitted.kendall_tau == 1


def test_another_visit_fitted_nothing(builder: ModuleType) -> None:
    first = load_profile(str(builder.HOME / f"{builder.MACHINE}.toml"))
    for grid in builder.ANOTHER_VISIT:
        there = json.loads((builder.HOME / f"{builder.MACHINE}{grid}.json").read_text())
        assert (there["date"], there["profile_hash"]) == ("2026-11-29", first.hash)
    later = overall([one for grid in builder.ANOTHER_VISIT for one in builder.of_another_visit(grid)])
    assert 0.05 < later.median_abs_error < 0.1 and 0.2 < later.worst_abs_error < 0.3


def test_microbenchmarks_of_the_same_minutes_foretell_as_well_as_a_repeat_does(builder: ModuleType) -> None:
    before, between = overall(builder.awake("-before")), overall(builder.awake(""))
    by_its_host = overall([one.by_its_host for one in builder.awake("")])
    assert by_its_host.median_abs_error < 0.03 < between.median_abs_error < 0.6 * before.median_abs_error
    assert 0.10 < between.worst_abs_error < 0.15 < before.worst_abs_error
    assert between.kendall_tau == before.kendall_tau == 1
    assert between.median_abs_error < np.median(builder.repeats_apart())
    for when in ("-before", ""):
        profile = load_profile(str(builder.HOME / f"{builder.MACHINE}-3{when}.toml"))
        assert {profile.quantities[name].source for name in CPU_NAMES} == {"measured"}, "nothing fitted"
        for grid in builder.GRIDS:
            there = json.loads((builder.HOME / f"{builder.MACHINE}-3{when}{grid}.json").read_text())
            assert there["profile_hash"] == profile.hash


def test_replays_and_microbenchmarks_agree_where_threads_stay_awake(builder: ModuleType) -> None:
    longer = {
        state: [row["expert_us"] / row["microbenchmark_us"] for row in builder.tried(state)] for state in builder.STATES
    }
    assert abs(np.median(longer["awake, a core each"]) - 1) < 0.02 and max(longer["awake, a core each"]) < 1.15
    assert max(longer["asleep"]) > 1.7


def test_no_output_was_wrong(builder: ModuleType) -> None:
    rows = json.loads(builder.CHECKSUMS.read_text())
    assert not any(row["wrong"] or row["problem"] for row in rows)
    assert all(row["error"] < {"fp32": 1e-6, "bf16": 1e-2}[row["format"]] for row in rows)


TRACE = "switch-mini-128/decode/test"


@pytest.fixture(scope="module")
def replayed(builder: ModuleType) -> dict[Cell, Steps]:
    """The Switch at 4 threads, as if some of its cells had been set aside for a fit."""
    steps = read_steps(builder.HOME / f"{builder.MACHINE}-switch.steps.parquet")
    four = {cell: of for cell, of in steps.items() if cell.key.threads == 4}
    return {
        dataclasses.replace(cell, role="held_out" if "n-cpu" in cell.name else "fit"): of for cell, of in four.items()
    }


def test_costs_of_the_cpu_are_found_again(builder: ModuleType, replayed: dict[Cell, Steps]) -> None:
    profile = load_profile(str(builder.HOME / f"{builder.MACHINE}.measured.toml"))
    true = profile.with_calibrated(dict(zip(CPU_NAMES, (60_000, 150_000, 0.3), strict=True)), "made up")
    there = Resimulation({"decode": TRACE}, true)
    some = [cell for cell in replayed if any(name in cell.name for name in ("cpu-experts", "lru-cpu", "on-demand"))]
    steps = {cell: steps_of([there.run(cell).result]) for cell in some}
    found = fit_cpu(steps, Resimulation({"decode": TRACE}, profile))
    assert found["cpu.start"] + found["cpu.join"] == pytest.approx(210_000, rel=0.02)  # one comes after the other
    assert found["cpu.slowed_by_copy"] == pytest.approx(0.3, rel=0.05)
    copying = {cell: of for cell, of in steps.items() if "on-demand" in cell.name}
    assert fit_cpu(copying, Resimulation({"decode": TRACE}, profile)) == {}


def test_a_calibration_fits_them_too(builder: ModuleType, replayed: dict[Cell, Steps], tmp_path: Path) -> None:
    two = {cell: of for cell, of in replayed.items() if "n-cpu-moe" in cell.name or "lru-cpu" in cell.name}
    write_steps(tmp_path / "two.steps.parquet", two)
    alone = load_profile(str(builder.HOME / f"{builder.MACHINE}.measured.toml"))
    made = calibrated(tmp_path / "two.steps.parquet", [TRACE], alone)
    assert all(made.profile.quantities[name].source == "derived" for name in CPU_NAMES)
    (held_out,) = [abs(one.error) for one in made.cells if one.cell.held_out]
    assert held_out < 0.1  # 0.146 by microbenchmarks alone
