"""Cells that share an arena take turns; and the host thread is left in peace meanwhile, and only then."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from fake_cases import costs_from, two_layers, work_from
from fake_device import FakeDevice

from specmoe.hwprofiles.measure.host import quiet
from specmoe.validate.replayer import DeviceTimes, Work, latencies
from specmoe.validate.validation import replays_of, runs_of

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()  # before anything could pin
needs_cores = pytest.mark.skipif(len(CORES) < 2, reason="this system has one core, or pins no threads")


class Slowing(FakeDevice):
    """Writes down its runs; everything in run n takes n times as long."""

    def __init__(self) -> None:
        super().__init__(lambda work: costs_from(two_layers()[1]))
        self.runs: list[tuple[Work, bool]] = []
        self.in_peace: list[bool] = []
        self.prepared = 0

    def prepare(self, work: Work) -> None:
        super().prepare(work)
        self.in_peace.append(not gc.isenabled())
        self.prepared += 1

    def begin(self, traced: bool) -> None:
        self.runs.append((self._work, traced))
        number = len(self.runs)
        self._vary = lambda ns: number * ns
        self.in_peace.append(not gc.isenabled())
        super().begin(traced)

    def end(self) -> DeviceTimes:
        self.in_peace.append(not gc.isenabled())
        return super().end()


def works(number: int) -> list[Work]:
    return [work_from(*two_layers()) for _ in range(number)]


def test_the_order_of_runs() -> None:
    device, (one, other) = Slowing(), works(2)
    replays_of([one, other], device, repeats=3)
    assert [work is one for work, _ in device.runs] == [True, False] * 5
    assert [traced for _, traced in device.runs] == [False] * 8 + [True] * 2
    assert device.prepared == 10


def test_which_runs_count() -> None:
    """Not the first; of a work, every other one; the traced one apart."""
    one, other = replays_of(works(2), Slowing(), repeats=3)
    first = int(latencies(replays_of(works(1), Slowing(), repeats=1)[0].repeats[0])[0]) // 2
    assert [int(latencies(run)[0]) // first for run in one.repeats] == [3, 5, 7]
    assert [int(latencies(run)[0]) // first for run in other.repeats] == [4, 6, 8]
    assert int(latencies(one.traced)[0]) // first == 9
    assert (one.repeats[0].device.use_start < 0).all() and (one.traced.device.use_start >= 0).all()


@pytest.mark.parametrize(("number", "repeats"), [(1, 2), (3, 3), (2, 7)])
def test_the_number_of_runs(number: int, repeats: int) -> None:
    told: list[int] = []
    device = Slowing()
    found = replays_of(works(number), device, repeats, lambda: told.append(len(device.runs)))
    assert told == [*range(1, runs_of(number, repeats) + 1)]  # after each run, not before
    assert [len(replays.repeats) for replays in found] == [repeats] * number


def test_only_running_is_quiet() -> None:
    """Preparing captures graphs and makes garbage."""
    device = Slowing()
    replays_of(works(1), device, repeats=1)
    assert device.in_peace == [False, True, True] * 3
    assert gc.isenabled()


@pytest.fixture
def cores() -> Iterator[set[int]]:
    os.sched_setaffinity(0, CORES)
    yield CORES
    os.sched_setaffinity(0, CORES)


@pytest.fixture
def thawed() -> Iterator[None]:
    """Nothing is frozen at first, as outside of these tests."""
    gc.unfreeze()
    yield
    gc.freeze()


@needs_cores
def test_one_core_while_it_is_quiet(cores: set[int], thawed: None) -> None:
    with quiet():
        assert os.sched_getaffinity(0) == {max(cores)}
        assert not gc.isenabled()
    assert os.sched_getaffinity(0) == cores
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@needs_cores
def test_all_is_as_it_was_after_an_error(cores: set[int], thawed: None) -> None:
    with pytest.raises(ZeroDivisionError), quiet():
        assert gc.get_freeze_count() > 0
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == cores
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_what_was_frozen_before_stays_frozen(thawed: None) -> None:
    gc.freeze()
    before = gc.get_freeze_count()
    with quiet():
        pass
    assert gc.get_freeze_count() >= before > 0


def test_a_system_that_pins_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    with quiet():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_run_that_fails_leaves_nothing_quiet() -> None:
    class Broken(Slowing):
        def launch(self, use: int) -> None:
            raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        replays_of(works(1), Broken())
    assert gc.isenabled()
