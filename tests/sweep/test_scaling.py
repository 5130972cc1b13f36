"""Profiles with numbers set or multiplied: what changes, by how much, and what is no such number."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile, load_shape, profile_names
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.curves import Range
from specmoe.hwprofiles.kernels import Steps
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.what_if import scalable, scaled, settable, with_values
from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.summary import summary

LINK = "host_to_device.pinned.bandwidth"
LINE, CURVE = load_profile("rtx3090"), load_profile("h100-sxm5-80gb")
SHAPE = load_shape("switch-base-128")
STEPS = Steps("decode", Range(1, 512), 256)


def costs(profile: HardwareProfile, held: Any = "fp16", **more: Any) -> Costs:
    return Costs(profile, SHAPE, held, **{"steps": STEPS, **more})


def everything(known: Costs) -> tuple[Any, ...]:
    """What a run of one token a step, or of hundreds, may ask."""
    moves = [known.load_ns("nvme" if move == "nvme" else move) for move in known.moves]  # type: ignore[arg-type]
    parts = [
        (known.before_ns("decode", tokens, 256), known.head_ns("decode", tokens), known.use_ns(tokens))
        for tokens in (1, 512)
    ]
    beside = (known.profile.interference, known.router_ns(1))
    return (*known.host, *moves, *parts, *beside)


def test_a_quantity() -> None:
    assert scaled(LINE, {"host.graph.sync": 3}).ns("host.graph.sync") == 3 * LINE.ns("host.graph.sync")
    assert "host.graph.sync" in scaled(LINE, {"host.graph.sync": 3}).assumed()
    assert scaled(LINE, {}) == LINE


@pytest.mark.parametrize("profile", [LINE, CURVE], ids=lambda profile: profile.name)
def test_a_link_twice_as_fast(profile: HardwareProfile) -> None:
    faster = scaled(profile, {LINK: 2})
    assert faster.plateau("host_to_device.pinned") == pytest.approx(
        2 * profile.plateau("host_to_device.pinned"), rel=1e-5
    )
    amount, latency = 64 << 20, profile.ns("host_to_device.pinned.latency")
    before, after = (each.curve("host_to_device.pinned")(amount) - latency for each in (profile, faster))
    assert after == pytest.approx(before / 2, rel=0.01)


@pytest.mark.parametrize("profile", [LINE, CURVE], ids=lambda profile: profile.name)
def test_a_link_that_is_set(profile: HardwareProfile) -> None:
    assert with_values(profile, {LINK: 2e10}).plateau("host_to_device.pinned") == pytest.approx(2e10, rel=1e-5)
    assert LINK in settable(profile)


def test_a_latency_is_set_before_the_curve_is_stretched_from_it() -> None:
    both = with_values(CURVE, {LINK: 2e10, "host_to_device.pinned.latency": 50_000})
    assert both == with_values(with_values(CURVE, {"host_to_device.pinned.latency": 50_000}), {LINK: 2e10})
    assert both.plateau("host_to_device.pinned") == pytest.approx(2e10, rel=1e-5)


def test_an_expansion_that_is_a_curve() -> None:
    assert "dequantise.int8.points" in CURVE.points
    before, after = (
        costs(profile, "int8").dequantise_ns() for profile in (CURVE, scaled(CURVE, {"dequantise.int8.rate": 0.5}))
    )
    assert 1.3 * before < after < 2 * before  # the kernel's floor stays


def test_faster_experts_where_they_were_measured() -> None:
    faster = costs(scaled(CURVE, {"expert.speed": 2}))
    assert faster.use_ns(1) == pytest.approx(costs(CURVE).use_ns(1) / 2, abs=1)
    assert faster.before_ns("decode", 1, 256) == costs(CURVE).before_ns("decode", 1, 256)
    assert "expert_curve" in faster.assumed


def test_faster_dense_parts_where_they_were_measured() -> None:
    faster = costs(scaled(CURVE, {"dense.speed": 2}))
    assert faster.before_ns("decode", 1, 256) == pytest.approx(costs(CURVE).before_ns("decode", 1, 256) / 2, abs=1)
    assert faster.use_ns(1) == costs(CURVE).use_ns(1)


def test_without_measured_curves_a_speed_is_the_rooflines_of_its_own_part() -> None:
    slow, experts, dense = (
        costs(LINE),
        costs(scaled(LINE, {"expert.speed": 1e6})),
        costs(scaled(LINE, {"dense.speed": 1e6})),
    )
    assert experts.use_ns(1) == pytest.approx(2 * LINE.ns("device.kernel_floor"), abs=2)
    assert experts.use_ns(1) < slow.use_ns(1) == dense.use_ns(1)
    assert dense.before_ns("decode", 1, 256) < slow.before_ns("decode", 1, 256) == experts.before_ns("decode", 1, 256)
    assert dense.head_ns("decode", 1) < slow.head_ns("decode", 1) == experts.head_ns("decode", 1)
    for faster in (experts, dense):
        assert "device.memory_bandwidth" in faster.assumed
    assert len({LINE.hash, *(scaled(LINE, {name: 2}).hash for name in ("expert.speed", "dense.speed"))}) == 3


@pytest.mark.parametrize("factor", [0.5, 2, 4])
def test_two_speeds_multiply_the_roofline_once(factor: float) -> None:
    both = costs(scaled(LINE, {"expert.speed": factor, "dense.speed": factor}))
    whole = costs(scaled(LINE, {"device.memory_bandwidth": factor, "gemm.fp16.rate": factor}))
    assert everything(both) == everything(whole)


@pytest.mark.parametrize("name", ["link.generation", "link.lanes"])
def test_what_describes_a_link_is_not_to_be_changed(name: str) -> None:
    assert name not in settable(LINE)
    for change in (scaled, with_values):
        with pytest.raises(InputError, match=f"{name}: .* describes the link and changes no time: set {LINK}$"):
            change(LINE, {name: 8})


@pytest.mark.parametrize("profile", [load_profile(name) for name in profile_names()], ids=profile_names())
@given(
    latency=st.one_of(st.none(), st.integers(0, 10**9)),
    rate=st.one_of(st.none(), st.floats(1e6, 1e13)),
    floor=st.one_of(st.none(), st.integers(0, 10**9)),
)
def test_a_changed_curve_is_positive_and_never_falls(
    profile: HardwareProfile, latency: int | None, rate: float | None, floor: int | None
) -> None:
    copy = LINK.removesuffix(".bandwidth")
    values = {f"{copy}.latency": latency, LINK: rate, "dequantise.int8.rate": rate, "device.kernel_floor": floor}
    try:
        changed = with_values(profile, {name: value for name, value in values.items() if value is not None})
    except InputError as error:
        assert "more than 0 and below" in str(error)
        return
    for group in (copy, "dequantise.int8"):
        sizes = [0, 1, 4096, 1 << 20, 1 << 25, 1 << 28, 1 << 34]
        times = [changed.curve(group)(size) for size in sizes]
        assert times == sorted(times)
        assert times[0] >= 0
    if latency is not None:
        assert changed.curve(copy)(0) == latency
    if rate is not None:
        assert changed.plateau(copy) == pytest.approx(rate, rel=0.01)


def test_latency_is_added_to_a_measured_curve() -> None:
    copy, more = "host_to_device.pinned", 400_000
    old = CURVE.ns(f"{copy}.latency")
    slower = with_values(CURVE, {f"{copy}.latency": old + more})
    for size in (1 << 12, 1 << 20, 1 << 26):
        assert slower.curve(copy)(size) == CURVE.curve(copy)(size) + more
    assert with_values(slower, {f"{copy}.latency": old}).points[f"{copy}.points"].times_ns == (
        CURVE.points[f"{copy}.points"].times_ns
    )
    assert "host_to_device.pinned.latency" in scalable(costs(CURVE))


def test_latency_and_bandwidth_of_a_measured_link_slow_a_run_in_simulate_and_sweep() -> None:
    spec = RunConfig("switch-mini-128/decode/test", profile="h100-sxm5-80gb", format="fp16", slots=60, steps=20)
    means = []
    for latency in (10_000, 100_000, 400_000):
        settings = {LINK: 5e9, "host_to_device.pinned.latency": latency}
        run = Scenario(spec.having(settings)).run("on-demand-lru")
        cell = RunConfig(spec.trace, "on-demand-lru", "h100-sxm5-80gb", format="fp16", slots=60, steps=20)
        (row,) = evaluate([dataclasses.replace(cell, settings=tuple(settings.items()))])
        means.append(summary(run.result)["latency_mean_ns"])
        assert row["latency_mean_ns"] == pytest.approx(means[-1], abs=1)
    assert means == sorted(set(means))


@pytest.mark.parametrize("held", ["fp16", "int4"])
@pytest.mark.parametrize("name", profile_names())
def test_every_scalable_number_matters_and_no_other_does(name: str, held: Any) -> None:
    profile = load_profile(name)
    known = costs(profile, held)
    names = scalable(known)
    assert len(set(names)) == len(names)

    def matters(each: str) -> bool:
        return everything(dataclasses.replace(known, profile=scaled(profile, {each: 0.5}))) != everything(known)

    unpacking = {"gemm.fp32.rate"}  # of int4 weights, which takes longer than reading them on some machines only
    assert [each for each in names if not matters(each) and each not in unpacking] == []
    others = set(settable(profile)) - {*names, "gemm.fp16.efficiency"}  # which is its rate's factor
    assert [each for each in sorted(others) if matters(each)] == []


def test_numbers_of_what_is_asked_for_only() -> None:
    assert "host_to_device.pageable.bandwidth" in scalable(costs(CURVE, moves=("host-pageable",)))
    assert {"nvme.bandwidth", "nvme.latency"} <= set(scalable(costs(LINE, moves=("host-pinned", "nvme"))))
    assert "host.eager.sync" in scalable(costs(LINE, host_set="eager"))
    assert "dequantise.int4.rate" in scalable(costs(CURVE, also_held=("int4",)))


@pytest.mark.parametrize(
    ("factors", "told"),
    [
        ({"host.graph.snyc": 2}, "h100-sxm5-80gb: host.graph.snyc: nothing to scale: did you mean 'host.graph.sync'"),
        ({"dense.sped": 2}, "did you mean 'dense.speed'"),
        ({LINK: 0}, f"--scale {LINK}=0: a finite number above 0"),
        ({LINK: float("inf")}, "a finite number above 0"),
        ({LINK: 1e9}, "more than 0 and below"),
        ({"gemm.fp16.efficiency": 5}, "at most 1"),
    ],
)
def test_what_cannot_be_scaled(factors: dict[str, float], told: str) -> None:
    with pytest.raises(InputError, match=told):
        scaled(CURVE, factors)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"host_to_device.pinned.bandwith": 1e9}, f"no such quantity: did you mean '{LINK}'"),
        ({LINK: -1}, "more than 0"),
        ({LINK: 1e30}, "below"),
        ({"expert.speed": 2}, "no such quantity"),
        ({"device.vram": float("nan")}, "a finite number"),
    ],
)
def test_what_cannot_be_set(values: dict[str, float], told: str) -> None:
    with pytest.raises(InputError, match=told):
        with_values(CURVE, values)


def test_a_run_may_set_the_link_of_a_measured_machine() -> None:
    spec = RunConfig("switch-mini-128/decode/test", profile="h100-sxm5-80gb", format="fp16", slots=60, steps=20)
    own = Scenario(spec)
    same = Scenario(spec.having({LINK: own.profile.plateau("host_to_device.pinned")}))
    slow = Scenario(spec.having({LINK: 5e9}))
    means = [int(each.run("on-demand-lru").timing.step_end[-1]) for each in (own, same, slow)]
    assert means[0] == means[1] < means[2]
    assert slow.run("on-demand-lru").result.manifest.evidence == "assumed"
    with pytest.raises(InputError, match=f"did you mean '{LINK}'"):
        Scenario(dataclasses.replace(spec, settings=(("host_to_device.pined.bandwidth", 5e9),)))


def test_tiles_have_a_size() -> None:
    tiled, name = load_profile("a100-sxm4-80gb"), "expert_tiles.fp32.rows"
    for change in (lambda: with_values(tiled, {name: 0.5}), lambda: scaled(tiled, {name: 1e-4})):
        with pytest.raises(InputError, match=f"{name}: .*: 1 or more expected$"):
            change()
