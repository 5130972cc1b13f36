"""How a CUDA device is held up until the host has queued everything, and kept busy beside; on a clock by hand."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from specmoe.hwprofiles.measure import cuda
from specmoe.hwprofiles.measure.bench import Beside
from specmoe.hwprofiles.measure.cuda import CALL_NS, MAX_TRIES, CudaBench


class Queue:
    """A device whose every launch takes it `device_ns`, and the host `host_ns`."""

    def __init__(self, host_ns: int, device_ns: float) -> None:
        self.host_ns, self.device_ns = host_ns, device_ns
        self.held: list[int] = []
        self.host = self.launched = self.busy = 0

    def bench(self) -> CudaBench:
        bench = object.__new__(CudaBench)
        stream = SimpleNamespace(wait_event=lambda _: None)
        bench._copy = bench._compute = stream  # type: ignore[assignment]
        bench._past, bench._copied = None, SimpleNamespace(record=lambda _: None)  # type: ignore[assignment]
        bench._start = SimpleNamespace(record=self.begin, query=self.begun, elapsed_time=self.elapsed)  # type: ignore[assignment]
        bench._end = SimpleNamespace(record=lambda _: None, synchronize=lambda: None)  # type: ignore[assignment]
        bench.wait = lambda: None  # type: ignore[method-assign]
        bench.launch = lambda launch: launch()  # type: ignore[method-assign]
        return bench

    def hold(self, ns: int) -> None:
        self.held.append(ns)

    def begin(self, _: object) -> None:
        self.host = self.launched = 0

    def begun(self) -> bool:
        return self.host > self.held[-1]

    def launch(self) -> None:
        self.host += self.host_ns
        self.launched += 1

    def elapsed(self, _: object) -> float:
        return self.launched * self.device_ns / 1e6

    def work(self) -> None:
        self.busy += 1


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    found = Queue(CALL_NS // 2, 3000.0)
    monkeypatch.setattr(cuda, "_hold", found.hold)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    return found


def test_the_device_waits_for_the_whole_queue(queue: Queue) -> None:
    assert queue.bench().queued_ns(queue.launch, 10) == pytest.approx(3000)
    assert queue.held == [10 * CALL_NS]


def test_a_slow_host_makes_it_wait_longer(queue: Queue) -> None:
    queue.host_ns = 3 * CALL_NS
    assert queue.bench().queued_ns(queue.launch, 10) == pytest.approx(3000)
    assert queue.held == [10 * CALL_NS, 20 * CALL_NS, 40 * CALL_NS]


def test_it_does_not_wait_for_ever(queue: Queue) -> None:
    queue.host_ns = 1000 * CALL_NS
    queue.bench().queued_ns(queue.launch, 10)
    assert len(queue.held) == MAX_TRIES


def test_copies_that_block_are_not_waited_for(queue: Queue) -> None:
    queue.host_ns = 1000 * CALL_NS
    assert queue.bench().copied_ns(queue.launch, 10, ahead=False) == pytest.approx(3000)
    assert queue.held == []


def test_work_beside_copies_lasts_longer_than_they_do(queue: Queue) -> None:
    beside = Beside(queue.work, 1000.0)
    queue.bench().copied_ns(queue.launch, 10, beside=beside)
    waited = 10 * CALL_NS // 1000
    assert queue.busy == (waited + 1) + (waited + 2 * 10 * 3 + 1)  # once to see how long copies take, then so long
    assert len(queue.held) == 2
