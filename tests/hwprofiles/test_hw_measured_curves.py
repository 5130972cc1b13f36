"""Costs where experts and dense parts were measured, worked out by hand: 1 byte and 1 operation take 1 ns each.

The shape has 512 dense weights in an attention and 1024 in a dense layer: 1536 before a decoder's router (twice 256 in
each of its two layers' attentions, 512 in the feed-forward part), 1024 before an encoder's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hw_tables import Table, points, quantity
from hypothesis import given
from hypothesis import strategies as st

from specmoe.hwprofiles import Costs, HardwareProfile, ModelShape, Steps
from specmoe.hwprofiles.curves import DenseCurve, Points, Range
from specmoe.hwprofiles.kernels import Style, measured_ns
from specmoe.hwprofiles.profile import Calibration

Maker = Callable[..., HardwareProfile]
EXPAND = Style("expand", "separate")
BEFORE, HEAD, ROUTER = 1536, 400, 32


def dense(values: list[Any], context: int = 32, part: str = "before", phase: str = "decode", **more: Any) -> Table:
    parameters = {"before": {"decode": BEFORE, "encode": 1024}[phase], "head": HEAD, "router": ROUTER}[part]
    known = {"part": part, "phase": phase, "d_model": 8, "parameters": parameters, "format": "fp32", "context": context}
    return known | {"points": points(values, ("token", "ns"))} | more


def expert(values: list[Any], held: str, source: str = "measured") -> Table:
    curve = points(values, ("token", "ns"), source)
    return {"d_model": 8, "d_ff": 16, "gated": False, "format": held, "points": curve}


TWO = [dense([[1, 1000], [4, 1600]], 32), dense([[1, 2000], [4, 2600]], 96)]


def test_what_is_asked_is_what_the_curves_are_of(shape: ModelShape) -> None:
    assert shape.dense_parameters("decode") == BEFORE
    assert shape.dense_parameters("encode") == 1024
    assert (shape.head_parameters, shape.router_parameters) == (HEAD, ROUTER)


# Before a router: inside what was measured


@pytest.mark.parametrize(
    ("tokens", "context", "time"),
    [
        (1, 32, 1000),
        (2, 32, 1200),
        (4, 32, 1600),
        (1, 96, 2000),
        (1, 64, 1500),  # half-way between the contexts
        (2, 48, 1450),
        (3, 80, 2150),
        (1, 1, 1000),  # less than the least context costs no less
    ],
)
def test_inside_the_measured(make_profile: Maker, shape: ModelShape, tokens: int, context: int, time: int) -> None:
    costs = Costs(make_profile({"dense_curve": TWO}), shape, "fp32")
    assert costs.before_ns("decode", tokens, context) == time


def test_fewer_tokens_than_were_measured_take_what_the_fewest_do(make_profile: Maker, shape: ModelShape) -> None:
    costs = Costs(make_profile({"dense_curve": [dense([[16, 1000], [32, 1001]], phase="encode")]}), shape, "fp32")
    assert [costs.before_ns("encode", tokens, 32) for tokens in (1, 15, 16, 32)] == [1000, 1000, 1000, 1001]


def test_beyond_the_measured_the_roofline_adds_what_is_more(make_profile: Maker, shape: ModelShape) -> None:
    costs = Costs(make_profile({"dense_curve": TWO[:1]}), shape, "fp32")
    attentions = 4  # two of each of two layers; 2 * 2 * 8 operations and 16 numbers of 4 bytes a position
    token = max(2 * BEFORE + attentions * 32 * 32, attentions * 32 * 64)
    assert costs.before_ns("decode", 5, 32) == 1600 + token
    assert costs.before_ns("decode", 6, 32) == 1600 + 2 * token
    assert costs.before_ns("decode", 2, 33) == 1200 + 2 * max(attentions * 32, attentions * 64)
    wider = max(2 * BEFORE + attentions * 40 * 32, attentions * 40 * 64)
    assert costs.before_ns("decode", 5, 40) == 1600 + wider + 5 * 8 * attentions * 64


def test_encoding_tokens_share_their_positions(make_profile: Maker, shape: ModelShape) -> None:
    costs = Costs(make_profile({"dense_curve": [dense([[4, 1000]], phase="encode")]}), shape, "fp32")
    assert costs.before_ns("encode", 4, 33) == 1000 + 4 * 2 * 32
    assert costs.before_ns("encode", 5, 32) == 1000 + 2 * 1024 + 2 * 32 * 32


def test_a_larger_context_is_never_faster_whatever_was_measured(make_profile: Maker, shape: ModelShape) -> None:
    noisy = [dense([[1, 1000]], 32), dense([[1, 900]], 64), dense([[1, 1100]], 96)]
    costs = Costs(make_profile({"dense_curve": noisy}), shape, "fp32")
    assert [costs.before_ns("decode", 1, at) for at in (32, 48, 64, 80, 96)] == [1000, 1000, 1000, 1050, 1100]


curves = st.lists(
    st.tuples(st.integers(1, 64), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 500)), min_size=1, max_size=3)),
    min_size=1,
    max_size=3,
    unique_by=lambda drawn: drawn[0],
)


@given(curves, st.integers(1, 90), st.integers(1, 90), st.integers(0, 30), st.integers(0, 30))
def test_more_work_never_takes_less(
    drawn: list[tuple[int, list[tuple[int, int]]]], tokens: int, context: int, more: int, wider: int
) -> None:
    def curve(at: int, steps: list[tuple[int, int]]) -> DenseCurve:
        amounts, times = ([sum(column[: end + 1]) for end in range(len(column))] for column in zip(*steps, strict=True))
        found = Points(tuple(amounts), tuple(times), "token", "measured", "drawn")
        return DenseCurve("before", "decode", 8, 7, "fp32", at, found)

    measured = [curve(*one) for one in sorted(drawn)]

    def roofline(parameters: int, tokens: int, context: int) -> float:
        return max(tokens * (2 * parameters + 5 * context), 9 * tokens * context)

    def time(tokens: int, context: int) -> float:
        return measured_ns(measured, tokens, context, roofline)

    assert time(tokens, context) <= time(tokens + more, context + wider) + 1e-6


# Which curves count


@pytest.mark.parametrize("other", [{"part": "head", "context": 0}, {"phase": "encode"}, {"format": "fp16"}])
def test_other_curves_do_not_count(make_profile: Maker, shape: ModelShape, other: Table) -> None:
    costs = Costs(make_profile({"dense_curve": [TWO[0] | other]}), shape, "fp32")
    assert costs.before_ns("decode", 1, 32) == costs.dense_ns("decode", 1, 32) + costs.router_ns(1)


@pytest.mark.parametrize("other", [{"parameters": 1537}, {"d_model": 9}])
def test_other_sizes_correct_the_roofline(make_profile: Maker, shape: ModelShape, other: Table) -> None:
    near = dense([[1, 70_000], [4, 71_000]]) | other
    costs = Costs(make_profile({"dense_curve": [near]}), shape, "fp32")
    assert costs.dense_ns("decode", 1, 32) == 20_000 + 6144 + 4 * 32 * 64
    assert costs.before_ns("decode", 1, 32) == pytest.approx(70_000, rel=0.001)


def test_compressed_experts_have_dense_parts_of_their_compute_format(make_profile: Maker, shape: ModelShape) -> None:
    costs = Costs(make_profile({"dense_curve": [TWO[0] | {"format": "fp16"}]}), shape, "int8")
    assert costs.before_ns("decode", 1, 32) == 1000


def test_layers_that_differ_have_curves_of_their_own(make_profile: Maker, make_shape: Callable[..., Any]) -> None:
    late = {"layers": 3, "first_moe": 1, "moe_every": 1, "dense_d_ff": 32}
    shape = make_shape({"decoder": late, "encoder": None})
    first, other = shape.dense_parameters("decode", 0), shape.dense_parameters("decode", 1)
    profile = make_profile({"dense_curve": [TWO[0] | {"parameters": first}, TWO[1] | {"parameters": other}]})
    costs = Costs(profile, shape, "fp32")
    assert [costs.before_ns("decode", 1, 32, layer) for layer in (0, 1, -1)] == [1000, 2000, 2000]


def test_heads(make_profile: Maker, shape: ModelShape) -> None:
    head = dense([[1, 70], [2, 80]], 0, "head")
    costs = Costs(make_profile({"dense_curve": [head]}), shape, "fp32")
    assert [costs.head_ns("decode", tokens) for tokens in (0, 1, 2, 4)] == [0, 70, 80, 80 + 2 * 2 * HEAD]
    assert costs.head_ns("encode", 1) == 0, "an encoder writes nothing"


def test_routers(make_profile: Maker, shape: ModelShape) -> None:
    curves = [dense([[1, 300], [2, 310]], 0, "router"), dense([[4, 500]], 0, "router", "encode")]
    costs = Costs(make_profile({"dense_curve": curves}), shape, "fp32")
    assert [costs.router_ns(tokens) for tokens in (0, 1, 2, 4)] == [0, 300, 310, 310 + 2 * 2 * ROUTER]
    assert costs.router_ns(4, "encode") == 500
    assert costs.before_ns("encode", 4, 32) == costs.dense_ns("encode", 4, 32) + 500
    assert costs.before_ns("decode", 1, 32) == costs.dense_ns("decode", 1, 32) + 300


# A link that others use


def test_contention_makes_pinned_copies_longer_and_no_others(make_profile: Maker, shape: ModelShape) -> None:
    profile = make_profile({"link.contention": quantity(1.5, "1", "derived")})
    costs = Costs(profile, shape, "fp32", moves=("host-pinned", "host-pageable", "nvme"))
    assert costs.load_ns("host-pinned") == 3036  # 1.5 * (1000 + 1024)
    assert costs.load_ns("host-pageable") == costs.load_ns("nvme") == 2024
    assert costs.load_ns("vram") == 0
    assert Costs(make_profile(), shape, "fp32").load_ns() == 2024
    assert "link.contention" in costs.uses and costs.evidence == "fitted"
    assert Costs(profile, shape, "fp32", moves=("nvme",)).evidence == "measured"


# Experts out of their slots


def test_the_slots_own_format_was_measured(make_profile: Maker, shape: ModelShape) -> None:
    curves = [expert([[1, 500], [3, 600]], "int8"), expert([[1, 50], [3, 60]], "fp16")]
    costs = Costs(make_profile({"expert_curve": curves}), shape, "int8", also_held=("int4",), style=EXPAND)
    assert [costs.use_ns(tokens) for tokens in (0, 1, 2, 3, 5)] == [0, 500, 550, 600, 700]
    assert costs.expert_ns(1) == 50, "alone, expanded"
    assert Costs(costs.profile, shape, "int4", style=EXPAND).use_ns(1) == (100 + 512) + 50
    assert Costs(costs.profile, shape, "fp16").use_ns(1) == 50


def test_without_curves_a_use_is_an_expansion_and_an_expert(profile: HardwareProfile, shape: ModelShape) -> None:
    for held in ("fp32", "int8", "int4"):
        costs = Costs(profile, shape, held, style=EXPAND)  # type: ignore[arg-type]
        assert [costs.use_ns(tokens) for tokens in (0, 3)] == [0, costs.dequantise_ns() + costs.expert_ns(3)]


def test_measured_expansion_goes_before_its_rate(make_profile: Maker, shape: ModelShape) -> None:
    profile = make_profile({"dequantise.int8.points": points([[256, 700], [1024, 900]])})
    costs = Costs(profile, shape, "int8", style=EXPAND)
    assert costs.dequantise_ns() == 767  # 512 bytes: a third of the way
    assert Costs(profile, shape, "int4").dequantise_ns() == 100 + 512
    faster = Costs(profile.with_overrides({"dequantise.int8.rate": 1e12}), shape, "int8", style=EXPAND)
    assert faster.dequantise_ns() == costs.dequantise_ns()
    assert faster.assumed == (), "the rate is not used"
    assert "dequantise.int8.points" in costs.uses


# What the costs rest on

ALL = [*TWO, dense([[1, 70], [4, 80]], 0, "head")]
DECODE = Steps("decode", Range(1, 4), 96)


def measured_all(make_profile: Maker, **more: Any) -> HardwareProfile:
    return make_profile({"dense_curve": ALL, "expert_curve": [expert([[1, 50]], "fp32")], **more})


def test_what_is_measured_needs_no_roofline(make_profile: Maker, shape: ModelShape) -> None:
    guesses = ("dense.layer_floor", "router.floor", "gemm.fp32.rate", "device.memory_bandwidth")
    profile = measured_all(make_profile, **{f"{name}.source": "assumed" for name in guesses})
    costs = Costs(profile, shape, "fp32", steps=DECODE)
    assert (costs.evidence, costs.assumed, costs.warnings) == ("measured", (), ())
    assert not set(guesses) & set(costs.uses)
    assert {"device.kernel_floor", "host.graph.sync", "host_to_device.pinned.latency"} <= set(costs.uses)


@pytest.mark.parametrize(
    "steps",
    [None, Steps("encode", Range(1, 4), 96), Steps("decode", Range(1, 5), 96), Steps("decode", Range(1, 4), 97)],
)
def test_what_is_not_measured_does(make_profile: Maker, shape: ModelShape, steps: Steps | None) -> None:
    profile = measured_all(make_profile, **{"gemm.fp32.rate.source": "assumed"})
    assert Costs(profile, shape, "fp32", steps=steps).assumed == ("gemm.fp32.rate",)


@pytest.mark.parametrize("missing", [0, 2])
def test_one_part_that_was_not_measured_is_enough(make_profile: Maker, shape: ModelShape, missing: int) -> None:
    rest = [curve for at, curve in enumerate(ALL) if at != missing and (missing != 0 or at != 1)]
    profile = measured_all(make_profile, dense_curve=rest)
    assert {"dense.layer_floor", "router.floor", "gemm.fp32.rate"} <= set(
        Costs(profile, shape, "fp32", steps=DECODE).uses
    )


def test_without_an_experts_curve_the_roofline_is_used_for_it_alone(make_profile: Maker, shape: ModelShape) -> None:
    uses = Costs(measured_all(make_profile, expert_curve=[]), shape, "fp32", steps=DECODE).uses
    assert "gemm.fp32.efficiency" in uses and "dense.layer_floor" not in uses


@pytest.mark.parametrize(("source", "evidence"), [("derived", "fitted"), ("published", "published")])
def test_the_weakest_curve_decides(make_profile: Maker, shape: ModelShape, source: str, evidence: str) -> None:
    weak = dense([[1, 70], [4, 80]], 0, "head", points=points([[1, 70], [4, 80]], ("token", "ns"), source))
    assert Costs(measured_all(make_profile, dense_curve=[*TWO, weak]), shape, "fp32", steps=DECODE).evidence == evidence


def test_assumed_curves_are_named(make_profile: Maker, shape: ModelShape) -> None:
    guess = dense([[1, 70]], 0, "head", points=points([[1, 70]], ("token", "ns"), "assumed"))
    profile = make_profile({"dense_curve": [guess], "expert_curve": [expert([[1, 50]], "fp32", "assumed")]})
    costs = Costs(profile, shape, "fp32")
    assert costs.assumed == ("expert_curve", "dense_curve")
    assert costs.evidence == "assumed"


def test_expansion_counts_only_where_it_is_timed_apart(make_profile: Maker, shape: ModelShape) -> None:
    guess = {"dequantise.int8.rate.source": "assumed"}
    profile = make_profile({"expert_curve": [expert([[1, 500]], "int8")], **guess})
    assert Costs(profile, shape, "int8", style=EXPAND).assumed == ()
    assert Costs(make_profile(guess), shape, "int8").assumed == (), "packed weights are read as they are"
    assert Costs(profile, shape, "fp16", also_held=("int8",)).assumed == ("dequantise.int8.rate",)
    assert Costs(make_profile(guess), shape, "int8", style=EXPAND).assumed == ("dequantise.int8.rate",)


@pytest.mark.parametrize(
    ("steps", "warnings"),
    [
        (DECODE, ()),
        (Steps("decode", Range(1, 8), 96), ("8 token is outside the measured 1 token .. 4 token",)),
        (Steps("decode", Range(2, 3), 128), ("128 positions are outside the measured 32 .. 96",)),
    ],
)
def test_leaving_dense_curves_is_told(
    make_profile: Maker, shape: ModelShape, steps: Steps | None, warnings: tuple[str, ...]
) -> None:
    costs = Costs(measured_all(make_profile), shape, "fp32", steps=steps)
    assert costs.warnings == tuple(f"hand: dense_curve: {line}" for line in warnings)
    assert costs.evidence == ("extrapolated" if warnings else "measured")


@pytest.mark.parametrize("steps", [None, Steps("encode", Range(1, 900), 999)])
def test_a_phase_that_was_not_measured_is_named(make_profile: Maker, shape: ModelShape, steps: Steps | None) -> None:
    costs = Costs(measured_all(make_profile), shape, "fp32", steps=steps)
    assert costs.warnings == ("dense parts of hand were not measured on hand: derived from its rates",)
    assert costs.evidence == "extrapolated"


def test_fewer_tokens_than_measured_are_told(make_profile: Maker, shape: ModelShape) -> None:
    encode = dense([[16, 1000], [32, 1001]], phase="encode")
    profile = make_profile({"dense_curve": [encode], "expert_curve": [expert([[1, 50]], "fp32")]})
    (warning,) = Costs(profile, shape, "fp32", steps=Steps("encode", Range(3, 20), 32)).warnings
    assert warning == "hand: dense_curve: 3 token is outside the measured 16 token .. 32 token"


def test_leaving_other_curves_is_told(make_profile: Maker, shape: ModelShape) -> None:
    changes = {"expert_curve": [expert([[1, 500], [2, 501]], "int8")]}
    changes |= {"dequantise.int4.points": points([[1024, 700], [2048, 900]])}
    costs = Costs(make_profile(changes), shape, "int8", also_held=("int4",), most_tokens=3, style=EXPAND)
    assert costs.warnings == (
        "hand: dequantise.int4: 512 B is outside the measured 1 KiB .. 2 KiB",
        "hand: expert_curve: 3 token is outside the measured 1 token .. 2 token",
    )


# Calibration

MISSED = {"median_abs_error": 0.008, "worst_abs_error": 0.0612, "cells": 11, "fit_cells": 4, "met": False, "ref": "tau"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "worst held-out error 6.1 %, at most 4 % expected"),
        ({"worst_abs_error": 0.02, "median_abs_error": 0.016}, "median held-out error 1.6 %, at most 1 % expected"),
        ({"worst_abs_error": 0.02}, "tau"),
    ],
)
def test_a_missed_calibration_marks_results(
    make_profile: Maker, shape: ModelShape, change: dict[str, Any], told: str
) -> None:
    costs = Costs(make_profile({"calibration": MISSED | change}), shape, "fp32")
    assert costs.warnings == (f"hand: its calibration missed its target: {told}",)
    assert costs.evidence == "measured", "nothing was asked beyond what was measured"


def test_a_calibration_that_met_its_target_says_nothing(make_profile: Maker, shape: ModelShape) -> None:
    assert Costs(make_profile({"calibration": MISSED | {"met": True}}), shape, "fp32").warnings == ()
    assert Calibration(0.5, 0.5, 1, 1, True, "r").shortfall is None


# Beside the points of a curve


def test_other_points_of_a_link_are_shown_beside_its_curve(make_profile: Maker) -> None:
    from specmoe.hwprofiles.fit import fit_rows, refit

    changes: dict[str, Any] = {
        "host_to_device.pinned.bandwidth": None,
        "host_to_device.pinned.points": points([[1000, 2000]]),
        "host_to_device.pinned.isolated": points([[1000, 2500]]),
        "host_to_device.pinned.busy": points([[1000, 1900]]),
        "dequantise.int4.points": points([[512, 700]]),
    }
    profile = make_profile(changes)
    assert {row.what: (row.measured_ns, row.model_ns) for row in fit_rows(profile)} == {
        "host_to_device.pinned.points": (2000, 2000),
        "host_to_device.pinned.isolated": (2500, 2000),
        "host_to_device.pinned.busy": (1900, 2000),
        "dequantise.int4.points": (700, 700),
    }
    assert refit(profile) == {}


def test_noise_in_isolated_and_busy_points_is_no_error(make_profile: Maker) -> None:
    falling = {f"nvme.{role}": points([[1, 9], [2, 8]]) for role in ("isolated", "busy")}
    assert set(make_profile(falling).points) == set(falling)
