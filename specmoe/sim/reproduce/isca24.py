"""Figures 10, 11 and 14 of Pre-gated MoE (Hwang et al., ISCA 2024, arXiv 2308.12066), simulated for any Switch model.

    figure 10   latency of a decoder's MoE layer ("block"), batch 1
    figure 11   output tokens per second, the encoder included, batch 1: 256 tokens in, 256 out
    figure 14   the latency of 64 sequences that share N experts of each layer

Routing is uniformly random, since the authors' prompts are random tokens. No decoder latency of batch 1 depends on it,
as each layer then needs one expert; the encoder's does. Their FasterTransformer runtime is simulated as `Runtime`:

    double buffer      slots for two layers' experts, emptied after use: pre-gated and prefetch-all fetch the next MoE
                       layer's experts after this one's routing; the first layer fetches its own on demand, the last
                       fetches nothing ahead
    whole fetches      a layer waits for all that was fetched for it, so prefetch-all demands every expert of a layer,
                       also those without a token
    device copies      two for each expert, also for a hit; those of a layer's last expert are waited for, the others'
                       hide behind the next one's fetch; none where all are resident
    one launch         of all experts of a layer (a grouped GEMM), when the last of them is there
    two waits          of the host: for the routing result before a layer's fetches, for the stream after its experts
    encoder            fetches on demand under every method but gpu-only

All runs are in fp32, and the decoder attends to `CONTEXT` positions in every step, which is their mean.
"""

import dataclasses
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, hint
from specmoe.hwprofiles import Costs, HardwareProfile, ModelShape, Phase, load_profile, load_shape, shape_names
from specmoe.hwprofiles.fit import CONTEXT
from specmoe.hwprofiles.kernels import Style
from specmoe.sim.config import Home
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.decide.program import program_of
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.sim.timing.durations import Durations, durations_of
from specmoe.sim.timing.engine import Timing, simulate
from specmoe.traces.schema import Block, TraceMeta, no_lookahead
from specmoe.traces.workload import Workload, build


def uniform(shape: ModelShape, phase: Phase, tokens: int, rng: np.random.Generator) -> Routed:
    """One sequence; each token takes any expert of each layer with the same probability."""
    layers, experts = shape.stack(phase).moe_layers, shape.experts.number
    chosen = rng.integers(experts, size=(1, tokens, layers))
    return _routed(shape, phase, chosen)


def forced(shape: ModelShape, active: int, sequences: int, steps: int) -> Routed:
    """Sequences that decode together and share `active` experts of each layer as evenly as they can."""
    of_sequence = np.arange(sequences) % active
    layers = shape.stack("decode").moe_layers
    return _routed(shape, "decode", np.broadcast_to(of_sequence[:, None, None], (sequences, steps, layers)))


def every_expert(workload: Workload) -> Workload:
    """The same tokens where each layer asks for all its experts: those that no token chose run for none."""
    events, count = workload.num_events, workload.meta.num_experts
    tokens = np.zeros(events * count, np.int32)
    tokens[workload.events * count + workload.experts] = workload.tokens
    experts = np.tile(np.arange(count, dtype=np.int32), events)
    return dataclasses.replace(workload, offsets=np.arange(events + 1) * count, experts=experts, tokens=tokens)


def _routed(shape: ModelShape, phase: Phase, chosen: NDArray[np.int64]) -> Routed:
    """All sequences at once, from the expert of each [sequence, position, layer]."""
    sequences, steps, layers = chosen.shape
    meta = TraceMeta(
        phase=phase,
        kind="synthetic",
        origin="synthetic",
        model="none",
        num_experts=shape.experts.number,
        num_layers=layers,
        top_k=1,
        candidates=1,
        sources=("synthetic",),
        corpus="none",
        has_probs=False,
        has_lookahead=False,
    )
    sequence, position = np.divmod(np.arange(sequences * steps, dtype=np.int32), np.int32(steps))
    block = _block(sequence, position, chosen.reshape(-1, layers, 1).astype(np.int16))
    return Routed(build(block, meta, batch=sequences), block)


def _block(sequence: NDArray[np.int32], position: NDArray[np.int32], experts: NDArray[np.int16]) -> Block:
    rows = len(sequence)
    return Block(
        sequence=sequence,
        position=position,
        source=np.zeros(rows, np.int16),
        token=np.full(rows, -1, np.int32),
        experts=experts,
        probs=np.full(experts.shape, np.nan, np.float16),
        lookahead=no_lookahead(experts),
    )


BUFFERS = 2  # each for a layer's experts
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


def simulated(runtime: "Runtime", prompt: Routed, answer: Routed) -> Figures:
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


def cache_line(runtime: "Runtime", answer: Routed) -> CacheLine:
    """The straight line through runs with caches of several sizes."""
    keys = runtime.costs.shape.stack("decode").moe_layers * runtime.costs.shape.experts.number
    runs = [runtime.run("on-demand-lru", answer, round(share * keys)) for share in CACHED]
    rates, latencies = [run.hit_rate for run in runs], [runtime.block_ms(run, tokens=1) for run in runs]
    slope, intercept = np.polyfit(rates, latencies, 1)
    return CacheLine(round(float(intercept), 6), round(float(slope), 6))


def _forced_ms(runtime: "Runtime", active: int) -> Methods:
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


class Execution(NamedTuple):
    """What was decided and when it happened."""

    decisions: DecisionTable
    timing: Timing

    @property
    def hit_rate(self) -> float:
        """Share of the demanded experts that were resident."""
        return self.decisions.hits / len(self.decisions.uses.hit)

    @property
    def wall_ns(self) -> int:
        """From the first launch until the host knows that all has ended."""
        return int(self.timing.step_end[-1])


def costs_of(shape: ModelShape, profile: HardwareProfile) -> Costs:
    """What a model costs in their runtime."""
    return Costs(profile, shape, "fp32", "eager", ("host-pinned", "device-copy"), style=Style(launch="separate"))


@dataclass(frozen=True)
class Runtime:
    """Their runtime with one model on one machine; `costs` are those of `costs_of`."""

    costs: Costs

    def run(self, policy: str, routed: Routed, slots: int | None = None) -> Execution:
        """Run all steps under a named policy. `slots` default to those of the double buffer."""
        chosen, workload = POLICIES[policy], routed.workload
        if chosen.predictor == "all":
            workload = every_expert(workload)
        predictions = make_predictor(chosen.predictor).predict(Routed(workload, routed.block))
        decisions = decide(workload, predictions, chosen, slots or BUFFERS * workload.meta.num_experts)
        offloads = chosen.sharing != "all-resident"
        return Execution(decisions, simulate(decisions, self._durations(workload, decisions, offloads)))

    def block_ms(self, execution: Execution, tokens: int) -> float:
        """Their "block latency": mean device time of a decoder's MoE layer, from its attention to its last expert.

        `tokens` are decoded in every step.
        """
        costs, timing = self.costs, execution.timing
        attention = costs.attention_ns("decode", tokens, CONTEXT) + costs.router_ns(tokens)
        return float((timing.end - timing.ready).mean() + attention + costs.host.sync_ns) / 1e6

    def _durations(self, workload: Workload, decisions: DecisionTable, offloads: bool) -> Durations:
        context = CONTEXT if workload.meta.phase == "decode" else int(workload.step_tokens.max())
        durations = durations_of(workload, decisions, self.costs, Home(), [context] * workload.num_steps)
        host = durations.host
        # The engine launches each expert by itself: the one launch of a layer counts as its bookkeeping.
        once = host._replace(launch_ns=0, bookkeeping_ns=host.bookkeeping_ns + host.launch_ns)
        return durations._replace(expert=self._experts(decisions, offloads), host=once, sync_each_layer=True)

    def _experts(self, decisions: DecisionTable, offloads: bool) -> list[int]:
        """Compute of each use: none, but for the last of a layer its copies and the launch that serves all of them."""
        launch = cache(self.costs.experts_ns)
        copies = 2 * self.costs.device_copy_ns(self.costs.shape.expert_bytes("fp32")) if offloads else 0
        program, tokens = program_of(decisions), decisions.uses.tokens.tolist()
        compute = [0] * len(tokens)
        for start, end in pairwise(program.use_offsets):
            layer = program.uses[start:end]
            compute[layer[-1]] = copies + launch(tuple(tokens[use] for use in layer))
        return compute
