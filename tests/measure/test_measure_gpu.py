"""Measuring for real; needs a CUDA device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from host_bench import QUICK, decoder_only, encoder_decoder

from specmoe.hwprofiles.measure.cuda import CudaBench, captured, cuda_bench
from specmoe.hwprofiles.measure.findings import Plan
from specmoe.hwprofiles.measure.job import Progress, measure
from specmoe.hwprofiles.profile_file import read_profile, write_profile
from specmoe.hwprofiles.quantity import COPIES, REQUIRED
from specmoe.hwprofiles.shape import KERNEL_FORMATS, Experts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: torch sees none"),
]
PLAN = Plan(
    copies=(4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20),
    reads=QUICK.reads,
    expansions=(1 << 20, 16 << 20),
    expert_tokens=QUICK.expert_tokens,
    dense_tokens=QUICK.dense_tokens,
    contexts=QUICK.contexts,
    product=2048,
)


@pytest.fixture
def bench() -> Iterator[CudaBench]:
    before = torch.cuda.current_stream()
    yield cuda_bench()
    torch.cuda.synchronize()
    torch.cuda.set_stream(before)
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_whole_profile_is_plausible(bench: CudaBench, tmp_path: Path) -> None:
    seen: list[Progress] = []
    profile = measure([encoder_decoder(), decoder_only()], KERNEL_FORMATS, seen.append, bench, plan=PLAN)
    write_profile(profile, tmp_path / "m.toml")
    assert read_profile(tmp_path / "m.toml") == profile
    assert set(REQUIRED) <= set(profile.quantities)
    assert [at.what for at in seen if at.skipped and "in q4_0" not in at.what] == [], "q4_0 needs widths of 64"
    for copy in ("host_to_device.pinned", "host_to_device.pageable", "device_to_host"):
        assert 1e9 < profile.plateau(copy) < 200e9, copy
    assert profile.plateau("device_copy") > profile.plateau("host_to_device.pinned")
    assert all(profile.ns(f"{copy}.latency") > 0 for copy in COPIES)
    for kind in ("fp32", "fp16", "bf16"):
        assert 1e12 < profile[f"gemm.{kind}.rate"] < 5e15, kind
    assert 300 < profile.ns("device.kernel_floor") < 20_000
    for name, quantity in profile.quantities.items():
        assert quantity.unit != "ns" or 0 <= quantity.value < 1e7, name
    assert 500 < profile.ns("host.graph.launch") < 200_000
    assert profile.ns("host.eager.launch_dense") > profile.ns("host.graph.launch_dense") > 0
    for curve in (*profile.expert_curves, *profile.dense_curves):
        assert all(1000 < time < 1e8 for time in curve.points.times_ns)


def test_what_one_model_needed_is_given_back_before_the_next(bench: CudaBench) -> None:
    experts = Experts(4, 2, 128, True)

    def peak(*names: str) -> int:
        torch.cuda.reset_peak_memory_stats()
        shapes = [dataclasses.replace(decoder_only(name), d_model=128, experts=experts) for name in names]
        assert measure(shapes, ["int4"], lambda _: None, bench, plan=PLAN).expert_curves
        return torch.cuda.max_memory_allocated()

    assert peak("one", "another", "a third") < 1.2 * peak("one")


def test_device_time_does_not_depend_on_how_slowly_the_host_launches(bench: CudaBench) -> None:
    import time

    numbers = torch.zeros(1 << 22, device=bench.device)
    launch = bench.captured(lambda: numbers.add_(1))

    def slowly() -> None:
        time.sleep(0.0001)
        launch()

    fast = min(bench.queued_ns(launch, 20) for _ in range(5))
    assert min(bench.queued_ns(slowly, 20) for _ in range(5)) < 1.5 * fast


def test_memory_is_given_back_and_graphs_can_be_captured_after_others_are_gone(bench: CudaBench) -> None:
    big = torch.zeros(1 << 20, device=bench.device)
    for _ in range(3):
        launch = bench.captured(lambda: big * 2 + 1)
        launch()
        del launch
    bench.release()
    out = torch.empty_like(big)
    bench.captured(lambda: torch.add(big, 3, out=out))()
    bench.wait()
    assert bool((out == 3).all())


def test_a_captured_graph_computes(bench: CudaBench) -> None:
    numbers = torch.zeros(8, device=bench.device)
    stream = torch.cuda.Stream()
    graph = captured(lambda: numbers.add_(1), stream)
    bench.wait()
    before = numbers.clone()
    assert before.tolist() == [3.0] * 8, "three warm-ups; capturing runs nothing"
    graph.replay()
    bench.wait()
    assert numbers.tolist() == [4.0] * 8


def test_a_graph_keeps_its_buffers(bench: CudaBench) -> None:
    import weakref

    numbers = torch.zeros(8, device=bench.device)
    kept = weakref.ref(numbers)
    launch = bench.captured(lambda held=numbers: held.add_(1))  # type: ignore[misc]
    del numbers
    assert kept() is not None
    del launch
    assert kept() is None


def test_a_failed_capture_tells_what_failed(bench: CudaBench) -> None:
    ran = []

    def fails() -> None:
        ran.append(1)
        if len(ran) > 3:
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        captured(fails, torch.cuda.Stream())
    assert len(ran) == 4


def test_facts(bench: CudaBench) -> None:
    facts = bench.facts()
    assert facts["device"] == torch.cuda.get_device_name()
    assert {"date", "torch", "cuda", "multiprocessors"} <= set(facts)
