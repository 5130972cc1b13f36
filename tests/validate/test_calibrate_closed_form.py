"""What is made least, on cells so simple that the answer can be worked out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from specmoe.hwprofiles.costs import HostCosts
from specmoe.validate.fit import MILLION, NAMES, Constants, Fitted, fit
from specmoe.validate.grid import Cell, group_of
from specmoe.validate.measured import Steps

START = HostCosts(10_000, 0, 30_000, 0, 0, 0)
Latencies = Callable[[HostCosts], Sequence[float]]
Longer = Callable[[float], Sequence[float]]


def cell(slots: int) -> Cell:
    return group_of("tiny", "decode", "fp16", None, 1, 3).cell("gpu-only", slots, "fit")


def steps(*repeats: Sequence[float]) -> Steps:
    latency = np.array(repeats).round().astype(np.int64)
    return Steps(latency, latency, latency, "decisions")


def fitted(simulated: Latencies, *measured: Steps) -> Fitted:
    """All cells are simulated alike."""
    real = {cell(number): found for number, found in enumerate(measured, 1)}
    return fit(real, lambda it: {known: steps(simulated(it.host)) for known in real}, Constants(START))


def shared(share: str, simulated: Longer, measured: Steps) -> Fitted:
    """One cell, in which only the contention or the interference shows."""
    real = {cell(1): measured}
    return fit(real, lambda it: {cell(1): steps(simulated(getattr(it, share) / MILLION))}, Constants(START))


def hundred_launches(host: HostCosts) -> Sequence[float]:
    return [100 * host.launch_ns] * 3


def test_one_constant_out_of_one_cell() -> None:
    found = fitted(hundred_launches, steps([1_200_000] * 3))
    assert found.constants.host.launch_ns == pytest.approx(12_000, abs=2)
    assert found.constants.host._replace(launch_ns=10_000) == START
    assert found.constants.contention == MILLION
    assert found.mean_errors[0] == pytest.approx(0, abs=2e-4)


def test_means_weigh_as_stated() -> None:
    """Measured 1, 1, 10 ms, simulated x, x, 11 x: least of (2 (x - 1)^2 + (1.1 x - 1)^2) / 3 + 9 (13/12 x - 1)^2."""
    least = (2 / 3 + 1.1 / 3 + 9 * 13 / 12) / (2 / 3 + 1.1**2 / 3 + 9 * (13 / 12) ** 2)
    found = fitted(lambda host: [100 * host.launch_ns * share for share in (1, 1, 11)], steps([1e6, 1e6, 10e6]))
    assert found.constants.host.launch_ns == pytest.approx(10_000 * least, rel=1e-3)


def test_of_repeats_the_median_counts() -> None:
    found = fitted(hundred_launches, steps([5e6] * 3, [1e6] * 3, [1e6] * 3))
    assert found.constants.host.launch_ns == pytest.approx(10_000, abs=2)


def test_of_the_mean_it_is_that_of_typical_steps() -> None:
    """Every step is slow in another repeat, and every repeat's mean is 2 ms; a typical step is 1 ms."""
    found = fitted(hundred_launches, steps([4e6, 1e6, 1e6], [1e6, 4e6, 1e6], [1e6, 1e6, 4e6]))
    assert found.constants.host.launch_ns == pytest.approx(10_000, abs=2)
    assert found.mean_errors[0] == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_told_apart_is_shared_by_the_squares_of_sizes() -> None:
    found = fitted(lambda host: [1e6 + host.launch_ns + host.issue_ns] * 3, steps([1_060_000] * 3))
    extra = [getattr(found.constants.host, name) - getattr(START, name) for name in ("launch_ns", "issue_ns")]
    assert sum(extra) == pytest.approx(20_000, rel=0.05)
    assert extra[1] / extra[0] == pytest.approx(9, rel=0.05)
    assert found.warnings[-1].startswith("launch, issue: these cells hardly separate them")


def test_the_pull_is_as_weak_as_stated() -> None:
    """A cost that a cell hardly shows: least of 10 (u / 2000 - 1 / 200)^2 + (u / 1000)^2, u in microseconds."""
    found = fitted(lambda host: [1e9 + 500 * (host.launch_ns - 10_000)] * 3, steps([1.005e9] * 3))
    least = 10 / 2000 / 200 / (10 / 2000**2 + 1 / 1000**2)
    assert found.constants.host.launch_ns == pytest.approx(10_000 + 1000 * least, rel=0.01)


def test_a_cost_without_a_microbenchmark_is_free_to_grow() -> None:
    found = fitted(lambda host: [1e6 + 10 * host.bookkeeping_ns] * 3, steps([1_200_000] * 3))
    assert found.constants.host.bookkeeping_ns == pytest.approx(20_000, rel=0.01)


def test_a_contention_out_of_one_cell() -> None:
    """Half of a step is copies, which take a twentieth longer: all but for the pull, (0.01 u)^2 beside 10 (u / 2)^2."""
    found = shared("contention", lambda longer: [5e5 + 5e5 * longer] * 3, steps([1_025_000] * 3))
    assert found.constants.contention == pytest.approx(1_050_000, abs=50)
    assert found.constants.host == START
    assert found.mean_errors[0] == pytest.approx(0, abs=1e-4)


def test_copies_may_take_less_than_alone() -> None:
    found = shared("contention", lambda longer: [1e6 * longer] * 3, steps([950_000] * 3))
    assert found.constants.contention == pytest.approx(950_000, abs=50)


def test_the_pull_on_the_contention_is_as_weak_as_stated() -> None:
    """A contention that a cell hardly shows: least of 10 (u / 500 - 1 / 1000)^2 + (u / 100)^2."""
    found = shared("contention", lambda longer: [1e9 + 2e6 * (longer - 1)] * 3, steps([1.001e9] * 3))
    least = 10 / 500 / 1000 / (10 / 500**2 + 1 / 100**2)
    assert found.constants.contention == pytest.approx(MILLION * (1 + least), rel=0.002)


def test_an_interference_out_of_one_cell() -> None:
    """Half of a step is slowed by a tenth; no microbenchmark tells it, so it starts at 0."""
    found = shared("interference", lambda share: [1e6 + 5e5 * share] * 3, steps([1_050_000] * 3))
    assert found.constants.interference == pytest.approx(100_000, abs=200)
    assert found.constants._replace(interference=0) == Constants(START)


def test_the_pull_on_the_interference_is_that_on_a_share() -> None:
    """Of all of a time: least of 10 (u / 500 - 1 / 1000)^2 + (u / 100)^2."""
    found = shared("interference", lambda share: [1e9 + 2e6 * share] * 3, steps([1.001e9] * 3))
    least = 10 / 500 / 1000 / (10 / 500**2 + 1 / 100**2)
    assert found.constants.interference == pytest.approx(MILLION * least, rel=0.002)


def test_kernels_are_never_quicker_for_copies() -> None:
    found = shared("interference", lambda share: [1e6 * (1 + share)] * 3, steps([900_000] * 3))
    assert found.constants.interference == 0


def test_the_standard_error() -> None:
    """Three cells, 1 % apart: a slope of a tenth for each microsecond, in 10 weights of 3 cells; variance 2e-4."""
    found = fitted(hundred_launches, *(steps([share * 1e6] * 3) for share in (0.99, 1, 1.01)))
    assert found.standard_error.host.launch_ns == pytest.approx(1000 * np.sqrt(10 * 2e-4 / (3 * 10 * 0.1**2)), rel=0.02)
    assert found.covariance.shape == (len(NAMES), len(NAMES))
