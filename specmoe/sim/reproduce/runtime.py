"""The FasterTransformer runtime of Pre-gated MoE (Hwang et al., ISCA 2024) as decisions and three clocks.

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

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from specmoe.hwprofiles import Costs, HardwareProfile, ModelShape
from specmoe.hwprofiles.isca24 import CONTEXT
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.policies import POLICIES
from specmoe.sim.decide.program import program_of
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.reproduce.routing import every_expert
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.sim.timing.durations import Durations, Home, durations_of
from specmoe.sim.timing.engine import Timing, simulate
from specmoe.traces.workload import Workload

BUFFERS = 2  # each for a layer's experts


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
    return Costs(profile, shape, "fp32", "eager", ("host-pinned", "device-copy"))


@dataclass(frozen=True)
class Runtime:
    """Their runtime with one model on one machine; `costs` are those of `costs_of`."""

    costs: Costs

    def run(self, policy: str, routed: Routed, slots: int | None = None) -> Execution:
        """All steps under a named policy, with the double buffer's slots unless told."""
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
