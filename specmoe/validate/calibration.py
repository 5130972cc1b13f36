"""Calibration of a profile on the `fit` cells of a validation, judged on the others; and transfer to other machines."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.profile import Calibration, HardwareProfile
from specmoe.hwprofiles.profile_file import write_profile
from specmoe.hwprofiles.quantity import CONTENTION, HOST_COSTS, INTERFERENCE, OPTIONAL_HOST_COSTS
from specmoe.validate.fidelity import failed, overall
from specmoe.validate.fit import NAMES, Constants, Fitted, Resimulation, fit, fit_cpu
from specmoe.validate.grid import Cell
from specmoe.validate.measured import Steps
from specmoe.validate.store import read_steps, verdict
from specmoe.validate.validation import plan, rejudged, traces_by_phase
from specmoe.validation_table import CellFidelity, HostState


class Calibrated(NamedTuple):
    """A calibrated profile, the fit behind it, and the errors of all cells."""

    profile: HardwareProfile
    start: Constants
    fitted: Fitted
    cells: list[CellFidelity]
    notes: tuple[str, ...]

    def write(self, path: Path) -> None:
        """Write the profile as a TOML file."""
        write_profile(self.profile, path)

    def table(self) -> dict[str, dict[str, str]]:
        """Table of each constant before and after: times in us, shares in thousandths."""
        columns = {"measured": self.start, "calibrated": self.fitted.constants, "+-": self.fitted.standard_error}
        flat = {title: constants.flat for title, constants in columns.items()}
        return {name: {title: f"{row[at]:.2f}" for title, row in flat.items()} for at, name in enumerate(NAMES)}

    def summary(self) -> dict[str, Any]:
        """Summary as JSON values."""
        constants = {"measured": self.start.values(), "calibrated": self.fitted.constants.values()}
        return {**constants, "warnings": self.fitted.warnings, "notes": self.notes, **verdict(self.cells)}


def calibrated(
    replayed: Path, traces: Sequence[str], profile: HardwareProfile, on_fit: Callable[[], object] = lambda: None
) -> Calibrated:
    """Fit on the cells of role `fit`, reading only their steps, then judge all cells.

    Raises InputError if there is no cell to fit on, and for replays of other decisions.
    """
    by_phase = traces_by_phase(traces)
    simulation = Resimulation(by_phase, profile)
    to_fit = read_steps(replayed, "fit")
    if not to_fit:
        raise InputError(f"{replayed}: no cells to fit on: replays of a grid with some under `fit` expected")
    cpu = fit_cpu(to_fit, simulation)
    if cpu:
        profile = with_cpu(profile, cpu, len(to_fit))
        simulation = Resimulation(by_phase, profile)
    start = simulation.constants(next(iter(to_fit)).group).seen(typical_host(to_fit.values()))
    fitted = _fitted(to_fit, simulation, start, on_fit)
    fresh = profile.with_calibrated(fitted.constants.values(), f"calibrated: {fitted.ref}")
    steps = read_steps(replayed)  # read only after the fit
    new_plan = plan(tuple(steps), by_phase, fresh)
    cells = rejudged(steps, new_plan)
    return Calibrated(marked(fresh, cells, fitted), start, fitted, cells, new_plan.notes)


def with_cpu(profile: HardwareProfile, values: Mapping[str, float], cells: int) -> HardwareProfile:
    """Copy of the profile with costs of experts on the CPU that were fitted on some cells."""
    return profile.with_calibrated(values, f"calibrated: least squares over {cells} replayed cells")


def typical_host(steps: Iterable[Steps]) -> HostState | None:
    """Medians of the calls of the host that replays saw; None if none says so."""
    seen = [each.host for each in steps if each.host]
    if not seen:
        return None
    calls = ([ns for ns in call if ns] for call in zip(*seen, strict=True))
    return HostState(*(round(median(some)) if some else 0 for some in calls))


def marked(profile: HardwareProfile, cells: Sequence[CellFidelity], fitted: Fitted) -> HardwareProfile:
    """Copy of the profile with its errors on held-out cells as its calibration."""
    held_out = overall([cell for cell in cells if cell.cell.role == "held_out"])
    calibration = Calibration(
        median_abs_error=held_out.median_abs_error,
        worst_abs_error=held_out.worst_abs_error,
        cells=held_out.cells,
        fit_cells=len(fitted.cells),
        met=not failed(held_out),
        ref=fitted.ref,
    )
    return dataclasses.replace(profile, calibration=calibration)


def _fitted(
    measured: Mapping[Cell, Steps], simulation: Resimulation, start: Constants, on_fit: Callable[[], object]
) -> Fitted:
    def predict(constants: Constants) -> Mapping[Cell, Steps]:
        on_fit()
        return simulation.all_steps(measured, constants)

    return fit(measured, predict, start)


def carried(
    calibrated: HardwareProfile, measured: HardwareProfile, other: HardwareProfile, host_set: str = "graph"
) -> dict[str, float]:
    """Transfer a calibration to another machine; returns values by dotted name.

    Each value is the other machine's microbenchmark times the ratio calibrated / measured of the first machine, or the
    calibrated value itself if a microbenchmark is missing or 0. `calibrated` and `measured` are the first machine's
    profile after and before calibration; costs that it lacks are not transferred.
    """
    costs = [f"host.{host_set}.{cost}" for cost in (*HOST_COSTS, *OPTIONAL_HOST_COSTS)]
    costs_by_name: dict[str, float] = {
        name: _carried(name, calibrated, measured, other) for name in costs if name in calibrated
    }
    shares = {name: calibrated[name] for name in (CONTENTION, INTERFERENCE) if name in calibrated}
    return costs_by_name | shares


def _carried(name: str, calibrated: HardwareProfile, measured: HardwareProfile, other: HardwareProfile) -> int:
    before, there = (profile.ns(name) if name in profile else 0 for profile in (measured, other))
    return round(there * calibrated.ns(name) / before) if before and there else calibrated.ns(name)
