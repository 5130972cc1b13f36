"""The small parts of measuring, each by hand."""

from __future__ import annotations

import subprocess
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from host_bench import QUICK, HostBench, decoder_only, encoder_decoder
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError, Place
from specmoe.hwprofiles.curves import ExpertCurve, require_rising
from specmoe.hwprofiles.measure import copies as disk
from specmoe.hwprofiles.measure import host, tasks
from specmoe.hwprofiles.measure.bench import (
    Beside,
    Effort,
    Records,
    Sample,
    buffers,
    computing,
    copying_alone,
    in_turn,
    rounded,
    sampled,
    unstable,
)
from specmoe.hwprofiles.measure.copies import SIZES, Link, pairs
from specmoe.hwprofiles.measure.experts import ROUTERS, DenseParts, Experts, made_up
from specmoe.hwprofiles.measure.findings import Context, Findings, Plan
from specmoe.hwprofiles.measure.host import quiet
from specmoe.hwprofiles.measure.job import slower_together, typical_slowdown
from specmoe.hwprofiles.measure.layers import DTYPES, Run, Stand, expand
from specmoe.hwprofiles.measure.machine import cpu_name, driver_facts, fact, host_facts, link, slug
from specmoe.hwprofiles.measure.tasks import full_precision, kernel_floor
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import Quantity
from specmoe.hwprofiles.shape import KERNEL_FORMATS, Format, bytes_of

EFFORT = Effort(1000, 3)
RECORDS = Records("A card", "2026-01-02")
CPU = torch.device("cpu")


def steady(time: float, number: int = 4) -> Sample:
    return Sample((time,) * number)


# Samples


def test_a_sample_by_hand() -> None:
    sample = Sample((10.0, 30.0, 20.0, 40.0, 50.0))
    assert (sample.median, sample.iqr, sample.spread) == (30, 20, pytest.approx(2 / 3))
    assert sample.unstable
    assert not Sample((100.0, 105.0, 110.0, 100.0)).unstable
    assert (Sample((0.0, 0.0)).spread, Sample((0.0, 0.0)).unstable) == (0, False)


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=20))
def test_medians_and_quartiles_are_numpys(raw: list[float]) -> None:
    sample = Sample(tuple(raw))
    low, high = np.quantile(raw, [0.25, 0.75])
    assert sample.median == np.median(raw)
    assert sample.iqr == pytest.approx(high - low)


def test_warm_ups_are_dropped_and_all_others_kept() -> None:
    times = iter(range(100))
    assert sampled(lambda: next(times), repeats=3, warm_ups=2).raw == (2, 3, 4)


# Device time


class Counting(HostBench):
    """Each launch takes 100 ns; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def queued_ns(self, launch: object, times: int, beside: object = None) -> float:
        self.asked.append(times)
        for _ in range(times):
            launch()  # type: ignore[operator]
        return 100.0


def test_a_sample_is_as_long_as_told_and_launches_take_turns() -> None:
    bench, ran = Counting(), list[int]()
    launches = [partial(ran.append, at) for at in range(3)]
    sample = computing(bench, launches, Effort(1000, 4))
    assert sample.raw == (100.0,) * 4
    assert bench.asked == [3, *[10] * 6]  # all once, 2 warm-ups, 4 samples of 1000 ns
    assert ran == [at % 3 for at in range(63)]


def test_no_sample_has_more_launches_than_a_driver_queues() -> None:
    bench = Counting()
    computing(bench, [lambda: None], Effort(1e9, 1))
    assert max(bench.asked) == 100


def test_copies_alone_are_one_at_a_time() -> None:
    class Alone(HostBench):
        asked: list[int] = []  # noqa: RUF012  # this test's own class

        def copied_ns(self, copy: object, times: int, ahead: bool = True, beside: object = None) -> float:
            self.asked.append(times)
            return 7.0

    assert copying_alone(Alone(), [lambda: None], EFFORT).median == 7
    assert set(Alone.asked) == {1}


def test_in_turn() -> None:
    ran: list[str] = []
    turn = in_turn([partial(ran.append, "a"), partial(ran.append, "b")])
    for _ in range(5):
        turn()
    assert ran == list("ababa")


@pytest.mark.parametrize(("size", "number"), [(1, 64), (128, 64), (1000, 9), (4096, 2), (8192, 2), (10**9, 2)])
def test_buffers_are_twice_what_the_cache_holds(size: int, number: int) -> None:
    assert buffers(size, HostBench()) == number  # whose cache holds 4096 bytes


# Copies


def test_copies_go_to_their_own_places() -> None:
    source, target = torch.arange(12, dtype=torch.uint8), torch.zeros(12, dtype=torch.uint8)
    copies = pairs(target, source, 4)
    assert len(copies) == 3
    copies[1]()
    assert target.tolist() == [0, 0, 0, 0, 4, 5, 6, 7, 0, 0, 0, 0]


def test_sizes() -> None:
    assert SIZES[0] == 4 << 10 and SIZES[-1] == 1 << 30
    assert {large // small for small, large in pairwise(SIZES)} == {4}


def test_every_way_of_copying_moves_the_bytes_it_says() -> None:
    bench = HostBench()
    link = Link(bench, 8192, EFFORT)
    link.pageable.add_(1)
    for source, way in product((link.pinned, link.pageable), (link.to_device, link.isolated)):
        link.vram.zero_()
        way(source, 8192)
        assert torch.equal(link.vram, source) and source.float().std() > 50
    link.other.zero_()
    link.inside(8192)
    assert torch.equal(link.other, link.vram)
    link.pinned.zero_()
    link.back(8192)
    assert torch.equal(link.pinned, link.vram)


def test_copies_are_timed_in_the_way_that_their_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, bool, int]] = []  # queued ahead, beside work, copies in the first run

    class Watched(HostBench):
        def copied_ns(self, copy: Run, times: int, ahead: bool = True, beside: Beside | None = None) -> float:
            asked.append((ahead, beside is not None, times))
            return super().copied_ns(copy, times, ahead, beside)

    link = Link(Watched(), 8192, EFFORT)
    found = {}
    for name, measured, _ in link.ways(Beside(lambda: None, 1.0)):
        asked.clear()
        measured(4096)
        found[name] = asked[0] if asked else None
    assert found == {
        "host_to_device.pinned.points": (True, False, 2),
        "host_to_device.pinned.isolated": (True, False, 1),
        "host_to_device.pinned.busy": (True, True, 2),
        "host_to_device.pageable.points": (False, False, 2),
        "host_to_device.pageable.isolated": (False, False, 1),
        "host_to_device.pageable.busy": (False, True, 2),
        "device_to_host.points": (True, False, 2),
        "device_copy.points": (True, False, 2),
        "allocation.points": None,
    }


# Kernels


@pytest.mark.parametrize("held", KERNEL_FORMATS)
def test_made_up_weights_are_of_their_format_and_finite(held: Format) -> None:
    weights = made_up(640, held, CPU)
    assert (weights.dtype, len(weights)) == (torch.uint8, bytes_of(640, held))
    if held in DTYPES:
        expanded = weights.view(DTYPES[held])
    else:
        out = torch.empty(2 * 640, dtype=torch.uint8)
        expand(weights, held, 640, out)
        expanded = out.view(torch.float16)
    assert expanded.isfinite().all()
    assert 0.005 < expanded.float().std() < 0.05


def test_experts_have_weights_of_their_own() -> None:
    experts = Experts(encoder_decoder(), "fp16", HostBench())
    assert len(experts.weights) == len(experts.runs(2)) == 2
    assert not torch.equal(experts.weights[0], experts.weights[1])


def test_work_beside_copies_is_long() -> None:
    class Slow(Counting):
        def queued_ns(self, launch: object, times: int, beside: object = None) -> float:
            return 100_000.0

    experts, ran = Experts(encoder_decoder(), "fp32", Slow()), list[int]()
    experts.runs = lambda tokens: [partial(ran.append, 0), partial(ran.append, 1)]  # type: ignore[method-assign]
    beside = experts.beside(EFFORT)
    beside.launch()
    assert ran == [0, 1] * 10  # 2 ms of 0.1 ms each, in turn
    assert beside.ns == 100_000


def test_dense_parts_have_weights_of_their_own() -> None:
    parts = DenseParts(decoder_only(), "decode", "fp32", HostBench())
    assert len(parts.stands) >= 2
    one, other = (stand.layer(0).attentions[0].query for stand in parts.stands[:2])
    assert not torch.equal(one, other)
    assert parts.layer_parameters == 32 * 32 * 2 + 2 * 32 * 16 + 3 * 32 * 64


class Ordered(HostBench):
    """A launch of several parts takes 100 ns for each; keeps in which order they ran."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []

    def queued_ns(self, launch: object, times: int, beside: object = None) -> float:
        before = len(self.ran)
        for _ in range(times):
            launch()  # type: ignore[operator]
        return 100.0 * (len(self.ran) - before) / times


def test_a_dense_part_is_timed_behind_the_experts_of_a_token() -> None:
    bench, shape = Ordered(), decoder_only()
    parts, layers = DenseParts(shape, "decode", "fp32", bench), range(shape.stack("decode").moe_layers)
    parts.__dict__["_experts"] = [partial(bench.ran.append, "expert")]
    parts.__dict__["stands"] = [
        SimpleNamespace(before=lambda layer, *_: (partial(bench.ran.append, f"layer {layer}"), None))
    ] * 64
    assert parts.before(0, 1, 32, EFFORT).raw == (100.0,) * EFFORT.samples  # the experts' time is subtracted
    behind = bench.ran[len(bench.ran) - bench.ran[::-1].index("expert") - shape.experts.top_k :]
    assert behind[:-1] == ["expert"] * shape.experts.top_k
    alike = [at for at in layers if shape.dense_parameters("decode", at) == shape.dense_parameters("decode", 0)]
    assert {name for name in bench.ran if name != "expert"} == {f"layer {layer}" for layer in alike}


def test_slow_downs_are_medians_of_shares() -> None:
    context = context_of(HostBench())
    context.found.slower |= {"a fp16": (0.01, 0.02), "b fp16": (0.03, -0.01), "b fp32": (0.02, -0.02)}
    typical_slowdown(context)
    found = context.found.quantities
    assert found["link.interference"].value == 0.02
    assert "link.contention" not in found  # its median is that of 2 %, nothing and nothing
    assert "a fp16 1.0 %, b fp16 3.0 %, b fp32 2.0 %" in found["link.interference"].ref


def test_kernels_and_copies_are_timed_beside_each_other() -> None:
    class Slower(HostBench):
        def queued_ns(self, launch: Run, times: int, beside: Beside | None = None) -> float:
            return 1000.0 if beside is None else 1100.0

        def copied_ns(self, copy: Run, times: int, ahead: bool = True, beside: Beside | None = None) -> float:
            return 400.0 if beside is None else 420.0

    shares = slower_together(context_of(Slower()), decoder_only(), "fp32")
    assert shares == pytest.approx((0.1, 0.05))


def test_a_kernels_floor_is_one_of_the_chain() -> None:
    class Chain(Counting):
        def queued_ns(self, launch: object, times: int, beside: object = None) -> float:
            return 200_000.0

    assert kernel_floor(Chain(), EFFORT).median == 1000


def test_full_precision_is_put_back() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


class Fixed(HostBench):
    """Every launch takes so long."""

    def __init__(self, ns: float) -> None:
        super().__init__()
        self.ns = ns

    def queued_ns(self, launch: object, times: int, beside: object = None) -> float:
        launch()  # type: ignore[operator]
        return self.ns


def context_of(bench: HostBench) -> Context:
    return Context(bench, QUICK, Findings(RECORDS), lambda why: pytest.fail(why))


def test_rates_and_efficiency_by_hand() -> None:
    context = context_of(Fixed(1000.0))
    tasks.products(context, encoder_decoder(), "fp32")
    found = context.found.quantities
    assert found["gemm.fp32.rate"].value == 65.536e9  # 2 * 32^3 operations in 1 us
    assert found["gemm.fp32.efficiency"].value == 0.25  # 2 * 2 * 32 * 32 * 4 tokens in as long


def test_floors_are_what_the_roofline_leaves() -> None:
    context = context_of(Fixed(100_000.0))
    for name, value in (("device.memory_bandwidth", 1e9), ("gemm.fp16.rate", 1e15), ("gemm.fp16.efficiency", 1.0)):
        context.found.given(name, value, "by hand")
    tasks.floors(context, encoder_decoder())
    found = context.found.quantities
    # Two attentions of 4 * 32 * 32, a feed-forward part of 2 * 32 * 64, and 32 positions of 64 numbers in each.
    assert found["dense.layer_floor"].value == 100_000 - 2 * (8192 + 4096 + 2 * 32 * 64)
    assert found["router.floor"].value == 100_000 / ROUTERS - 2 * 32 * 4
    assert found["device.kernel_floor"].value == 500  # one of 200


def test_dense_parts_are_those_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []
    whole = Stand.before

    def before(self: Stand, layer: int, tokens: int, context: int, routers: int = 1) -> object:
        asked.append((layer, tokens, context))
        return whole(self, layer, tokens, context, routers)

    monkeypatch.setattr(Stand, "before", before)
    context = context_of(Fixed(1000.0))
    tasks.dense_curves(context, decoder_only(), "decode", "fp32")
    layers, counts, contexts = (set(column) for column in zip(*asked, strict=True))
    assert (counts, contexts) == ({1, 2}, {4, 8})
    assert layers == {0, 1}, "the first has a dense layer in front"
    known = {(curve.part, curve.parameters, curve.context) for curve in context.found.dense}
    before_first, before_other = (decoder_only().dense_parameters("decode", layer) for layer in (0, 1))
    assert known >= {("before", size, at) for size in (before_first, before_other) for at in (4, 8)}
    assert ("router", 128, 0) in known


def test_expansion_is_measured_behind_other_reading() -> None:
    """What reads the cache full takes 300 ns, and with an expert 1000."""

    class Cold(HostBench):
        captures = 0

        def captured(self, run: object) -> object:  # type: ignore[override]
            self.captures += 1
            ns = 300.0 if self.captures == 1 else 1000.0
            return lambda: ns

        def queued_ns(self, launch: object, times: int, beside: object = None) -> float:
            return launch()  # type: ignore[operator,no-any-return]

    experts = Experts(encoder_decoder(), "int8", Cold())
    assert experts.sample(1, EFFORT).median == 700
    assert Experts(encoder_decoder(), "fp16", Fixed(300.0)).sample(1, EFFORT).median == 300, "as it is"


# The host's costs, on a clock that only moves when somebody waits


class Clocked(HostBench):
    """A launch takes the host 10 ns and the device 100, beginning 5 later; waiting for its end takes 7 more."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0
        self.done_at = 0
        self.result = torch.zeros(2, dtype=torch.int64)

    def now(self) -> int:
        if self.clock >= self.done_at:
            self.result.fill_(3)
        self.clock += 1
        return self.clock - 1

    def queued_ns(self, launch: object, times: int, beside: object = None) -> float:
        return 100.0

    def launch(self, launch: object) -> None:
        self.clock += 10
        self.done_at = self.clock + 105
        self.result.fill_(-1)

    def await_last(self) -> None:
        self.clock = self.done_at + 7

    def handover_ns(self, copy: object, launch: object) -> float:
        return 103.0


def parts_of(bench: Clocked) -> host.Parts:
    def nothing() -> None:
        pass

    return host.Parts(nothing, nothing, nothing, nothing, bench.result)


def test_a_launch_is_timed_by_itself() -> None:
    bench = Clocked()
    sample = host.launch(bench, lambda: None)
    assert len(sample.raw) == host.CALLS
    assert set(sample.raw) == {11.0}  # 10, and a look at the clock


def test_sync_is_what_is_left_after_the_device_and_its_beginning() -> None:
    bench = Clocked()
    begin = Sample((5.0,) * 3)
    assert host.sync(bench, parts_of(bench), begin, EFFORT).median == pytest.approx(7, abs=2)


def test_handover_is_what_a_launch_takes_longer() -> None:
    bench = Clocked()
    link_ = Link(bench, 4096, EFFORT)
    assert host.handover(bench, link_, lambda: None, EFFORT).median == 3


class Appearing:
    """The router's result: every look at it takes 1 ns, and it is there when the device is done."""

    def __init__(self, bench: Clocked) -> None:
        self.bench = bench

    def view(self, _: int) -> Appearing:
        return self

    def numpy(self) -> Appearing:
        return self

    def fill_(self, value: int) -> None:
        assert value == host.NOT_YET

    def __getitem__(self, at: int) -> int:
        self.bench.clock += 1
        return 2 if self.bench.clock > self.bench.done_at else host.NOT_YET


def test_begin_is_what_is_left_until_the_result_is_seen() -> None:
    bench = Clocked()
    parts = parts_of(bench)._replace(chosen=Appearing(bench))  # type: ignore[arg-type]
    assert host.begin(bench, parts, EFFORT).median == pytest.approx(5, abs=2)


def test_a_time_that_is_known_to_be_longer_leaves_nothing() -> None:
    bench = Clocked()
    assert host.sync(bench, parts_of(bench), Sample((1e9,)), EFFORT).median == 0


def test_bookkeeping_is_small() -> None:
    assert 0 < host.bookkeeping(HostBench()).median < 100_000


def test_quiet_is_put_back() -> None:
    import gc
    import os

    cores = os.sched_getaffinity(0)
    with quiet():
        assert not gc.isenabled() and len(os.sched_getaffinity(0)) == 1
    assert gc.isenabled() and os.sched_getaffinity(0) == cores


# The disk


def test_reads(tmp_path: Path) -> None:
    found = disk.reads((4096, 1 << 20), tmp_path)
    assert [size for size, _ in found.timed] == [4096, 1 << 20]
    assert all(sample.median > 0 and len(sample.raw) == 5 for _, sample in found.timed)
    assert found.latency.median > 0
    assert ("past the page cache" in found.how) != ("may have helped" in found.how)
    assert list(tmp_path.iterdir()) == []


def test_reads_where_the_page_cache_cannot_be_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_direct", lambda path: 0)
    assert "may have helped" in disk.reads((4096,), tmp_path).how


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(100))
    with (tmp_path / "short").open("rb") as file, pytest.raises(OSError, match="100 of 4096 bytes could be read"):
        disk._read(file.fileno(), 4096, 0)


def test_no_room_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"absent: No such file or directory: room for a file of 1 MiB expected"):
        disk.reads((1 << 20,), tmp_path / "absent")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(InputError, match=r"No space left on device: room for a file of 1 MiB expected"):
        disk.reads((1 << 20,), tmp_path)
    assert list(tmp_path.iterdir()) == []


# The machine

ANSWER = "580.1, 1980, 1980, 2619, 5, 5, 16, 16\n"


def test_what_the_driver_tells() -> None:
    commands: list[list[str]] = []

    def ask(command: list[str]) -> str:
        commands.append(command)
        return ANSWER

    assert driver_facts("abc", ask) == {
        "driver": "580.1",
        "sm_clock_mhz": 1980,
        "sm_clock_max_mhz": 1980,
        "memory_clock_mhz": 2619,
        "pcie_generation": 5,
        "pcie_generation_max": 5,
        "pcie_width": 16,
        "pcie_width_max": 16,
    }
    assert commands[0][:3] == ["nvidia-smi", "-i", "GPU-abc"]
    driver_facts(None, ask)
    assert commands[1][:3] == ["nvidia-smi", "-i", "0"]


def test_what_the_driver_does_not_tell_is_left_out() -> None:
    told = driver_facts(None, lambda _: "580, [N/A], N/A, [Not Supported], [Unknown Error], , 16, 16")
    assert told == {"driver": "580", "pcie_width": 16, "pcie_width_max": 16}
    assert driver_facts(None, lambda _: "no devices were found") == {}


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("nvidia-smi"),
        subprocess.CalledProcessError(9, "nvidia-smi"),
        subprocess.TimeoutExpired("x", 1),
    ],
)
def test_no_driver_to_ask(error: Exception) -> None:
    def ask(_: list[str]) -> str:
        raise error

    assert driver_facts(None, ask) == {}


def test_facts_of_the_host() -> None:
    facts = host_facts()
    assert {"torch", "python", "kernel", "date"} <= set(facts)
    assert facts["date"] == str(facts["date"])[:10]
    assert "" not in facts.values()
    kernel = str(facts["kernel"]).split()
    assert len(kernel) == 1 or set(kernel[1]) <= set("0123456789.")


def test_the_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A CPU @ 2GHz\nmodel name\t: B\n")
    assert cpu_name(tmp_path / "cpuinfo") == "A CPU @ 2GHz"
    assert isinstance(cpu_name(tmp_path / "absent"), str)


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-80gb-hbm3"),
        ("NVIDIA GeForce RTX 3090", "geforce-rtx-3090"),
        ("Tesla T4", "tesla-t4"),
        ("???", "device"),
    ],
)
def test_names(device: str, name: str) -> None:
    assert slug(device) == name


def test_links_and_facts() -> None:
    assert (fact("16"), fact("1.5"), fact("P0")) == (16, "1.5", "P0")
    assert link({"pcie_width": 8}, "width") == 8
    assert link({"pcie_width": 8, "pcie_width_max": 16}, "width") == 16
    assert link({}, "width") is None and link({"pcie_width": "8x"}, "width") is None


# From timings to numbers


def test_times_rates_and_shares_say_how() -> None:
    time = RECORDS.time(steady(1234.4), "a launch")
    assert time == Quantity(1234, "ns", "measured", "a launch; median of 4, IQR 0.0 %; 2026-01-02, A card", 1234, 1234)
    assert RECORDS.time(steady(100.0), "a", less=30.2).value == 70
    assert RECORDS.time(steady(100.0), "a", less=130).value == 0
    rate = RECORDS.rate(1000, steady(3.0), "B/s", "r")
    assert (rate.value, rate.unit) == (3.33333e11, "B/s")
    assert RECORDS.given(4, "1", "told").ref == "told; 2026-01-02, A card"


def test_points_of_copies_never_fall_and_say_so() -> None:
    timed = [(1024, steady(10.4)), (2048, steady(9.0)), (4096, steady(0.2))]
    points = RECORDS.rising(timed, "B", "copies")
    assert points.times_ns == (10, 10, 10)
    assert points.ref == "copies; median of 4, IQR at most 0.0 %; 2026-01-02, A card; 2 raised to the one before"
    require_rising(Place("p"), points)
    assert "raised" not in RECORDS.rising([(1, steady(5)), (2, steady(5))], "B", "copies").ref


def test_points_of_kernels_are_what_they_are() -> None:
    assert RECORDS.points([(1, steady(10.4)), (2, steady(9.0))], "token", "k").times_ns == (10, 9)
    assert RECORDS.points([(1, steady(0.1))], "B", "copies").times_ns == (1,), "no time is shorter than the unit"


def test_unstable_numbers_say_so() -> None:
    shaky = Sample((100.0, 100.0, 150.0, 150.0))
    ref = RECORDS.points([(1024, steady(10)), (2048, shaky)], "B", "copies").ref
    assert "IQR at most 40.0 %; unstable: IQR 40 % at 2 KiB (over 10 %); 2026" in ref
    assert "unstable: IQR 40 % (over 10 %)" in RECORDS.time(shaky, "a").ref


def test_what_a_profile_calls_unstable() -> None:
    shaky = Sample((100.0, 100.0, 150.0, 150.0))
    numbers = {"nvme.latency": RECORDS.time(shaky, "a"), "router.floor": RECORDS.time(steady(1), "a")}
    points = {"nvme.points": RECORDS.points([(1, steady(1))], "B", "a")}
    curve = ExpertCurve(8, 16, True, "int8", RECORDS.points([(1, shaky)], "token", "a"))
    profile = HardwareProfile("p", "t", numbers, points, (curve,))
    assert unstable(profile) == ("nvme.latency", "expert_curve 8 16 int8")
    assert set(profile.named_points) == {"nvme.points", "expert_curve 8 16 int8"}


def test_digits() -> None:
    assert rounded(54_321_987_654.3) == 54_322_000_000
    assert rounded(0.123456789) == 0.123457


def test_the_whole_plan_is_what_is_promised() -> None:
    plan = Plan()
    assert plan.expert_tokens == (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    assert plan.dense_tokens["decode"] == (1, 2, 4, 8, 16, 32, 64)
    assert plan.dense_tokens["encode"][0] == 16 and plan.dense_tokens["encode"][-1] == 4096
    assert plan.contexts == {"decode": (32, 256), "encode": (32, 256, 512)}
    assert (plan.reads[0], plan.reads[-1]) == (1 << 20, 256 << 20)
