"""What a result says of its policy: by hand, properties, refusals."""

from __future__ import annotations

import dataclasses
import math

import pytest
from comparison_points import about_of, made, manifest, policies, result, two_steps, yardstick
from hypothesis import given
from hypothesis import strategies as st

from specmoe.analysis.point import Point, caption, parts_within, point, ranked, three_digits, visible_limit, winner
from specmoe.errors import InputError
from specmoe.results import RunResult
from specmoe.summary import summary

TIMES = st.floats(0, 1e12, allow_nan=False)


def by_hand() -> RunResult:
    return two_steps(manifest(slots=4, expert_bytes=2**30))


def test_by_hand_parts_add_up() -> None:
    found = point(by_hand())
    assert (found.compute_ns, found.stall_ns, found.idle_ns) == (115, 35, 75)
    assert found.latency_ns == 225 == summary(by_hand())["latency_mean_ns"]


def test_by_hand_shares() -> None:
    found = point(by_hand())
    assert (found.hit_rate, found.useful_share, found.prefetches) == (0.75, 0.75, True)
    assert (found.steps, found.vram_gib) == (2, 4.0)
    told = summary(by_hand())
    assert found.useful_share == 1 - told["bytes_wasted"] / told["bytes_loaded"]
    assert found.hit_rate == told["hit_rate"]


def test_nothing_demanded_and_nothing_loaded_is_no_failure() -> None:
    found = point(result(manifest(num_layers=1), begin_ns=[0], end_ns=[10], compute_ns=[4]))
    assert (found.hit_rate, found.useful_share, found.prefetches, found.idle_ns) == (1.0, 1.0, False, 6)


@given(TIMES, TIMES, TIMES, TIMES)
def test_property_cut_parts_fill_the_limit(compute: float, stall: float, idle: float, limit: float) -> None:
    whole = Point(about_of(manifest()), 1, compute, stall, idle, hit_rate=0, useful_share=0, prefetches=False)
    parts = parts_within(whole, limit)
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(min(whole.latency_ns, limit))


def test_by_hand_parts_are_cut_from_the_end() -> None:
    whole = made(manifest(), stall_ms=2)
    assert parts_within(whole, 1e9) == (600_000, 2_000_000, 400_000)
    assert parts_within(whole, 1e6) == (600_000, 400_000, 0)
    assert parts_within(whole, 100) == (100, 0, 0)


def test_yardsticks_do_not_win() -> None:
    points = policies()
    assert [p.about.policy for p in points if p.yardstick] == ["gpu-only", "oracle", "belady"]
    assert [p.about.policy for p in points if p.all_resident] == ["gpu-only"]
    assert winner(points) is points[3]
    assert winner(points[:3]) is None


def test_the_manifest_says_who_is_a_yardstick_whatever_the_parts_are_called() -> None:
    knowing, guessing = made(yardstick("p", predictor="clairvoyant"), 0.1), made(manifest("oracle"), 0.9)
    assert (knowing.yardstick, guessing.yardstick) == (True, False)
    assert winner([knowing, guessing]) is guessing


def test_ties_go_by_name() -> None:
    points = [made(manifest(name)) for name in ("b", "c", "a")]
    assert [p.about.policy for p in ranked(points)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("values", "limit"),
    [([1, 2, 4, 200], 4), ([5], 5), ([1, 3], 3), ([1, 3.1], 1), ([1, 2, 6, math.nan], 6), ([0, 0, 5], 0)],
)
def test_by_hand_visible_limit(values: list[float], limit: float) -> None:
    assert visible_limit(values) == limit


@given(st.lists(st.floats(1, 1e9), min_size=1))
def test_property_half_is_always_visible(values: list[float]) -> None:
    limit = visible_limit(values)
    assert limit in values
    assert 2 * sum(value <= limit for value in values) >= len(values)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.9391, "1.94"), (43.21, "43.2"), (463.25, "463"), (12345.6, "12346"), (0, "0")],
)
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_caption_says_what_was_run_and_how_good_it_is() -> None:
    assert caption(policies()) == (
        "Routing: switch-mini-128/decode/test (trained-here), decode, 100 steps of batch 1; replay event-atomic.\n"
        "Timing: switch-base-128 in fp16, 128 slots, on rtx3090 (evidence: assumed)."
    )


def test_caption_tells_spans_and_changes() -> None:
    sizes = [made(manifest(slots=slots, parameters={"set": ["link.x=1"]})) for slots in (64, 8, 16)]
    assert "8 to 64 slots" in caption(sizes)
    assert "changed: link.x=1" in caption(sizes)
    assert "slots" not in caption([made(yardstick("gpu-only", sharing="all-resident"))])


@pytest.mark.parametrize(
    ("field", "value"), [("trace", "x"), ("trace_kind", "random"), ("profile", "x"), ("format", "int4"), ("batch", 8)]
)
def test_unlike_results_are_refused(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"differ in {field} "):
        caption([made(manifest()), made(manifest("static", **{field: value}))])


def test_no_results_are_refused() -> None:
    with pytest.raises(InputError, match="no results"):
        caption([])


def test_unknown_bounds_are_nan() -> None:
    assert math.isnan(made(manifest(bounds={})).bound_ns("floor"))
    assert made(manifest()).bound_ns("floor") == 1_000_000


def test_caption_goes_across_what_it_is_told_to() -> None:
    points = [made(manifest(batch=batch, profile=name)) for batch, name in ((1, "a"), (8, "b"), (2, "b"))]
    told = caption(points, ("batch", "profile"))
    assert "steps of batch 1 to 8;" in told
    assert "on a, b (evidence" in told
    with pytest.raises(InputError, match=r"differ in batch \(1, 2, 8\)"):
        caption(points, ("profile",))


def test_caption_repeats_the_warnings_that_hold_for_all() -> None:
    routed, slots = "routing of a timed with the shape of b", "64 slots are fewer than the"
    points = [made(manifest(warnings=(routed,))), made(manifest("static", warnings=(slots, routed)))]
    assert caption(points).endswith(f"\nWarning: {routed}.")


def test_caption_tells_what_is_changed_for_one_policy_only() -> None:
    guessing = yardstick("noisy-oracle", predictor="noisy_oracle")
    guessing = dataclasses.replace(guessing, parameters=guessing.parameters | {"set": ["a=1", "b=2"]})
    points = [made(guessing), made(manifest(parameters={"set": ["a=1"]}))]
    assert caption(points).endswith("changed: a=1, b=2 (noisy-oracle).")
