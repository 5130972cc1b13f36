"""What a model costs on a machine, worked out by hand: 1 byte and 1 operation take 1 ns each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from hw_tables import points, quantity, tiles
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError
from specmoe.hwprofiles import Costs, Format, HardwareProfile, HostSet, ModelShape, Move, load_profile, load_shape
from specmoe.hwprofiles.kernels import Gemm, Rates, Style, Tiles, grouped_gemm_ns
from specmoe.hwprofiles.shape import FORMATS

Maker = Callable[..., HardwareProfile]
MOVES: tuple[Move, ...] = get_args(Move)
MEASURED = {"d_model": 8, "d_ff": 16, "gated": False, "format": "fp32"}
TILED = load_profile("a100-sxm4-80gb")


def all_moves(profile: HardwareProfile, shape: ModelShape, held: Format = "fp32", **more: Any) -> Costs:
    return Costs(profile, shape, held, moves=MOVES, **more)


# By hand; an expert is two products of 128 weights


@pytest.mark.parametrize(
    ("held", "size"), [("fp32", 1024), ("fp16", 512), ("bf16", 512), ("int8", 256 + 8), ("int4", 128 + 8)]
)
@pytest.mark.parametrize("tier", ["host-pinned", "host-pageable", "nvme"])
def test_loads(profile: HardwareProfile, shape: ModelShape, held: Format, size: int, tier: Any) -> None:
    assert all_moves(profile, shape, held).load_ns(tier) == 1000 + size
    assert all_moves(profile, shape, also_held=(held,)).load_ns(tier, held) == 1000 + size


def test_what_is_in_vram_needs_no_link(profile: HardwareProfile, shape: ModelShape) -> None:
    costs = Costs(profile, shape, "fp32", moves=())
    assert costs.load_ns("vram") == costs.load_ns("vram-compressed") == 0


@pytest.mark.parametrize("move", MOVES)
def test_moves(profile: HardwareProfile, shape: ModelShape, move: Move) -> None:
    assert all_moves(profile, shape).move_ns(move, 500) == 1500


def test_device_copies(profile: HardwareProfile, shape: ModelShape) -> None:
    assert all_moves(profile, shape).device_copy_ns(24) == 1024


@pytest.mark.parametrize(("tokens", "time"), [(0, 0), (1, 612 * 2), (2, 612 * 2), (3, 868 * 2), (100, 25_700 * 2)])
def test_an_expert_reads_its_weights_or_computes(
    profile: HardwareProfile, shape: ModelShape, tokens: int, time: int
) -> None:
    assert Costs(profile, shape, "fp32").expert_ns(tokens) == time


def test_half_the_bytes_in_fp16(profile: HardwareProfile, shape: ModelShape) -> None:
    assert Costs(profile, shape, "fp16").expert_ns(1) == 2 * (100 + 256)


def test_a_gated_expert_reads_half_as_much_again(
    make_shape: Callable[..., ModelShape], profile: HardwareProfile
) -> None:
    gated = make_shape({"experts.gated": True})
    assert Costs(profile, gated, "fp32").expert_ns(1) == (100 + 1024) + (100 + 512)


def test_one_launch_for_several_experts(profile: HardwareProfile, shape: ModelShape) -> None:
    costs = Costs(profile, shape, "fp32")
    assert costs.experts_ns([1, 0, 1]) == 2 * (100 + 1024)
    assert costs.experts_ns([4, 0, 1]) == 2 * (100 + 1280)
    assert costs.experts_ns([]) == costs.experts_ns([0, 0]) == 0


def test_expanding(profile: HardwareProfile, shape: ModelShape) -> None:
    costs = Costs(profile, shape, "fp16", also_held=("int8", "int4"))
    assert costs.dequantise_ns() == 0
    assert costs.dequantise_ns("int8") == 100 + 512 // 2
    assert costs.dequantise_ns("int4") == 100 + 512
    assert Costs(profile, shape, "int4").dequantise_ns() == 100 + 512
    assert Costs(profile, shape, "fp32", also_held=("int4",)).dequantise_ns("int4") == 100 + 1024


def test_attention_and_dense_layers(profile: HardwareProfile, shape: ModelShape) -> None:
    costs = Costs(profile, shape, "fp32")
    cache = 2 * 10 * 16 * 4  # two attentions, 10 positions, keys and values of 2 heads of 4
    assert costs.attention_ns("decode", 1, 10) == 10_000 + 512 * 4 + cache
    assert costs.dense_ns("decode", 1, 10) == (10_000 + 1024 * 4 + cache) + costs.attention_ns("decode", 1, 10)
    assert costs.attention_ns("encode", 1, 10) == 10_000 + 256 * 4 + 16 * 4
    assert costs.attention_ns("encode", 5, 5) == 10_000 + 5 * (2 * 256 + 5 * 32)  # operations outweigh bytes


def test_dense_layers_in_front(make_shape: Callable[..., ModelShape], profile: HardwareProfile) -> None:
    late = {"layers": 5, "first_moe": 3, "moe_every": 1, "dense_d_ff": 32}
    costs = Costs(profile, make_shape({"decoder": late, "encoder": None}), "fp32")
    attention, layer = costs.attention_ns("decode", 1, 1), 10_000 + 768 * 4 + 64
    assert costs.dense_ns("decode", 1, 1, layer=0) == 3 * layer + attention
    assert costs.dense_ns("decode", 1, 1, layer=1) == costs.dense_ns("decode", 1, 1) == attention


def test_shared_experts(make_shape: Callable[..., ModelShape], profile: HardwareProfile, shape: ModelShape) -> None:
    sharing = Costs(profile, make_shape({"experts.shared_d_ff": 16}), "fp32")
    assert sharing.shared_ns(1) == 2 * 100 + 256 * 4
    assert sharing.dense_ns("decode", 1, 10) == Costs(profile, shape, "fp32").dense_ns("decode", 1, 10) + 1224
    assert Costs(profile, shape, "fp32").shared_ns(1) == 0


def test_router_and_head(profile: HardwareProfile, shape: ModelShape) -> None:
    costs = Costs(profile, shape, "fp32")
    assert costs.router_ns(1) == 2000 + 32 * 4
    assert costs.router_ns(0) == 0
    assert costs.head_ns("decode", 1) == 100 + 400 * 4
    assert costs.head_ns("encode", 1) == 0, "an encoder writes nothing"


def test_a_decoder_only_prefill_has_a_head(make_shape: Callable[..., ModelShape], profile: HardwareProfile) -> None:
    assert Costs(profile, make_shape({"encoder": None}), "fp32").head_ns("encode", 1) == 1700


@pytest.mark.parametrize("host_set", ["graph", "eager"])
def test_host_costs(make_profile: Maker, shape: ModelShape, host_set: HostSet) -> None:
    profile = make_profile({f"host.{host_set}.issue": quantity(40, "us")})
    assert Costs(profile, shape, "fp32", host_set).host == (1000, 2000, 40_000, 4000, 5000, 6000, 0, 0)
    begun = make_profile({f"host.{host_set}.begin": quantity(3, "us")})
    assert Costs(begun, shape, "fp32", host_set).host.begin_ns == 3000


# Measured experts


def test_a_measured_expert_goes_before_the_roofline(make_profile: Maker, shape: ModelShape) -> None:
    curve = points([[1, 50], [3, 60]], ("token", "us"))
    measured = make_profile({"expert_curve": [MEASURED | {"points": curve}]})
    costs = Costs(measured, shape, "fp32", most_tokens=3)
    assert [costs.expert_ns(tokens) for tokens in (0, 1, 2, 3, 5)] == [0, 50_000, 55_000, 60_000, 70_000]
    assert costs.experts_ns([1, 3]) == 110_000
    assert costs.warnings == ()
    (warning,) = Costs(measured, shape, "fp32", most_tokens=4).warnings
    assert warning == "hand: expert_curve: 4 token is outside the measured 1 token .. 3 token"
    assert Costs(measured, shape, "fp16").expert_ns(1) == 2 * (100 + 256), "measured in another format"


@pytest.mark.parametrize("other", [{"kernel": "fused"}, {"kernel": "fused", "experts": 2}, {"format": "bf16"}])
def test_other_measured_kernels_do_not_count(make_profile: Maker, shape: ModelShape, other: dict[str, Any]) -> None:
    curve = MEASURED | other | {"points": points([[1, 50]], ("token", "us"))}
    assert Costs(make_profile({"expert_curve": [curve]}), shape, "fp32").expert_ns(1) == 2 * 612


# Tiles of 4 x 4 on 2 multiprocessors, half of 2 operations a ns: one wave of inner 8 does 2 * 2 * 16 * 8 operations


def test_tiles_by_hand(make_profile: Maker, shape: ModelShape) -> None:
    profile = make_profile({"expert_tiles.fp32": tiles()})
    costs = Costs(profile, shape, "fp32")
    first, second = 100 + 2 * 512, 100 + 1024  # 4 tiles of inner 8 in 2 waves; 2 tiles of inner 16 in one
    assert costs.expert_ns(1) == costs.expert_ns(4) == first + second
    assert costs.expert_ns(5) == (100 + 4 * 512) + (100 + 2 * 1024)
    assert Costs(profile, shape, "fp16").expert_ns(1) == 2 * (100 + 256), "only fp32 kernels are tiled"
    assert any(name.startswith("expert_tiles.") for name in costs.uses)


rows = st.lists(st.integers(1, 300), min_size=1, max_size=8)
gemms = st.builds(Gemm, st.integers(1, 500), st.integers(1, 500))
tilings = st.none() | st.builds(Tiles, st.integers(1, 128), st.integers(1, 128), st.integers(1, 108), st.floats(0.1, 1))


@given(rows, gemms, tilings, st.integers(1, 50))
def test_more_rows_never_take_less(parts: list[int], gemm: Gemm, tiling: Tiles | None, more: int) -> None:
    rates = Rates(100, 1e9, 1e9, 4)
    time = grouped_gemm_ns(rates, tiling, 2e9, gemm, parts)
    assert grouped_gemm_ns(rates, tiling, 2e9, gemm, [parts[0] + more, *parts[1:]]) >= time
    assert grouped_gemm_ns(rates, tiling, 2e9, gemm, [*parts, more]) >= time


@given(rows, gemms)
def test_whole_tiles_of_one_row_and_column_are_the_plain_roofline(parts: list[int], gemm: Gemm) -> None:
    rates = Rates(100, 1e9, 1e9, 4)
    plain = grouped_gemm_ns(rates, None, 1e9, gemm, parts)
    assert grouped_gemm_ns(rates, Tiles(1, 1, 1, 1.0), 1e9, gemm, parts) == pytest.approx(plain)


# What the costs rest on


def test_only_what_is_used_is_named(make_profile: Maker, shape: ModelShape) -> None:
    names = (
        "nvme.latency",
        "host.eager.sync",
        "gemm.fp16.rate",
        "dequantise.int8.rate",
        "host_to_device.pinned.latency",
    )
    profile = make_profile({f"{name}.source": "assumed" for name in names})
    assert Costs(profile, shape, "fp32", moves=()).assumed == ()
    assert Costs(profile, shape, "fp32").assumed == ("host_to_device.pinned.latency",)
    assert Costs(profile, shape, "fp32", moves=("nvme",)).assumed == ("nvme.latency",)
    assert Costs(profile, shape, "fp32", "eager", moves=()).assumed == ("host.eager.sync",)
    assert Costs(profile, shape, "fp16", moves=()).assumed == ("gemm.fp16.rate",)
    expand = Style("expand", "separate")
    assert Costs(profile, shape, "int8", moves=()).assumed == ("gemm.fp16.rate",)
    assert Costs(profile, shape, "int8", moves=(), style=expand).assumed == ("dequantise.int8.rate", "gemm.fp16.rate")
    assert Costs(profile, shape, "fp32", moves=(), also_held=("int8",)).assumed == ("dequantise.int8.rate",)


@pytest.mark.parametrize(
    ("source", "evidence"),
    [("measured", "measured"), ("derived", "fitted"), ("published", "published"), ("assumed", "assumed")],
)
def test_the_weakest_decides(make_profile: Maker, shape: ModelShape, source: str, evidence: str) -> None:
    profile = make_profile({"router.floor.source": source})
    assert Costs(profile, shape, "fp32").evidence == evidence


def test_evidence_beyond_the_points(make_profile: Maker, shape: ModelShape) -> None:
    measured = make_profile({"host_to_device.pinned.fitted_to": points([[500, 1], [1024, 2]])})
    assert Costs(measured, shape, "fp32").evidence == "measured"
    small = Costs(measured, shape, "int4")
    assert small.evidence == "extrapolated"
    assert small.warnings == ("hand: host_to_device.pinned: 136 B is outside the measured 500 B .. 1 KiB",)
    assert Costs(measured, shape, "fp32", also_held=("int4",)).warnings == small.warnings


def test_evidence_of_measured_experts(make_profile: Maker, shape: ModelShape) -> None:
    curve = MEASURED | {"points": points([[1, 50]], ("token", "us"), source="published")}
    assert Costs(make_profile({"expert_curve": [curve]}), shape, "fp32").evidence == "published"


def test_an_override_shows(profile: HardwareProfile, shape: ModelShape) -> None:
    faster = Costs(profile.with_overrides({"host_to_device.pinned.bandwidth": 2e9}), shape, "fp32")
    assert faster.load_ns() == 1000 + 512
    assert faster.assumed == ("host_to_device.pinned.bandwidth",)
    assert faster.evidence == "assumed"


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "fp8"}, "format 'fp8': one of bf16, fp16, fp32, int4, int8, iq3_xxs"),
        ({"host_set": "graf"}, "host set 'graf': did you mean 'graph'?"),
        ({"moves": ("pinned",)}, "move 'pinned': did you mean 'host-pinned'?"),
        ({"also_held": ("int2",)}, "format 'int2': did you mean"),
    ],
)
def test_unknown_names(profile: HardwareProfile, shape: ModelShape, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Costs(**({"profile": profile, "shape": shape, "format": "fp32"} | arguments))
    assert str(caught.value).startswith(message)


def test_what_was_not_announced(profile: HardwareProfile, shape: ModelShape) -> None:
    costs = Costs(profile, shape, "fp32")
    with pytest.raises(InputError, match="move 'nvme' is not one that this run announced: one of host-pinned expected"):
        costs.load_ns("nvme")
    with pytest.raises(InputError, match="format 'int4' is not one that this run announced: one of fp32 expected"):
        costs.load_ns(held="int4")
    with pytest.raises(InputError, match="format 'int4' is not one that this run announced"):
        costs.dequantise_ns("int4")


# Properties, on machines with and without tiles


@given(st.integers(0, 4000), st.integers(0, 4000), st.sampled_from(FORMATS), st.integers(1, 4000))
def test_more_work_never_takes_less(one: int, other: int, held: Format, context: int) -> None:
    less, more = sorted((one, other))
    costs = Costs(TILED, load_shape("switch-base-8"), held)
    assert costs.expert_ns(less) <= costs.expert_ns(more)
    assert costs.router_ns(less) <= costs.router_ns(more)
    assert costs.head_ns("decode", less) <= costs.head_ns("decode", more)
    assert costs.dense_ns("decode", less, context) <= costs.dense_ns("decode", more, context)
    assert costs.dense_ns("encode", context, less) <= costs.dense_ns("encode", context, more)


@given(st.sampled_from(["device.memory_bandwidth", "gemm.fp32.rate", "host_to_device.pinned.bandwidth"]), rows)
def test_a_slower_machine_is_never_faster(name: str, parts: list[int]) -> None:
    shape = load_shape("switch-base-8")
    fast = Costs(TILED, shape, "fp32")
    slow = Costs(TILED.with_overrides({name: TILED[name] / 2}), shape, "fp32")
    assert slow.load_ns() >= fast.load_ns()
    assert slow.experts_ns(parts) >= fast.experts_ns(parts)
    assert slow.dense_ns("decode", len(parts), 100) >= fast.dense_ns("decode", len(parts), 100)


@pytest.mark.parametrize("name", ["gpt-oss-20b", "switch-base-128", "deepseek-v2-lite"])
def test_the_same_is_computed_before_layers_that_are_alike(name: str) -> None:
    model = load_shape(name)
    costs, layers = Costs(TILED, model, "fp16"), model.decoder.moe_layers
    alike = model.layers_alike("decode", layers + 1)
    assert len(set(alike)) < layers
    assert alike[-1] == alike[layers - 1]  # beyond the model's layers
    for context in (1, 100, 10_000):
        times = [costs.before_ns("decode", 2, context, layer) for layer in range(layers)]
        assert [times[layer] for layer in alike[:layers]] == times
