"""The whole of measuring, with the host in the place of a device, on tiny shapes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from host_bench import FACTS, QUICK, HostBench, decoder_only, encoder_decoder

from specmoe.errors import InputError
from specmoe.hwprofiles import Costs, Format, HardwareProfile, Steps
from specmoe.hwprofiles.curves import Range
from specmoe.hwprofiles.kernels import Style
from specmoe.hwprofiles.measure import tasks as work
from specmoe.hwprofiles.measure.copies import DISK_SIZES
from specmoe.hwprofiles.measure.cpu import counts
from specmoe.hwprofiles.measure.experts import Experts
from specmoe.hwprofiles.measure.findings import Plan
from specmoe.hwprofiles.measure.job import Progress, measure, tasks
from specmoe.hwprofiles.profile_file import read_profile, write_profile
from specmoe.hwprofiles.quantity import COPIES, POINTS, REQUIRED
from specmoe.hwprofiles.shape import KERNEL_FORMATS, Attention, ModelShape, is_compressed

SHAPES = (encoder_decoder(), decoder_only())


class Measured:
    """One run of everything."""

    def __init__(self) -> None:
        self.seen: list[Progress] = []
        self.bench = HostBench()
        self.profile = measure(SHAPES, KERNEL_FORMATS, self.seen.append, self.bench, plan=QUICK)


@pytest.fixture(scope="module")
def whole() -> Measured:
    return Measured()


@pytest.fixture(scope="module")
def profile(whole: Measured) -> HardwareProfile:
    return whole.profile


def test_every_number_is_filled_and_the_file_comes_back(profile: HardwareProfile, tmp_path: Path) -> None:
    write_profile(profile, tmp_path / "m.toml")
    again = read_profile(tmp_path / "m.toml")
    assert again == profile
    assert set(REQUIRED) <= set(again.quantities)
    assert {"host.graph.begin", "host.graph.begin_copy", "host.eager.begin_copy"} <= set(again.quantities)
    assert set(again.points) == {
        *(f"{copy}.points" for copy in COPIES),
        *(f"host_to_device.{memory}.{way}" for memory in ("pinned", "pageable") for way in ("isolated", "busy")),
        "dequantise.int8.points",
        "dequantise.int4.points",
        *(f"cpu.{kind}.by_threads" for kind in ("read", "fp32", "bf16", "int8")),  # int4 needs multiples of 64
    }
    assert set(again.points) <= set(POINTS)


def test_all_is_measured_and_says_how_on_what_and_when(profile: HardwareProfile) -> None:
    curves = [curve.points for curve in (*profile.expert_curves, *profile.dense_curves)]
    for known in (*profile.quantities.values(), *profile.points.values(), *curves):
        assert known.source == "measured"
        assert known.ref.count("2026-01-02, NVIDIA Test 1GB") == 1, known.ref
    assert "median of 64, IQR" in profile.quantities["host.graph.issue"].ref
    assert "median of 3, IQR at most" in profile.points["device_copy.points"].ref


def test_the_machine(profile: HardwareProfile) -> None:
    assert (profile.name, profile.title) == ("test-1gb", "NVIDIA Test 1GB, PCIe 4 x8")
    assert profile.machine == FACTS
    assert (profile["link.generation"], profile["link.lanes"], profile["device.vram"]) == (4, 8, 1 << 30)


def test_points_are_where_the_plan_has_them(profile: HardwareProfile) -> None:
    for name, points in profile.points.items():
        if name.startswith("cpu."):
            assert points.amounts == counts()
            continue
        assert points.amounts == ((4096, 16384) if name != "nvme.points" else QUICK.reads)
    assert {curve.points.amounts for curve in profile.expert_curves} == {(1, 4)}
    assert {(c.phase, c.points.amounts) for c in profile.dense_curves} == {("decode", (1, 2)), ("encode", (4, 8))}


def test_every_shape_format_phase_and_context_has_a_curve(profile: HardwareProfile) -> None:
    kinds = {(c.d_model, c.d_ff, c.gated, c.format) for c in profile.expert_curves}
    assert kinds == {(32, d_ff, gated, held) for d_ff, gated in ((32, False), (16, True)) for held in KERNEL_FORMATS}
    for shape in SHAPES:
        for phase, contexts in QUICK.contexts.items():
            for held in KERNEL_FORMATS:
                sizes = Steps(phase, Range(*QUICK.dense_tokens[phase]), contexts[-1])
                style = Style("expand" if is_compressed(held) else "fused")  # no fused kernel runs here
                costs = Costs(profile, shape, held, steps=sizes, style=style)
                assert not {"dense.layer_floor", "router.floor", "gemm.fp32.rate"} & set(costs.uses)
                assert costs.evidence in ("measured", "extrapolated"), costs.assumed
                assert not any("dense_curve" in line for line in costs.warnings)


def test_layers_that_differ_are_measured_apart(profile: HardwareProfile) -> None:
    gated = decoder_only()
    kinds = {gated.dense_parameters("decode", layer) for layer in range(2)}
    measured = {c.parameters for c in profile.dense_curves if c.part == "before" and c.phase == "decode"}
    assert len(kinds) == 2 and kinds < measured


def test_an_encoder_has_no_head_and_a_prefill_does(profile: HardwareProfile) -> None:
    heads = {(c.phase, c.parameters, c.context) for c in profile.dense_curves if c.part == "head"}
    tiny, gated = SHAPES
    assert heads == {
        ("decode", tiny.head_parameters, 0),
        ("decode", gated.head_parameters, 0),
        ("encode", gated.head_parameters, 0),
    }


def test_relations_between_numbers(profile: HardwareProfile) -> None:
    inside = profile.points["device_copy.points"]
    assert profile["device.memory_bandwidth"] > 0.999 * 2 * 16384 / inside.times_ns[-1] * 1e9
    for copy in COPIES:
        times = [profile.curve(copy)(size) for size in (0, 1, 4096, 16384, 1 << 20)]
        assert all(less <= more for less, more in pairwise(times)), copy
    for kind in ("fp32", "fp16", "bf16"):
        assert 0 < profile[f"gemm.{kind}.efficiency"] <= 1
    for held in ("int8", "int4"):
        assert profile[f"dequantise.{held}.rate"] > 0.999 * profile.plateau(f"dequantise.{held}")


def test_progress_names_every_part_and_memory_is_given_back_after_each(whole: Measured) -> None:
    done = [at for at in whole.seen if not at.skipped]
    assert [at.done for at in done] == list(range(len(done)))
    assert {at.total for at in whole.seen} == {len(done) - 1} == {whole.bench.released}
    names = [at.what for at in done]
    assert names[0] == "memory of the CPU, hand-over"
    assert names.index("the CPU beside copies") + 1 == names.index("disk") == names.index("links and host") - 1
    assert not left_out(whole.seen)


def test_everything_on_the_device_is_captured_and_copies_are_measured_beside_work(whole: Measured) -> None:
    assert whole.bench.captures > 200
    assert whole.bench.busy


# What is asked


def test_only_what_is_asked() -> None:
    profile = measure(SHAPES[:1], ["int8"], lambda _: None, HostBench(), name="mine", plan=QUICK)
    assert profile.name == "mine"
    assert {curve.format for curve in profile.expert_curves} == {"int8"}
    assert {curve.format for curve in profile.dense_curves} == {"fp16"}
    assert set(REQUIRED) <= set(profile.quantities)


def test_shapes_with_the_same_parts_are_measured_once() -> None:
    twin, formats = encoder_decoder("twin"), list[Format](["fp16", "fp16"])
    names = [task.what for task in tasks([*SHAPES, twin], formats) if "on the CPU" not in task.what]
    assert [name for name in names if name.startswith("experts")] == [
        "experts of tiny in fp16",
        "experts of gated in fp16",
    ]
    assert names.count("decode of twin in fp16") == 1
    profile = measure([SHAPES[0], twin], ["fp16"], lambda _: None, HostBench(), plan=QUICK)
    kinds = [(c.part, c.phase, c.context) for c in profile.dense_curves]
    assert len(kinds) == len(set(kinds)) == 6


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to measure: at least one shape expected"):
        measure([], KERNEL_FORMATS, lambda _: None, HostBench(), plan=QUICK)
    latent = ModelShape(**vars(SHAPES[0]) | {"attention": Attention(2, 2, 16, latent=8)})
    with pytest.raises(InputError, match="tiny: latent attention is not measured or replayed"):
        measure([latent], KERNEL_FORMATS, lambda _: None, HostBench(), plan=QUICK)


# Where memory ends


def left_out(seen: list[Progress]) -> list[str]:
    """What was skipped, but for products that torch lacks on this CPU."""
    return [at.what for at in seen if at.skipped and "on the CPU: q4_0" not in at.what]


def test_what_does_not_fit_is_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from specmoe.hwprofiles.measure.experts import Experts

    whole_sample = Experts.sample

    def sample(self: Experts, tokens: int, effort: object) -> object:
        if tokens == 4 and self.kernel.held == "fp32":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nand more")
        return whole_sample(self, tokens, effort)  # type: ignore[arg-type]

    monkeypatch.setattr(Experts, "sample", sample)
    seen: list[Progress] = []
    profile = measure(SHAPES[:1], ["fp32", "fp16"], seen.append, HostBench(), plan=QUICK)
    assert left_out(seen) == ["experts of tiny in fp32 from 4 on: CUDA out of memory. Tried to allocate"]
    amounts = {curve.format: curve.points.amounts for curve in profile.expert_curves}
    assert amounts == {"fp32": (1,), "fp16": (1, 4)}
    guess = profile.quantities["gemm.fp32.efficiency"]
    assert (guess.value, guess.source) == (1, "assumed")
    assert guess.ref == "not measured: an expert of tiny on 4 tokens does not fit into memory"


def test_a_shape_that_does_not_fit_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Progress] = []

    def too_large(*parts: Any) -> Experts:
        """Only the experts of the curve do not fit; those that links and products are measured with do."""
        if seen[-1].what.startswith("experts of"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Experts(*parts)

    monkeypatch.setattr(work, "Experts", too_large)
    profile = measure(SHAPES[:1], ["fp32"], seen.append, HostBench(), plan=QUICK)
    assert left_out(seen) == ["experts of tiny in fp32: CUDA out of memory"]
    assert profile.expert_curves == ()


class LittleHostMemory(HostBench):
    """Pins up to a page."""

    def pinned(self, size: int) -> torch.Tensor:
        if size > self.most:
            raise RuntimeError("CUDA error: out of memory\nCompile with")
        return super().pinned(size)

    most = 4096


def test_copies_go_as_far_as_pinned_memory() -> None:
    seen: list[Progress] = []
    profile = measure(SHAPES[:1], ["fp16"], seen.append, LittleHostMemory(), plan=QUICK)
    assert left_out(seen) == [
        "copies of 16384 bytes: CUDA error: out of memory",
        "copies beside kernels of tiny fp16: CUDA error: out of memory",
    ]
    assert profile.points["host_to_device.pinned.points"].amounts == (4096,)


def test_no_room_for_any_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LittleHostMemory, "most", 0)
    with pytest.raises(InputError, match="copies: host or device memory is too small for the smallest copy"):
        measure(SHAPES[:1], ["fp16"], lambda _: None, LittleHostMemory(), plan=QUICK)


def test_what_nothing_stands_for_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTry")

    monkeypatch.setattr(work, "product", none)
    with pytest.raises(InputError, match=r"^fp32 products: CUDA out of memory\.$"):
        measure(SHAPES[:1], ["fp16"], lambda _: None, HostBench(), plan=QUICK)
    monkeypatch.setattr(work, "expansion", none)
    with pytest.raises(InputError, match=r"^dequantise.int8: device memory is too small for the smallest expansion$"):
        measure(SHAPES[:1], ["fp16"], lambda _: None, HostBench(), plan=QUICK)


# What the driver does not tell


def test_a_link_about_which_nothing_is_told_is_assumed() -> None:
    facts = {name: fact for name, fact in FACTS.items() if not name.startswith("pcie")}
    profile = measure(SHAPES[:1], ["fp16"], lambda _: None, HostBench(facts), plan=QUICK)
    lanes, generation = profile.quantities["link.lanes"], profile.quantities["link.generation"]
    assert (lanes.value, lanes.source) == (16, "assumed")
    assert generation.source == "assumed" and generation.ref.startswith("not measured: the driver does not tell")
    carried = 16 * 2.0 ** (generation.value - 3) * 1e9 * 128 / 130
    assert carried / 2 <= profile.plateau("host_to_device.pinned") < carried or generation.value == 1
    assert profile.title == "NVIDIA Test 1GB"


def test_disk_reads_have_sizes_of_their_own() -> None:
    assert Plan().reads == DISK_SIZES != Plan().copies
