"""A step of a resident model is what the engine gives for gpu-only, in every part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from specmoe.hwprofiles import Costs, load_profile, load_shape
from specmoe.hwprofiles.costs import HostCosts
from specmoe.hwprofiles.kernels import Style
from specmoe.hwprofiles.launches import whole_context
from specmoe.hwprofiles.shape import Format
from specmoe.sim.advise.setting import draw
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.resident import Mix, ResidentModel, ResidentStep, step_ns
from specmoe.sim.run import Scenario

GROUPED = Style("fused", "grouped-wait")
FREE = HostCosts(0, 0, 0, 0, 0, 0)


def model(profile: str, shape: str, held: Format, dense: Format, mix: Mix | None = None) -> ResidentModel:
    costs = Costs(load_profile(profile), load_shape(shape), held, moves=(), style=GROUPED, dense_format=dense)
    return ResidentModel(costs, dense, mix)


@pytest.mark.parametrize("profile", ["rtx4090", "h100-sxm5-80gb"])
def test_the_engine_agrees(profile: str, tmp_path: Path) -> None:
    machine = load_profile(profile).with_overrides({"host.graph.bookkeeping": 0})
    trace = draw(load_shape("olmoe-1b-7b"), 0.2, 1, tmp_path)
    scenario = Scenario(RunConfig(str(trace), "gpu-only", machine, "olmoe-1b-7b", "bf16", steps=12))
    ends = scenario.run("gpu-only").timing.step_end
    costs_of = getattr(scenario, "costs_of", None)
    costs = costs_of(POLICIES["gpu-only"]) if costs_of else scenario.costs
    resident = ResidentModel(costs, "bf16")
    wanted = [ResidentStep.of(resident, 1, whole_context(at)).total_ns for at in scenario.contexts]
    assert np.diff(ends, prepend=0).tolist() == pytest.approx(wanted, rel=0.01)


def test_by_hand_the_host_runs_ahead() -> None:
    host = FREE._replace(launch_ns=2, launch_dense_ns=3, sync_ns=5, begin_ns=1)
    # dense 4..14, experts 14..21, dense 21..31, experts 31..38, head 38..40
    assert step_ns(host, [10, 10], [7], 2, runs_ahead=True) == 40 + 5


def test_by_hand_the_host_is_late() -> None:
    host = FREE._replace(launch_ns=20, launch_dense_ns=30)
    # launches at 30, 50, 80, 100 and 130
    assert step_ns(host, [1, 1], [1], 2, runs_ahead=True) == 132


def test_by_hand_the_host_waits_for_routers() -> None:
    host = FREE._replace(launch_ns=2, launch_dense_ns=3, sync_ns=5)
    # dense 3..13, known at 18, experts 20..27 and 27..34, dense 34..44, known at 49, experts 51..58..65, head ..67
    assert step_ns(host, [10, 10], [7, 7], 2, runs_ahead=False) == 67 + 5


def test_one_sequence_needs_top_k_experts() -> None:
    resident = model("rtx4090", "qwen3-30b-a3b", "q4_0", "q4_0")
    assert resident.experts(1) == (8, 1)


def test_a_batch_needs_the_mean_of_even_choices() -> None:
    resident = model("rtx4090", "qwen3-30b-a3b", "q4_0", "q4_0")
    assert resident.experts(2) == (16, 1)  # 128 * (1 - (120 / 128) ** 2) = 15.5
    assert resident.experts(10_000) == (128, 625)


def test_a_mix_lies_between_its_formats() -> None:
    four, six = (model("rtx3090", "mixtral-8x7b", held, "q4_k") for held in ("q4_k", "q6_k"))
    half = replace(four, mix=Mix("q6_k", 0.5))
    assert sum(half.experts_ns(1)) == pytest.approx((sum(four.experts_ns(1)) + sum(six.experts_ns(1))) / 2, abs=1)
    assert half.bytes == pytest.approx((four.bytes + six.bytes) / 2, rel=1e-9)


def test_bytes_are_those_of_published_files() -> None:
    """gpt-oss-20b by ggml-org is 12.1 GB; Qwen3.6-35B-A3B in q4_k_m is a file of 21.17 GB."""
    assert model("rtx3090", "gpt-oss-20b", "mxfp4", "q8_0").bytes / 1e9 == pytest.approx(12.1, rel=0.02)
    qwen = model("rtx3090", "qwen3.6-35b-a3b", "q4_k", "q4_k", Mix("q6_k", 1 / 6))
    assert qwen.bytes / 1e9 == pytest.approx(21.17, rel=0.02)


@pytest.mark.parametrize("held", ["q4_0", "bf16"])
def test_the_range_holds_the_prediction(held: Format) -> None:
    resident = model("rtx4090", "qwen3-30b-a3b", held, held)
    slow, usual, fast = (ResidentStep.of(resident, 1, 128, end).total_ns for end in ("slowest", "usual", "fastest"))
    assert fast <= usual <= slow


def test_a_longer_context_and_a_larger_batch_take_longer() -> None:
    resident = model("rtx4090", "qwen3-30b-a3b", "q4_0", "q4_0")
    times = [ResidentStep.of(resident, batch, at).total_ns for batch, at in ((1, 128), (1, 8192), (8, 8192))]
    assert times == sorted(times)
