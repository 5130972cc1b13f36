"""The published experiment: contract, targets, and what must hold of any model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from specmoe.cli import app
from specmoe.hwprofiles import load_profile, load_shape
from specmoe.hwprofiles.fit import layer_ns, observations
from specmoe.sim.reproduce.isca24 import ACTIVE, METHODS, PROFILE, costs_of, reproduce, switch_shapes
from specmoe.sim.reproduce.report import NAMES, measured

Found = Callable[[str], dict[str, Any]]
SHAPES = switch_shapes()
BASE = [shape for shape in SHAPES if shape.startswith("switch-base-")]


def test_every_switch_shape_is_there() -> None:
    sizes = (8, 16, 32, 64, 128, 256)
    assert set(SHAPES) == {*(f"switch-base-{size}" for size in sizes), "switch-large-128", "switch-xxl-128"}


@pytest.mark.parametrize("shape", SHAPES)
def test_contract_of_the_json(found: Found, shape: str) -> None:
    answer = found(shape)
    assert answer["shape"] == shape
    for figure in ("block_latency_ms", "tokens_per_second"):
        assert tuple(answer[figure]) == METHODS
        assert all(value > 0 for value in answer[figure].values())
    assert set(answer["on_demand_lru"]) == {"intercept_ms", "slope_ms"}
    experts = load_shape(shape).experts.number
    assert list(answer["active_experts"]) == [str(active) for active in ACTIVE if active <= experts]
    assert all(tuple(bars) == METHODS for bars in answer["active_experts"].values())
    assert (answer["profile"], answer["format"], answer["trace_kind"]) == (PROFILE, "fp32", "synthetic")
    assert answer["evidence"] == "assumed"
    assert "router.floor" in answer["assumed"]
    assert "routing is synthetic: uniformly random, seed 0" in answer["warnings"]


@pytest.mark.parametrize("shape", SHAPES)
def test_only_the_measured_model_is_compared(found: Found, shape: str) -> None:
    answer = found(shape)
    compared = [answer[name] for name in ("measured", "errors", "ratio_errors", "targets")]
    assert all(compared) if shape == "switch-base-64" else compared == [None] * 4


def test_targets_on_the_measured_model(found: Found) -> None:
    latency, ratio = found("switch-base-64")["targets"]
    assert (latency["what"], latency["limit"], latency["met"]) == ("block latency", 0.10, True)
    assert (ratio["what"], ratio["limit"], ratio["met"]) == ("ratio between methods", 0.05, True)
    # What is really reached; figure 10 alone is far better.
    assert latency["worst"] <= 0.035
    assert ratio["worst"] <= 0.045
    answer = found("switch-base-64")
    assert max(map(abs, answer["errors"]["block_latency_ms"].values())) <= 0.010
    assert max(map(abs, answer["ratio_errors"].values())) <= 0.010


def test_throughput_that_nothing_was_fitted_on(found: Found) -> None:
    answer = found("switch-base-64")
    errors, theirs = answer["errors"]["tokens_per_second"], answer["measured"]["tokens_per_second"]
    assert max(abs(errors[method]) for method in ("gpu-only", "pregated", "on-demand")) <= 0.04
    assert round(answer["tokens_per_second"]["prefetch-all"]) == theirs["prefetch-all"]


def test_by_hand_errors(found: Found) -> None:
    answer = found("switch-base-64")
    pregated, on_demand = (answer["block_latency_ms"][method] for method in ("pregated", "on-demand"))
    assert answer["errors"]["block_latency_ms"]["pregated"] == pytest.approx(pregated / 1.12859 - 1)
    both = on_demand / pregated / (1.77755 / 1.12859) - 1
    assert answer["ratio_errors"]["on-demand / pregated"] == pytest.approx(both)


def test_the_numbers_of_the_paper() -> None:
    seen = measured("switch-base-64")
    assert seen is not None
    assert seen.block_latency_ms["pregated"] == 1.12859
    assert seen.tokens_per_second == {"gpu-only": 142, "pregated": 113, "on-demand": 78, "prefetch-all": 3}
    assert seen.active_experts[32]["on-demand"] == 27.4829
    assert sorted(seen.active_experts) == list(ACTIVE)
    assert measured("switch-base-128") is None


def test_differential_against_the_formulas_that_the_profile_was_fitted_with(found: Found) -> None:
    answer, profile = found("switch-base-64"), load_profile(PROFILE)
    for seen in observations():
        forced, alone = answer["active_experts"][str(seen.active)], answer["block_latency_ms"]
        ours = (forced if seen.batch > 1 else alone)[NAMES[seen.method]]
        # The engine's host also waits between layers, which the formulas leave out: 21 us more to hide a fetch in.
        assert ours == pytest.approx(layer_ns(profile, seen) / 1e6, rel=0.007), str(seen)


@pytest.mark.parametrize("shape", SHAPES)
def test_order_of_the_methods(found: Found, shape: str) -> None:
    answer = found(shape)
    latencies = [answer["block_latency_ms"][method] for method in METHODS]
    assert latencies == sorted(set(latencies))
    rates = [answer["tokens_per_second"][method] for method in METHODS]
    assert rates == sorted(set(rates), reverse=True)


def test_more_experts_slow_the_encoder_and_not_the_block(found: Found) -> None:
    answers = [found(shape) for shape in sorted(BASE, key=lambda name: load_shape(name).experts.number)]
    for method in ("gpu-only", "pregated", "on-demand"):
        latencies = [answer["block_latency_ms"][method] for answer in answers]
        assert max(latencies) == pytest.approx(min(latencies), rel=1e-3)  # the router grows
        rates = [answer["tokens_per_second"][method] for answer in answers]
        assert rates == sorted(rates, reverse=True)
    ratios = [answer["tokens_per_second"]["pregated"] / answer["tokens_per_second"]["gpu-only"] for answer in answers]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] < 0.8 * ratios[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_closed_form_a_hit_saves_the_load_its_issue_and_its_hand_over(found: Found, shape: str) -> None:
    costs = costs_of(load_shape(shape), load_profile(PROFILE))
    line = found(shape)["on_demand_lru"]
    saved_ns = costs.load_ns() + costs.host.issue_ns + costs.host.event_ns
    assert line["slope_ms"] == pytest.approx(-saved_ns / 1e6, rel=1e-9)
    assert line["intercept_ms"] == pytest.approx(found(shape)["block_latency_ms"]["on-demand"], rel=1e-9)


@pytest.mark.parametrize(
    ("shape", "too_large"),
    [("switch-base-256", []), ("switch-large-128", ["gpu-only"]), ("switch-xxl-128", ["gpu-only", "prefetch-all"])],
)
def test_what_no_a100_could_hold_is_said(found: Found, shape: str, too_large: list[str]) -> None:
    said = [warning.split()[0] for warning in found(shape)["warnings"] if "GiB of 80" in warning]
    assert said == too_large


def test_another_size_of_expert_than_the_fitted_is_said(found: Found) -> None:
    assert any("outside the measured 18 MiB" in warning for warning in found("switch-large-128")["warnings"])


@pytest.mark.parametrize("shape", ["mixtral-8x7b", "switch-base-65", "nowhere/switch-base-64.toml"])
def test_other_shapes_are_refused_in_one_line(shape: str) -> None:
    result = CliRunner().invoke(app, ["reproduce", "isca24", "--shape", shape])
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: --shape {shape}: ")
    assert "switch-base-" in line.partition(": ")[2].partition(": ")[2]


def test_the_same_answer_every_time(found: Found) -> None:
    assert reproduce("switch-base-8").figures.tokens_per_second == found("switch-base-8")["tokens_per_second"]
