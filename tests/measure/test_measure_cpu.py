"""Measuring the CPU: by hand on a clock that is told, and for real on tiny experts."""

import threading
from dataclasses import replace
from itertools import cycle

import pytest
import torch
from host_bench import QUICK, HostBench, decoder_only

from specmoe.errors import InputError
from specmoe.hwprofiles import HardwareProfile
from specmoe.hwprofiles.cpu import CpuExperts
from specmoe.hwprofiles.kernels import Size
from specmoe.hwprofiles.launches import size_of
from specmoe.hwprofiles.measure import cpu, cpu_tasks
from specmoe.hwprofiles.measure.bench import WARM_UPS, Effort, Records, Sample
from specmoe.hwprofiles.measure.findings import Context, Findings
from specmoe.hwprofiles.shape import Experts

EFFORT = Effort(10_000, 3)
WIDE = replace(decoder_only(), d_model=64, experts=Experts(4, 2, 64, True))


class Clock(HostBench):
    """A bench whose clock goes on by what is done: a wait takes 1000 ns, a copy 40 ns."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0
        self.waits = self.issued = 0

    def now(self) -> int:
        return self.time

    def await_last(self) -> None:
        self.time += 1000
        self.waits += 1

    def issue(self, copy: object) -> None:
        self.issued += 1

    def takes(self, ns: int) -> None:
        self.time += ns


def measured() -> tuple[Context, list[str]]:
    skipped: list[str] = []
    context = Context(HostBench(), QUICK, Findings(Records("test", "2026-01-02")), skipped.append)
    cpu_tasks.memory_and_hand_over(context, WIDE)
    for held in cpu.FORMATS:
        cpu_tasks.experts(context, WIDE, held)
    cpu_tasks.beside_copies(context, WIDE)
    return context, skipped


def test_an_experts_time_is_the_mean_over_events_that_begin_behind_a_wait() -> None:
    bench, times = Clock(), cycle((50, 60, 100))
    with cpu.Worker(1) as worker:
        found = cpu.in_a_run(lambda: bench.takes(next(times)), 3, lambda: None, worker, bench, EFFORT)
    assert found == cpu.InARun(*(Sample((time,) * 3) for time in (1000, 70, 0, 1210)))
    assert found.rest(around=1000, experts=3) == found.expert
    assert bench.waits == 2 * (WARM_UPS + 3 * cpu.EVENTS), "the host's, and the worker's for the hidden state"


def test_experts_that_take_long_are_timed_in_one_event_a_sample() -> None:
    bench = Clock()
    with cpu.Worker(1) as worker:
        cpu.in_a_run(lambda: bench.takes(cpu.SAMPLE_NS), 2, lambda: None, worker, bench, EFFORT)
    assert bench.waits == 2 * (WARM_UPS + 3)


def test_copies_are_under_way_throughout() -> None:
    bench = Clock()
    with cpu.Worker(1) as worker:
        sample = cpu.beside_copies(lambda: bench.takes(100), lambda: None, 70, 40, worker, bench, EFFORT)
    assert sample.raw == (100, 100, 100)
    assert bench.issued == 5 * 14  # 560 ns of copies, twice four experts alone


def test_shares_of_slowdowns() -> None:
    alone, beside = Sample((100, 100, 100)), Sample((140, 150, 170))
    usual, low, high = cpu.more(beside, alone)
    assert (usual, low, high) == pytest.approx((0.5, 0.41, 0.68))
    assert list(cpu.more(alone, beside)) == [0.001] * 3


def test_counts_of_threads_leave_a_core_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(16)))
    assert cpu.counts() == (1, 2, 4, 8, 15)
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: {3})
    assert cpu.counts() == (1,)


def test_a_worker_has_its_own_threads() -> None:
    with cpu.Worker(3) as worker:
        assert worker.submit(torch.get_num_threads).result() == 3
    with cpu.Worker(1) as worker:
        assert worker.submit(torch.get_num_threads).result() == 1


def test_each_thread_of_a_worker_has_a_core_of_its_own_and_none_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: dict[int, set[int]] = {}
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: {2, 3, 5, 7})
    monkeypatch.setattr(cpu.os, "sched_setaffinity", lambda task, cores: pinned.update({task: cores}))
    with cpu.Worker(3) as worker:
        own = worker.submit(threading.get_native_id).result()
    assert pinned[own] == {2}
    assert sorted(pinned.values(), key=min) == [{2}, {3}, {5}]


def test_a_product_that_torch_lacks_is_left_out_and_said() -> None:
    with pytest.raises(InputError, match=r"^q4_0: torch has no product of it on this CPU: "):
        cpu.CpuKernels(Size(32, 16, True), "q4_0", 0)
    skipped: list[str] = []
    context = Context(HostBench(), QUICK, Findings(Records("test", "2026-01-02")), skipped.append)
    cpu_tasks.memory_and_hand_over(context, decoder_only())
    cpu_tasks.experts(context, decoder_only(), "q4_0")
    assert skipped[0].startswith("experts of gated in q4_0 on the CPU: q4_0: torch has no product")
    assert not context.found.cpu


class NoPinned(HostBench):
    """A host that pins nothing."""

    def pinned(self, size: int) -> torch.Tensor:
        raise RuntimeError(f"no {size} bytes\nmore")


def test_without_room_nothing_of_the_cpu_is_measured() -> None:
    skipped: list[str] = []
    context = Context(NoPinned(), QUICK, Findings(Records("test", "2026-01-02")), skipped.append)
    cpu_tasks.memory_and_hand_over(context, WIDE)
    cpu_tasks.experts(context, WIDE, "bf16")
    cpu_tasks.beside_copies(context, WIDE)
    assert skipped == ["the CPU: no 128 bytes"]
    assert not context.found.quantities and not context.found.points and not context.found.cpu


@pytest.mark.parametrize("held", cpu.FORMATS)
def test_experts_have_their_size(held: cpu.Format) -> None:
    kernels = cpu.CpuKernels(Size(64, 64, True), held, 0)
    assert kernels.run(3)().shape == (3, 64)


def test_a_section_that_experts_can_be_timed_with() -> None:
    context, skipped = measured()
    found = context.found
    assert not skipped
    assert {curve.format for curve in found.cpu} == set(cpu.FORMATS)
    given = {"fp32", "bf16", "int8", "q4_0"}
    assert {f"cpu.{held}.arithmetic" for held in given} <= set(found.quantities)
    assert set(found.points) == {"cpu.read.by_threads", *(f"cpu.{held}.by_threads" for held in given)}
    assert all(number.source == "measured" for number in found.quantities.values())
    profile = HardwareProfile("test", "test", found.quantities, found.points, cpu_curves=tuple(found.cpu))
    experts = CpuExperts(profile, size_of(WIDE), "bf16", most_tokens=2)
    (points,) = [one.points for one in found.cpu if one.format == "bf16" and one.threads == cpu.counts()[-1]]
    assert experts.expert_ns(1) == points.times_ns[0]
    assert experts.warnings == ()
    assert experts.evidence == "measured"
