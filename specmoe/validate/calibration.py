"""A profile calibrated on the cells of a validation that may be fitted on, and judged on the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from specmoe.hwprofiles.costs import HostCosts
from specmoe.hwprofiles.calibration import Calibration
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.writing import write_profile
from specmoe.validate.calibrate import NAMES, Fitted, fit, host_values
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
    start: HostCosts
    fitted: Fitted
    cells: list[CellFidelity]

    def write(self, path: Path) -> None:
        """The profile as a TOML file."""
        write_profile(self.profile, path)

    def table(self) -> dict[str, dict[str, str]]:
        """Each constant before and after, in microseconds."""
        rows = zip(NAMES, self.start, self.fitted.host, self.fitted.standard_error, strict=True)
        return {
            name: {
                "measured us": f"{before / 1e3:.2f}",
                "calibrated us": f"{after / 1e3:.2f}",
                "+-": f"{error / 1e3:.2f}",
            }
            for name, before, after, error in rows
        }

    def summary(self) -> dict[str, Any]:
        """For programs."""
        constants = {"measured_ns": host_values(self.start), "calibrated_ns": self.fitted.values()}
        return {**constants, "warnings": self.fitted.warnings, **verdict(self.cells)}


def calibrated(
    replayed: Path, traces: Sequence[str], profile: HardwareProfile, on_fit: Callable[[], object] = lambda: None
) -> Calibrated:
    """Fit on the cells of role `fit`, of which alone the steps are read, then judge all; raises InputError."""
    by_phase = traces_by_phase(traces)
    simulation = Resimulation(by_phase, profile)
    fitted = _fitted(read_steps(replayed, "fit"), simulation, on_fit)
    fresh = profile.with_host(fitted.values(), f"calibrated: {fitted.ref}")
    steps = read_steps(replayed)  # only now: nothing is fitted any more
    cells = rejudged(steps, plan(tuple(steps), by_phase, fresh))
    start = simulation.scenario(next(iter(steps)).group).costs.host
    return Calibrated(marked(fresh, cells, fitted), start, fitted, cells)


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


def _fitted(measured: Mapping[Cell, Steps], simulation: Resimulation, on_fit: Callable[[], object]) -> Fitted:
    def predict(host: HostCosts) -> Mapping[Cell, Steps]:
        on_fit()
        return simulation.all_steps(measured, host)

    return fit(measured, predict, simulation.scenario(next(iter(measured)).group).costs.host)
