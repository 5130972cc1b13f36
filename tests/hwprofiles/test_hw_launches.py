"""Launches of experts in every style: measured curves, the roofline of fused kernels, sizes next to measured ones."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hw_tables import Table, points
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError
from specmoe.hwprofiles import (
    Costs,
    Format,
    HardwareProfile,
    ModelShape,
    Steps,
    load_profile,
    load_shape,
    profile_names,
)
from specmoe.hwprofiles.curves import Range
from specmoe.hwprofiles.kernels import (
    CLASSES,
    LAUNCHING,
    MULTIPLY,
    PARTS,
    Launch,
    Share,
    Shares,
    Size,
    Style,
    class_of,
    kernel_shares,
    launch_ns,
    shares_of,
    style_of,
)
from specmoe.hwprofiles.launches import Anchor, anchored, apart, size_of
from specmoe.hwprofiles.shape import FORMATS, bytes_of
from specmoe.hwprofiles.share_fit import Timed, fit_shares
from specmoe.hwprofiles.what_if import scalable, scaled

Maker = Callable[..., HardwareProfile]
SEPARATE, GROUPED, WAIT = (Style("fused", launch) for launch in LAUNCHING)
EXPAND = Style("expand", "separate")
FITTED = [load_profile(name) for name in profile_names() if load_profile(name).expert_curves]
MEASURED = ("switch-base-128", "mixtral-8x7b")  # on all of them
PLAIN: tuple[Format, ...] = ("fp32", "fp16", "bf16")


def curve(values: list[Any], held: str, experts: int = 1, **more: Any) -> Table:
    known = {"d_model": 8, "d_ff": 16, "gated": False, "format": held, "kernel": "fused", "experts": experts}
    return known | {"points": points(values, ("token", "ns"))} | more


# By hand: curves of launches


@pytest.fixture
def grouped(make_profile: Maker) -> HardwareProfile:
    return make_profile(
        {
            "expert_curve": [
                curve([[1, 5000], [3, 5200]], "int4"),
                curve([[1, 6000], [3, 6400]], "int4", 4),
                curve([[1, 8000], [3, 8400]], "int4", 8),
            ]
        }
    )


@pytest.mark.parametrize("style", [GROUPED, WAIT])
def test_a_launch_is_one_of_its_experts_each_with_the_most_tokens(
    grouped: HardwareProfile, shape: ModelShape, style: Style
) -> None:
    costs = Costs(grouped, shape, "int4", style=style)
    assert [costs.launch_ns(rows) for rows in ([], [0, 0], [1], [3], [1, 0, 0], [2])] == [0, 0, 5000, 5200, 5000, 5100]
    assert costs.launch_ns([1] * 4) == 6000
    assert costs.launch_ns([1, 1, 3, 1]) == costs.launch_ns([3] * 4) == 6400
    assert costs.launch_ns([1] * 6) == 7000, "between two measured numbers of experts"
    assert costs.launch_ns([1] * 10) == 9000, "beyond them by the last slope"
    assert costs.use_ns(3) == costs.launch_ns([3])


def test_separate_launches_are_the_sum_of_single_ones(grouped: HardwareProfile, shape: ModelShape) -> None:
    costs = Costs(grouped, shape, "int4", style=SEPARATE)
    assert costs.launch_ns([1, 3, 0, 2]) == 5000 + 5200 + 5100
    assert costs.use_ns(0) == 0


def test_16_bit_experts_alone_are_the_librarys_and_grouped_ones_fused(make_profile: Maker, shape: ModelShape) -> None:
    library = {name: value for name, value in curve([[1, 700]], "bf16").items() if name not in ("kernel", "experts")}
    profile = make_profile({"expert_curve": [library, curve([[1, 900]], "bf16"), curve([[1, 1900]], "bf16", 2)]})
    for multiply in MULTIPLY:
        assert Costs(profile, shape, "bf16", style=Style(multiply, "separate")).launch_ns([1, 1]) == 1400
        assert Costs(profile, shape, "bf16", style=Style(multiply, "grouped")).launch_ns([1, 1]) == 1900


def test_a_single_curve_is_carried_to_other_numbers_by_the_roofline(make_profile: Maker, shape: ModelShape) -> None:
    costs = Costs(make_profile({"expert_curve": [curve([[1, 9000]], "int4", 2)]}), shape, "int4", style=GROUPED)
    size, shares = size_of(shape), shares_of("int4")
    one, two, five = (launch_ns(costs.profile, Launch(size, "int4", experts, 1), shares) for experts in (1, 2, 5))
    assert costs.launch_ns([1, 1]) == 9000
    assert costs.launch_ns([1]) == round(9000 * one / two)
    assert costs.launch_ns([1] * 5) == round(9000 * five / two)


def test_expanded_groups_are_expanded_one_by_one(profile: HardwareProfile, shape: ModelShape) -> None:
    grouped = Costs(profile, shape, "int4", style=Style("expand", "grouped"))
    assert grouped.launch_ns([1, 1]) == 2 * (100 + 512) + Costs(profile, shape, "fp16", style=GROUPED).launch_ns([1, 1])


# The roofline of fused kernels


def test_a_derived_launch_by_hand(profile: HardwareProfile) -> None:
    half = Share(0.5, 0.5, 0.5)
    shares = Shares(half, Share(0, 0, 0), Share(0.25, 0.25, 0.25), Share(3, 3, 3), "by hand")
    # Kernels of 128 weights: 64 bytes and 4 of scales at half of 1 byte a ns; 2 operations a ns, a quarter of them
    assert launch_ns(profile, Launch(Size(8, 16, False), "int4", 1, 1), shares) == 2 * (300 + 512)
    assert launch_ns(profile, Launch(Size(8, 16, False), "q4_k", 3, 0), shares) == 2 * (300 + 3 * 72 * 2)
    assert launch_ns(profile, Launch(Size(8, 16, True), "int4", 2, 1), shares) == (300 + 2048) + (300 + 1024)


@pytest.mark.parametrize("name", profile_names())
def test_no_derived_time_is_below_that_of_the_bytes(name: str) -> None:
    profile = dataclasses.replace(load_profile(name), expert_curves=(), dense_curves=())
    shapes = map(load_shape, ("switch-base-128", "qwen3-30b-a3b", "mixtral-8x7b"))
    for shape, held in itertools.product(shapes, FORMATS):
        for launch in LAUNCHING:
            costs = Costs(profile, shape, held, style=Style("fused", launch), dense_format=held)
            for experts in (1, 8, 100):
                least = experts * bytes_of(size_of(shape).weights, held) / profile["device.memory_bandwidth"] * 1e9
                assert costs.launch_ns([1] * experts) >= int(least)
            dense = bytes_of(shape.dense_parameters("decode"), held) / profile["device.memory_bandwidth"] * 1e9
            head = bytes_of(shape.head_parameters, held) / profile["device.memory_bandwidth"] * 1e9
            assert costs.before_ns("decode", 1, 1) >= int(dense)
            assert costs.head_ns("decode", 1) >= int(head)


@pytest.mark.parametrize("profile", FITTED, ids=lambda profile: profile.name)
@pytest.mark.parametrize("held", ["fp16", "int8", "int4", "q4_k", "mxfp4"])
def test_no_anchored_time_is_below_that_of_the_bytes(profile: HardwareProfile, held: Format) -> None:
    for name in ("olmoe-1b-7b", "qwen3-30b-a3b", "deepseek-moe-16b", "gpt-oss-20b"):
        shape = load_shape(name)
        for launch in LAUNCHING:
            costs = Costs(profile, shape, held, style=Style("fused", launch))
            least = 4 * bytes_of(size_of(shape).weights, held) / profile["device.memory_bandwidth"] * 1e9
            assert costs.launch_ns([1] * 4) >= int(least)
            dense = bytes_of(shape.dense_parameters("decode"), "fp16") / profile["device.memory_bandwidth"] * 1e9
            assert costs.before_ns("decode", 1, 1) >= int(dense)


numbers = st.integers(1, 64)


@given(st.sampled_from(FORMATS), st.sampled_from(LAUNCHING), numbers, numbers, numbers, numbers)
def test_more_work_never_takes_less(
    held: Format, launch: Any, experts: int, more: int, tokens: int, further: int
) -> None:
    costs = Costs(load_profile("rtx4090"), load_shape("gpt-oss-20b"), held, style=Style("fused", launch))
    assert costs.launch_ns([tokens] * experts) <= costs.launch_ns([tokens] * (experts + more))
    assert costs.launch_ns([tokens] * experts) <= costs.launch_ns([tokens + further] * experts)


@given(st.sampled_from(FORMATS), st.integers(2, 32))
def test_one_launch_is_not_slower_than_one_for_each(held: Format, experts: int) -> None:
    profile, shape = load_profile("rtx4090"), load_shape("qwen3-30b-a3b")
    group, alone = (Costs(profile, shape, held, style=style) for style in (GROUPED, SEPARATE))
    assert group.launch_ns([1] * experts) <= experts * group.use_ns(1)
    if held not in PLAIN:
        assert group.use_ns(1) == alone.use_ns(1)


def test_fewer_bits_of_a_class_are_faster() -> None:
    profile, shape = load_profile("rtx4090"), load_shape("mixtral-8x7b")
    for kind in (["q8_0", "q6_k"], ["q5_k", "q4_k", "mxfp4", "iq3_xxs"]):
        times = [Costs(profile, shape, held, style=GROUPED).launch_ns([1, 1]) for held in kind]  # type: ignore[arg-type]
        assert times == sorted(times, reverse=True) and len(set(times)) == len(times)


# Next to what was measured


def test_anchors_by_hand() -> None:
    assert anchored(100, [Anchor(1.0, 2.0)]) == 200
    assert anchored(100, [Anchor(0.0, 3.0), Anchor(1.0, 2.0)]) == 300
    assert anchored(100, [Anchor(1.0, 1.0), Anchor(2.0, 2.0)]) == pytest.approx(100 * (1 + 2 / 4) / 1.25)


def test_a_gated_expert_is_far_from_one_that_is_not() -> None:
    assert apart(Size(8, 16, False), Size(8, 16, False)) == 0
    assert apart(Size(8, 24, False), Size(8, 16, True)) == 1  # of as many weights


def resized(shape: ModelShape, factor: float) -> ModelShape:
    """A shape with wider experts and dense layers."""
    experts = dataclasses.replace(shape.experts, d_ff=round(shape.experts.d_ff * factor))
    stacks = {
        name: dataclasses.replace(stack, dense_d_ff=round(stack.dense_d_ff * factor))
        for name, stack in (("decoder", shape.decoder), ("encoder", shape.encoder))
        if stack
    }
    return dataclasses.replace(shape, experts=experts, **stacks)


@pytest.mark.parametrize("profile", FITTED, ids=lambda profile: profile.name)
@pytest.mark.parametrize("name", MEASURED)
@given(
    held=st.sampled_from([*PLAIN, "int8", "int4"]),
    factor=st.floats(0.995, 1.005),
    style=st.sampled_from([EXPAND, SEPARATE, GROUPED]),
    tokens=st.sampled_from([1, 2, 5, 16, 64]),
)
def test_a_size_next_to_a_measured_one_takes_about_its_time(
    profile: HardwareProfile, name: str, held: Format, factor: float, style: Style, tokens: int
) -> None:
    shape = load_shape(name)
    own, near = (Costs(profile, one, held, style=style) for one in (shape, resized(shape, factor)))
    assert near.launch_ns([tokens] * 2) == pytest.approx(own.launch_ns([tokens] * 2), rel=0.01)
    for phase in ("decode", "encode"):
        assert near.before_ns(phase, tokens, 100) == pytest.approx(own.before_ns(phase, tokens, 100), rel=0.01)  # type: ignore[arg-type]


@pytest.mark.parametrize("held", [*PLAIN, "int8", "int4"])
def test_eight_more_columns_do_not_move_a_step(held: Format) -> None:
    profile, shape = load_profile("h100-sxm5-80gb"), load_shape("switch-base-128")

    def step(one: ModelShape, style: Style) -> int:
        costs = Costs(profile, one, held, style=style)
        return 6 * (costs.before_ns("decode", 1, 64) + costs.use_ns(1)) + costs.head_ns("decode", 1)

    wider = dataclasses.replace(shape, experts=dataclasses.replace(shape.experts, d_ff=3080))
    for style in (EXPAND, SEPARATE, GROUPED):
        assert step(wider, style) == pytest.approx(step(shape, style), rel=0.005)


@pytest.mark.parametrize("profile", FITTED, ids=lambda profile: profile.name)
@given(
    held=st.sampled_from([*PLAIN, "int8", "int4"]),
    d_model=st.integers(256, 8000),
    d_ff=st.integers(256, 20_000),
    gated=st.booleans(),
    style=st.sampled_from([EXPAND, GROUPED]),
)
def test_a_small_change_of_size_is_a_small_change_of_time(
    profile: HardwareProfile, held: Format, d_model: int, d_ff: int, gated: bool, style: Style
) -> None:
    plain = load_shape("mixtral-8x7b")

    def shape(width: int, columns: int) -> ModelShape:
        experts = dataclasses.replace(plain.experts, d_ff=columns, gated=gated)
        return dataclasses.replace(plain, d_model=width, experts=experts)

    own = Costs(profile, shape(d_model, d_ff), held, style=style)
    wider = Costs(profile, shape(d_model + 1, d_ff), held, style=style)
    longer = Costs(profile, shape(d_model, d_ff + 1), held, style=style)
    assert wider.use_ns(1) == pytest.approx(own.use_ns(1), rel=0.015)
    assert longer.use_ns(1) == pytest.approx(own.use_ns(1), rel=0.015)
    assert wider.before_ns("decode", 1, 64) == pytest.approx(own.before_ns("decode", 1, 64), rel=0.015)


# Labels


def test_what_was_not_measured_is_named_and_extrapolated() -> None:
    profile, steps = load_profile("h100-sxm5-80gb"), Steps("decode", Range(1, 1), 64)
    wider = dataclasses.replace(load_shape("switch-base-128"), name="wider", d_model=776)
    costs = Costs(profile, wider, "fp16", moves=(), steps=steps)
    assert costs.evidence == "extrapolated"
    assert costs.warnings == (
        "library kernels of wider in fp16 were not measured on h100-sxm5-80gb: derived from its measured shares",
        "dense parts of wider were not measured on h100-sxm5-80gb: derived from its measured shares",
    )
    measured = Costs(profile, load_shape("switch-base-128"), "fp16", moves=(), steps=steps)
    assert (measured.evidence, measured.warnings) == ("fitted", ())


def test_dense_weights_of_another_format_are_extrapolated() -> None:
    profile, shape = load_profile("h100-sxm5-80gb"), load_shape("mixtral-8x7b")
    usual, same, packed = (
        Costs(profile, shape, "bf16", moves=(), steps=Steps("decode", Range(1, 1), 64), dense_format=held)
        for held in (None, "bf16", "q8_0")
    )
    assert usual.before_ns("decode", 1, 64) == same.before_ns("decode", 1, 64) > packed.before_ns("decode", 1, 64)
    assert usual.head_ns("decode", 1) > packed.head_ns("decode", 1)
    assert usual.router_ns(1) == packed.router_ns(1)
    assert (usual.evidence, packed.evidence) == ("fitted", "extrapolated")
    assert "dense parts of mixtral-8x7b in q8_0 were not measured" in packed.warnings[0]


def test_shares_are_derived(profile: HardwareProfile, shape: ModelShape) -> None:
    assert Costs(profile, shape, "fp16", style=SEPARATE).evidence == "measured"
    assert Costs(profile, shape, "fp16", style=GROUPED).evidence == "fitted"
    assert Costs(profile, shape, "int4", style=SEPARATE).evidence == "fitted"
    assert Costs(profile, shape, "fp16", dense_format="q8_0").evidence == "fitted"


def test_more_experts_than_were_measured_are_named(grouped: HardwareProfile, make_shape: Callable[..., Any]) -> None:
    wide = make_shape({"experts.number": 32, "experts.top_k": 3})

    def lines(tokens: int, style: Style) -> tuple[str, ...]:
        steps = Steps("decode", Range(1, tokens), 8)
        return Costs(grouped, wide, "int4", moves=(), steps=steps, style=style).warnings

    assert lines(2, GROUPED) == lines(9, SEPARATE) == ()
    assert lines(3, WAIT) == ("hand: expert_curve: 9 experts in a launch are outside the measured 1 .. 8",)
    assert "32 experts in a launch" in lines(20, GROUPED)[0]


@pytest.mark.parametrize("held", PLAIN)
def test_a_speed_acts_on_anchored_times_as_on_measured_ones(held: Format) -> None:
    profile, shape = load_profile("h100-sxm5-80gb"), load_shape("switch-base-128")
    quick = scaled(profile, {"expert.speed": 2, "dense.speed": 4})
    for one in (shape, resized(shape, 1.5)):
        costs, faster = (Costs(machine, one, held) for machine in (profile, quick))
        assert faster.use_ns(3) == pytest.approx(costs.use_ns(3) / 2, rel=0.001)
        assert faster.before_ns("decode", 3, 64) == pytest.approx(costs.before_ns("decode", 3, 64) / 4, rel=0.001)
        assert {"expert.speed", "dense.speed"} <= set(scalable(costs))


# Dense weights


def test_dense_weights_by_hand(profile: HardwareProfile, shape: ModelShape) -> None:
    costs = Costs(profile, shape, "fp32", dense_format="q8_0")
    shares, cache = shares_of("q8_0"), 2 * 10 * 16 * 4

    def reading(weights: int) -> float:
        """In ns, of 8.5 bits a weight at 1 byte a ns, or of unpacking at a share of the fp32 rate."""
        unpacking = weights / (profile["gemm.fp32.rate"] * shares.unpack.value) * 1e9
        return max(math.ceil(weights * 8.5 / 8) / shares.memory.value, unpacking)

    assert costs.attention_ns("decode", 1, 10) == 10_000 + round(max(reading(512) + cache, 2 * 512 + 2 * 10 * 32))
    assert costs.head_ns("decode", 1) == 100 + round(max(reading(400), 800))
    assert costs.router_ns(1) == 2000 + 32 * 4


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "q4_k", "style": EXPAND}, "no kernel that expands q4_k: style fused expected"),
        ({"style": Style("fusd", "separate")}, "style 'fusd': did you mean 'fused'?"),  # type: ignore[arg-type]
        ({"style": Style("fused", "group")}, "style 'group': did you mean 'grouped'?"),  # type: ignore[arg-type]
        ({"dense_format": "q4_x"}, "dense format 'q4_x': did you mean"),
    ],
)
def test_unknown_styles(profile: HardwareProfile, shape: ModelShape, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Costs(**({"profile": profile, "shape": shape, "format": "fp32"} | arguments))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_formats_without_kernels_are_not_expanded(profile: HardwareProfile, shape: ModelShape) -> None:
    costs = Costs(profile, shape, "fp16", also_held=("q4_k",))
    assert costs.load_ns(held="q4_k") == 1000 + 144
    with pytest.raises(InputError, match=r"^no kernel that expands q4_k: style fused expected$"):
        costs.dequantise_ns("q4_k")


# Shares


def test_every_class_has_shares_with_a_range_and_a_source() -> None:
    for kind in CLASSES:
        shares = kernel_shares()[kind]
        for part in PARTS:
            share = getattr(shares, part)
            nothing = kind == "16-bit" and part == "unpack"
            assert share == (0, 0, 0) if nothing else 0 < share.low <= share.value <= share.high
        assert shares.memory.high <= 1 and shares.arithmetic.high <= 1
        assert "fitted" in shares.ref or "between" in shares.ref
    assert {class_of(held) for held in FORMATS} == set(CLASSES)


def test_the_ends_of_the_ranges_are_slower_and_faster(profile: HardwareProfile) -> None:
    shares = shares_of("int4")
    for tokens in (1, 16, 256):
        launch = Launch(Size(2880, 2880, True), "int4", 4, tokens)
        slow, usual, fast = (launch_ns(profile, launch, one) for one in (shares.slowest(), shares, shares.fastest()))
        assert slow >= usual >= fast


@pytest.mark.parametrize(
    ("memory", "unpack", "arithmetic", "floor"),
    [(0.9, 0, 0.3, 5), (0.5, 0, 0.035, 4.5), (0.3, 0, 0.1, 0.5), (0.95, 0.02, 0.3, 5), (0.95, 0.05, 0.1, 7)],
)
def test_a_fit_finds_the_shares_that_made_the_times(
    memory: float, unpack: float, arithmetic: float, floor: float
) -> None:
    true = Shares.of([Share(one, one, one) for one in (memory, unpack, arithmetic, floor)], "true")
    launches = [
        Launch(size, "int4", experts, tokens)
        for size in (Size(768, 3072, False), Size(2880, 2880, True), Size(4096, 14336, True))
        for experts in (1, 8)
        for tokens in (1, 8, 64, 512)
    ]
    timed = [Timed(profile, one, launch_ns(profile, one, true)) for profile in FITTED for one in launches]
    found = fit_shares(timed, "fitted", true.memory if unpack else None)
    for part in PARTS:
        one, other = getattr(found, part), getattr(true, part).value
        assert one.value == pytest.approx(other, rel=0.03, abs=1e-4)
        assert one.low <= one.value <= one.high
    errors = [launch_ns(one.profile, one.launch, found) / one.time_ns - 1 for one in timed]
    assert max(map(abs, errors)) < 0.03


def test_nothing_measured_fits_nothing() -> None:
    with pytest.raises(InputError, match="at least one measured launch expected"):
        fit_shares([], "none")


def test_styles_are_read_as_they_are_written() -> None:
    for multiply in MULTIPLY:
        for launch in LAUNCHING:
            assert style_of(str(Style(multiply, launch))) == Style(multiply, launch)
