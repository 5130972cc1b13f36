"""Figures 10, 11 and 14 of Pre-gated MoE (Hwang et al., ISCA 2024, arXiv 2308.12066) for any Switch model.

    figure 10   latency of a decoder's MoE layer ("block"), batch 1
    figure 11   output tokens a second, the encoder included, batch 1: 256 tokens in, 256 out
    figure 14   the latency of 64 sequences that share N experts of each layer

Their machine and runtime are in `runtime`, what they measured of switch-base-64 in `measured`. Routing is uniformly
random: their prompts are random tokens. No latency of batch 1 depends on it, as each layer then needs one expert; the
encoder's does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from specmoe.errors import InputError, hint
from specmoe.hwprofiles import ModelShape, load_profile, load_shape, shape_names
from specmoe.sim.reproduce.routing import forced, uniform
from specmoe.sim.reproduce.runtime import BUFFERS, Runtime, costs_of
from specmoe.sim.speculate.predictor import Routed

PROFILE = "a100-sxm4-80gb"
METHODS = ("gpu-only", "pregated", "on-demand", "prefetch-all")
INPUT_TOKENS = OUTPUT_TOKENS = 256
SEQUENCES = 64  # of figure 14
ACTIVE = (1, 4, 16, 32, 64)  # experts, of figure 14
SEED = 0
CACHED = (0.25, 0.5, 0.75, 1.0)  # of all experts, for the LRU cache

Methods = dict[str, float]


class Figures(NamedTuple):
    """What the three figures show, by method; simulated, measured, or the relative error between the two."""

    block_latency_ms: Methods  # figure 10
    tokens_per_second: Methods  # figure 11
    active_experts: dict[int, Methods]  # figure 14: block latencies, ms, by the number of active experts


class CacheLine(NamedTuple):
    """Block latency on demand with an LRU cache: intercept + slope * hit rate (0 .. 1)."""

    intercept_ms: float
    slope_ms: float


class Reproduction(NamedTuple):
    """A simulated experiment and how good its evidence is."""

    shape: str
    figures: Figures
    on_demand_lru: CacheLine
    evidence: str
    assumed: tuple[str, ...]
    warnings: tuple[str, ...]


def reproduce(shape: str) -> Reproduction:
    """The experiment with one of the shipped Switch shapes; raises InputError for any other."""
    if shape not in switch_shapes():
        raise InputError(f"--shape {shape}: {hint(shape, switch_shapes())}")
    costs, rng = costs_of(load_shape(shape), load_profile(PROFILE)), np.random.default_rng(SEED)
    prompt = uniform(costs.shape, "encode", INPUT_TOKENS, rng)
    answer = uniform(costs.shape, "decode", OUTPUT_TOKENS, rng)
    runtime = Runtime(costs)
    figures, line = simulated(runtime, prompt, answer), cache_line(runtime, answer)
    routing = f"routing is synthetic: uniformly random, seed {SEED}"
    warnings = (routing, *costs.warnings, *_too_large(costs.shape, int(costs.profile["device.vram"])))
    return Reproduction(shape, figures, line, costs.evidence, costs.assumed, warnings)


def switch_shapes() -> list[str]:
    """The shipped shapes of Switch Transformers, the paper's family of models."""
    return [name for name in shape_names() if name.startswith("switch-")]


def simulated(runtime: Runtime, prompt: Routed, answer: Routed) -> Figures:
    """All three figures."""
    runs = {method: runtime.run(method, answer) for method in METHODS}
    resident, fetched = (runtime.run(method, prompt).wall_ns for method in ("gpu-only", "on-demand"))
    encoder = dict.fromkeys(METHODS, fetched) | {"gpu-only": resident}
    active = [number for number in ACTIVE if number <= runtime.costs.shape.experts.number]
    return Figures(
        {method: runtime.block_ms(run, tokens=1) for method, run in runs.items()},
        {method: OUTPUT_TOKENS / (encoder[method] + run.wall_ns) * 1e9 for method, run in runs.items()},
        {number: _forced_ms(runtime, number) for number in active},
    )


def cache_line(runtime: Runtime, answer: Routed) -> CacheLine:
    """The straight line through runs with caches of several sizes."""
    keys = runtime.costs.shape.stack("decode").moe_layers * runtime.costs.shape.experts.number
    runs = [runtime.run("on-demand-lru", answer, round(share * keys)) for share in CACHED]
    rates, latencies = [run.hit_rate for run in runs], [runtime.block_ms(run, tokens=1) for run in runs]
    slope, intercept = np.polyfit(rates, latencies, 1)
    return CacheLine(round(float(intercept), 6), round(float(slope), 6))


def _forced_ms(runtime: Runtime, active: int) -> Methods:
    """One bar of figure 14 for each method; one step, since all are alike."""
    routed = forced(runtime.costs.shape, active, SEQUENCES, steps=1)
    return {method: runtime.block_ms(runtime.run(method, routed), SEQUENCES) for method in METHODS}


def _too_large(shape: ModelShape, vram: int) -> list[str]:
    """A line for each method whose weights exceed VRAM, so that the authors could not have run it."""
    dense, expert = shape.resident_parameters * 4, shape.expert_bytes("fp32")
    held = {"gpu-only": shape.routed_experts, "prefetch-all": BUFFERS * shape.experts.number}
    return [
        f"{method} needs {(dense + experts * expert) / 2**30:.0f} GiB of {vram / 2**30:.0f}: what if there were more"
        for method, experts in held.items()
        if dense + experts * expert > vram
    ]
