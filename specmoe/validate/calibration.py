"""A profile calibrated on the cells of a validation that may be fitted on, and judged on the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.calibration import Calibration
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.writing import write_profile
from specmoe.validate.calibrate import NAMES, Constants, Fitted, fit
from specmoe.validate.cells import Cell
from specmoe.validate.evidence import verdict
from specmoe.validate.fidelity import CellFidelity
from specmoe.validate.overall import failed, overall
from specmoe.validate.resimulate import Resimulation
from specmoe.validate.step_store import read_steps
from specmoe.validate.steps import Steps
from specmoe.validate.validation import plan, rejudged, traces_by_phase


class Calibrated(NamedTuple):
    """The calibrated profile, what was fitted, and how all cells come out."""

    profile: HardwareProfile
    start: Constants
    fitted: Fitted
    cells: list[CellFidelity]
    notes: tuple[str, ...]

    def write(self, path: Path) -> None:
        """The profile as a TOML file."""
        write_profile(self.profile, path)

    def table(self) -> dict[str, dict[str, str]]:
        """Each constant before and after: us, and thousandths of the shares."""
        columns = {"measured": self.start, "calibrated": self.fitted.constants, "+-": self.fitted.standard_error}
        flat = {title: constants.flat for title, constants in columns.items()}
        return {name: {title: f"{row[at]:.2f}" for title, row in flat.items()} for at, name in enumerate(NAMES)}

    def summary(self) -> dict[str, Any]:
        """For programs."""
        constants = {"measured": self.start.values(), "calibrated": self.fitted.constants.values()}
        return {**constants, "warnings": self.fitted.warnings, "notes": self.notes, **verdict(self.cells)}


def calibrated(
    replayed: Path, traces: Sequence[str], profile: HardwareProfile, on_fit: Callable[[], object] = lambda: None
) -> Calibrated:
    """Fit on the cells of role `fit`, of which alone the steps are read, then judge all; raises InputError."""
    by_phase = traces_by_phase(traces)
    simulation = Resimulation(by_phase, profile)
    to_fit = read_steps(replayed, "fit")
    if not to_fit:
        raise InputError(f"{replayed}: no cells to fit on: replays of a grid with some under `fit` expected")
    start = simulation.constants(next(iter(to_fit)).group)
    fitted = _fitted(to_fit, simulation, start, on_fit)
    fresh = profile.with_calibrated(fitted.constants.values(), f"calibrated: {fitted.ref}")
    steps = read_steps(replayed)  # only now: nothing is fitted any more
    planned = plan(tuple(steps), by_phase, fresh)
    cells = rejudged(steps, planned)
    return Calibrated(marked(fresh, cells, fitted), start, fitted, cells, planned.notes)


def marked(profile: HardwareProfile, cells: Sequence[CellFidelity], fitted: Fitted) -> HardwareProfile:
    """The profile with what held-out cells say of it."""
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
