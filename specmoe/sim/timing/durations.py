"""How long each thing of a run takes, in integer nanoseconds; all that the engine knows of hardware."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from specmoe.hwprofiles.costs import Costs, HostCosts
from specmoe.sim.decide.table import DecisionTable
from specmoe.traces.workload import Workload

CONTEXT_STEP = 32  # contexts are rounded up to whole multiples, so that few costs have to be computed


class Durations(NamedTuple):
    """Durations of everything in a `DecisionTable`, ns."""

    before: list[int]  # [events], compute from the end of the last expert to the router's result
    expert: list[int]  # [uses], compute of one expert, its expansion included
    after: list[int]  # [steps], compute behind the last MoE layer
    copy: list[int]  # [loads], of one expert over the link
    read: int  # of one expert from NVMe into host memory; 0 where it is there already
    host: HostCosts
    sync_each_layer: bool = False  # a runtime that waits for every layer's experts before it goes on


def durations_of(
    workload: Workload, table: DecisionTable, costs: Costs, tier: str, context: list[int], moved_twice: bool = False
) -> Durations:
    """The durations of decisions with a model's costs on a machine.

    `tier` is where experts live (host-pinned, host-pageable or nvme), `context` the positions each step attends to.
    With `moved_twice` every use first copies the expert twice within VRAM, as the ISCA'24 runtime does.
    """
    phase, layers = workload.meta.phase, workload.meta.num_layers
    last = costs.shape.stack(phase).moe_layers - 1

    @cache
    def before(tokens: int, positions: int, layer: int) -> int:
        return costs.dense_ns(phase, tokens, positions, min(layer, last)) + costs.router_ns(tokens)

    @cache
    def expert(tokens: int) -> int:
        moved = 2 * costs.device_copy_ns(costs.shape.expert_bytes(costs.format)) if moved_twice else 0
        return moved + costs.dequantise_ns() + costs.expert_ns(tokens)

    @cache
    def head(tokens: int) -> int:
        return costs.head_ns(phase, tokens)

    tokens = workload.step_tokens.tolist()
    rounded = [-(-positions // CONTEXT_STEP) * CONTEXT_STEP for positions in context]
    steps = list(zip(tokens, rounded, strict=True))
    copy = costs.load_ns("host-pageable" if tier == "host-pageable" else "host-pinned")
    return Durations(
        before=[before(count, positions, layer) for count, positions in steps for layer in range(layers)],
        expert=[expert(count) for count in table.uses.tokens.tolist()],
        after=[head(count) for count in tokens],
        copy=[copy] * len(table.loads.key),
        read=costs.load_ns("nvme") if tier == "nvme" else 0,
        host=costs.host,
    )


def contexts(workload: Workload, position: np.ndarray, cross: int) -> list[int]:
    """Positions that the tokens of each step attend to: their mean own position, or `cross` if that is more.

    `position` is the trace's column; encoding, a token attends to its whole sequence.
    """
    rows = position[workload.rows] + 1
    sums = np.add.reduceat(rows, workload.row_offsets[:-1]) / workload.step_tokens
    longest = np.maximum.reduceat(rows, workload.row_offsets[:-1])
    own = longest if workload.meta.phase == "encode" else np.ceil(sums).astype(np.int64)
    positions: list[int] = np.maximum(own, cross).tolist()
    return positions
