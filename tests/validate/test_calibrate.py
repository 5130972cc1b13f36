"""Constants fitted on noisy runs of a device whose constants are known, judged on cells that the fit never saw."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from calibrate_cases import B1, FIT, HELD_OUT, ISOLATED, TRUE, cells, mean_errors, measured, simulated

from specmoe.errors import InputError, MissingExtraError
from specmoe.hwprofiles.catalogue import load_profile
from specmoe.hwprofiles.costs import HostCosts
from specmoe.hwprofiles.quantity import CONTENTION
from specmoe.validate import fit as calibrate
from specmoe.validate.calibration import typical_host
from specmoe.validate.fit import MILLION, NAMES, Constants, Fitted, fit
from specmoe.validate.grid import Cell
from specmoe.validate.measured import Steps
from specmoe.validate.store import read_steps, write_steps
from specmoe.validation_table import HostState


def predicting(some: Iterable[Cell]) -> Callable[[Constants], dict[Cell, Steps]]:
    return lambda constants: simulated(some, constants)


def everything(constants: Constants) -> list[int]:
    """In the order of `NAMES`."""
    return [*constants.host, *constants[1:]]


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit(measured(FIT, spread=0.02), predicting(FIT), ISOLATED)


def worst(errors: dict[str, float]) -> float:
    return max(map(abs, errors.values()))


def test_held_out_cells_come_out_within_half_a_percent(fitted: Fitted) -> None:
    real = measured(HELD_OUT, spread=0.02, seed=1)
    assert worst(mean_errors(HELD_OUT, ISOLATED, real)) > 0.1  # microbenchmarks alone
    assert worst(mean_errors(HELD_OUT, fitted.constants, real)) < 0.005


def test_steps_come_out_and_not_only_their_mean(fitted: Fitted) -> None:
    """Against the device's medians, which noise of its parts moves little."""
    real, said = measured(HELD_OUT, spread=0.0), simulated(HELD_OUT, fitted.constants)
    for cell in HELD_OUT:
        errors = said[cell].typical / real[cell].typical - 1
        assert np.abs(errors).mean() < 0.005, cell.name


def test_without_noise_only_the_pull_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weaker pull, so that what these cells tell apart comes out as it is."""
    monkeypatch.setattr(calibrate, "PULL", 1e-3)
    real, held_out = measured(FIT, spread=0.0, repeats=1), measured(HELD_OUT, spread=0.0, repeats=1)
    found = fit(real, predicting(FIT), ISOLATED)
    assert max(map(abs, found.mean_errors)) < 0.0005
    assert worst(mean_errors(HELD_OUT, found.constants, held_out)) < 0.0005
    host = found.constants.host
    assert host.issue_ns == pytest.approx(TRUE.host.issue_ns, rel=0.02)
    assert host.launch_dense_ns == pytest.approx(TRUE.host.launch_dense_ns, rel=0.02)
    assert found.constants.contention == pytest.approx(TRUE.contention, abs=200)


def test_what_was_right_stays() -> None:
    found = fit(measured(FIT, spread=0.0, repeats=1), predicting(FIT), TRUE)
    assert found.constants == TRUE
    assert found.mean_errors == (0.0,) * len(FIT)


def test_constants_are_never_below_zero() -> None:
    """Measured faster than is possible even with free calls."""
    real = {cell: steps._replace(latency=steps.latency // 2) for cell, steps in measured(FIT, spread=0.0).items()}
    found = fit(real, predicting(FIT), ISOLATED)
    assert min(everything(found.constants)) >= 0
    assert sum(found.constants.host) < sum(ISOLATED.host) / 2
    assert found.constants.contention < MILLION


def test_what_shows_in_no_cell_stays_and_is_named() -> None:
    resident = [cell for cell in FIT if cell.policy == "gpu-only"]
    found = fit(measured(resident, spread=0.0, repeats=1), predicting(resident), ISOLATED)
    before, after = (dict(zip(NAMES, everything(constants), strict=True)) for constants in (ISOLATED, found.constants))
    for name in ("issue", "event", "begin_copy", "contention", "interference"):
        assert after[name] == before[name]
        assert f"{name}: affects no cell: unchanged" in found.warnings
    assert found.condition == np.inf


def test_how_much_longer_copies_take_is_found(fitted: Fitted) -> None:
    """Out of queues of copies and of single ones; formats that nothing was fitted on then come out too."""
    error = fitted.standard_error.contention
    assert 0 < error < 2000
    assert abs(fitted.constants.contention - TRUE.contention) < 3 * error
    real = measured(HELD_OUT, spread=0.0, repeats=1)
    without = mean_errors(HELD_OUT, fitted.constants._replace(contention=MILLION), real)
    assert worst(without) > 3 * worst(mean_errors(HELD_OUT, fitted.constants, real))


def test_copies_that_slow_nothing_are_found_to(fitted: Fitted) -> None:
    """The fake device's kernels know nothing of copies."""
    assert fitted.constants.interference < 5000


def test_how_much_copies_slow_kernels_is_found() -> None:
    """Simulated runs stand in for a device on which they do."""
    true, few = TRUE._replace(interference=60_000), [FIT[0], FIT[1], FIT[3], FIT[-1]]
    found = fit(simulated(few, true), predicting(few), ISOLATED)
    assert found.constants.interference == pytest.approx(60_000, abs=6000)
    real = simulated(HELD_OUT, true)
    without = mean_errors(HELD_OUT, found.constants._replace(interference=0), real)
    assert worst(without) > 3 * worst(mean_errors(HELD_OUT, found.constants, real))


def test_what_cannot_be_told_apart_is_named(fitted: Fitted) -> None:
    """A hand-over and the begin of a copy both lengthen every demand load."""
    alike = [
        warning
        for warning in fitted.warnings
        if warning.startswith("event, begin_copy: these cells hardly separate them")
    ]
    assert alike
    assert fitted.condition > 1000


def test_what_a_layer_of_hits_costs_is_told_though_its_parts_are_not(fitted: Fitted) -> None:
    parts = ("sync", "bookkeeping", "launch", "begin")
    chosen = np.array([name in parts for name in NAMES], float)
    error = np.sqrt(chosen @ fitted.covariance @ chosen)
    assert error < min(getattr(fitted.standard_error.host, f"{name}_ns") for name in parts) / 2
    found, true = (np.array(everything(constants)) for constants in (fitted.constants, TRUE))
    assert abs(chosen @ (found - true)) < max(4 * error, 500)


def test_more_noise_less_certainty(fitted: Fitted) -> None:
    noisier = fit(measured(FIT, spread=0.2), predicting(FIT), ISOLATED)
    assert noisier.standard_error.host.issue_ns > 2 * fitted.standard_error.host.issue_ns > 0


def test_errors_are_of_cells_that_weigh_alike() -> None:
    """Two that contradict each other: one with as many steps as the other has, ten times over, pulls no more."""
    one, other = cells(B1, "fit", gpu_only=96, on_demand=24)[:1], cells(B1, "fit", gpu_only=95)
    steps = measured(one, spread=0.0, repeats=1)[one[0]]
    slow, fast = _scaled(steps, 1.05), _scaled(steps, 0.95)
    said = {one[0]: steps, other[0]: steps}
    long = Steps(*(np.tile(column, 10) for column in slow[:3]), slow.decisions)

    def predict(constants: Constants) -> dict[Cell, Steps]:
        factor = constants.host.launch_ns / 10_000
        return {
            one[0]: _scaled(Steps(*(np.tile(c, 10) for c in steps[:3]), steps.decisions), factor),
            other[0]: _scaled(said[other[0]], factor),
        }

    found = fit({one[0]: long, other[0]: fast}, predict, Constants(HostCosts(10_000, 0, 0, 0, 0, 0)))
    assert abs(found.mean_errors[0] + found.mean_errors[1]) < 0.006
    assert found.constants.host.launch_ns == pytest.approx(10_000, rel=0.01)


def _scaled(steps: Steps, factor: float) -> Steps:
    columns = ((column * factor).round().astype(np.int64) for column in steps[:3])
    return Steps(*columns, steps.decisions)


def test_held_out_rows_are_never_read(tmp_path: Path) -> None:
    """What is held out may be anything: the same constants come out."""
    few = [FIT[0], FIT[2]]
    real = measured([*few, *HELD_OUT], spread=0.02)
    poison = {cell: _scaled(steps, 1 if cell.role == "fit" else 1e-6) for cell, steps in real.items()}
    found = []
    for name, steps in (("real", real), ("poison", poison)):
        write_steps(tmp_path / name, steps)
        found.append(fit(read_steps(tmp_path / name, "fit"), predicting(few), ISOLATED))
    assert found[0].constants == found[1].constants
    assert found[0].cells == tuple(cell.name for cell in few)


def test_held_out_cells_are_refused() -> None:
    some = [*FIT[:2], HELD_OUT[0]]
    with pytest.raises(InputError, match="tiny/decode/fp16/b1/on-demand-lru/48: held out: cells to fit on expected"):
        fit(measured(some, spread=0.0, repeats=1), predicting(some), ISOLATED)


def test_no_cells_are_refused() -> None:
    with pytest.raises(InputError, match="no cells to fit on"):
        fit({}, predicting([]), ISOLATED)


def test_other_decisions_are_refused() -> None:
    real = {cell: steps._replace(decisions="others") for cell, steps in measured(FIT[:1], 0.0).items()}
    with pytest.raises(InputError, match="gpu-only/96: simulated and measured decisions differ"):
        fit(real, predicting(FIT[:1]), ISOLATED)


def test_scipy_is_asked_for_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r"scipy is not installed: pip install -e '.\[calibrate\]'"):
        fit(measured(FIT[:1], 0.0), predicting(FIT[:1]), ISOLATED)


def test_values_are_what_a_profile_takes(fitted: Fitted) -> None:
    profile = load_profile("rtx3090").with_calibrated(fitted.constants.values(), fitted.ref)
    assert [profile.ns(f"host.graph.{name}") for name in NAMES[: len(TRUE.host)]] == [*fitted.constants.host]
    assert profile.contention == fitted.constants.contention / MILLION
    assert profile.interference == fitted.constants.interference / MILLION
    for name in ("host.graph.issue", CONTENTION):
        assert f"{len(FIT)} replayed cells" in profile.quantities[name].ref
        assert profile.quantities[name].source == "derived"
    assert TRUE.values("eager")["host.eager.launch_dense"] == 14_000
    assert TRUE.values()[CONTENTION] == 1.02


def test_a_fit_is_a_frozen_value(fitted: Fitted) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        fitted.constants = TRUE  # type: ignore[misc]


def test_the_calls_that_replays_saw_are_the_constants_of_the_fit() -> None:
    seen = [HostState(1000, 300, 0), HostState(3000, 500, 40), HostState(2000, 0, 0)]
    times = np.zeros((2, 1), np.int64)
    steps = [Steps(times, times, times, "same", state) for state in seen]
    assert typical_host(steps) == HostState(2000, 400, 40)
    assert typical_host([Steps(times, times, times, "same")]) is None
    start = Constants(HostCosts(*range(1, 9)))
    host = start.seen(typical_host(steps)).host
    assert (host.launch_dense_ns, host.launch_ns, host.issue_ns) == (2000, 400, 40)
    assert host._replace(launch_dense_ns=2, launch_ns=1, issue_ns=3) == start.host
    assert start.seen(None) == start
