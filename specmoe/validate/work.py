"""Work of a replay: a policy's decisions with the sizes of their kernels."""

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles.shape import PACKED, is_compressed, require_kernels
from specmoe.hwprofiles.style import USUAL
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.program import program_of
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.padding import padded, whole_context
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.running_time import ON_THE_DEVICE
from specmoe.validate.device import Dense, Work


def work_of(scenario: Scenario, policy: Policy, table: DecisionTable) -> Work:
    """Work of a replay of `table`; raises InputError if it cannot be replayed."""
    require_replayable(scenario)
    if table.cpu_uses:
        require_cpu(scenario)
    workload, cost = scenario.routed.workload, scenario.charge(policy)
    if cost.on == "gpu" and policy.predictor not in ON_THE_DEVICE:
        raise InputError(f"{policy.name}: a network on the device is not replayed: predictor.device=cpu expected")
    predict = cost.ns if cost.on == "host" else []
    depth = policy.prefetch.depth if policy.prefetch and cost.on == "gpu" else 0
    layers = table.num_layers
    tokens = padded(workload.step_tokens).tolist()
    dense = [
        Dense(layer, count, whole_context(context), 1 + min(depth, layers - 1 - layer))
        for count, context in zip(tokens, scenario.contexts, strict=True)
        for layer in range(layers)
    ]
    home = scenario.config.home.format
    expands = first_uses(table) if home not in (None, scenario.format) else np.zeros(len(table.uses.key), np.bool_)
    uses = padded(table.uses.tokens).tolist()
    style = scenario.costs_of(policy).style
    program = program_of(table, any(predict), style.launch)
    runs_ahead = table.all_resident and style.launch != "separate"
    return Work(table, program, dense, tokens, uses, expands.tolist(), predict, runs_ahead)


def first_uses(table: DecisionTable) -> NDArray[np.bool_]:
    """Mask of the uses that are the first of their load, [uses]."""
    loads, rows = np.unique(table.uses.load, return_index=True)
    first = np.zeros(len(table.uses.load), np.bool_)
    first[rows[loads >= 0]] = True
    return first


def require_cpu(scenario: Scenario) -> None:
    """Raise InputError for configurations in which the replayer cannot compute experts on the CPU."""
    style, held = scenario.config.style or USUAL, scenario.config.home.format or scenario.format
    if style.launch != "separate":
        raise InputError(f"experts on the CPU cannot be replayed in style {style}: separate expected")
    if is_compressed(held) or held != scenario.format:
        raise InputError(
            f"experts on the CPU cannot be replayed in {held}: slots and home in fp32, fp16 or bf16 expected"
        )


def require_replayable(scenario: Scenario) -> None:
    """Raise InputError for configurations that the replayer does not support."""
    spec = scenario.config
    if scenario.format != PACKED:
        require_kernels(scenario.format, "replayed")
    style = scenario.config.style or USUAL
    if scenario.format == PACKED and style != USUAL:
        raise InputError(
            f"{PACKED} in style {style} cannot be replayed, only by torch's product: fused/separate expected"
        )
    if style.launch != "separate" and spec.home.format not in (None, scenario.format):
        raise InputError(f"groups of experts that are {spec.home.format} at home cannot be replayed: separate expected")
    if spec.link != "fifo":
        raise InputError(f"link order {spec.link} cannot be replayed: fifo expected")
    if spec.home.tier != "host-pinned":
        raise InputError(f"experts in {spec.home.tier} cannot be replayed: host-pinned expected")
    if spec.home.compressed_slots:
        raise InputError("compressed slots in VRAM cannot be replayed: --compressed-slots 0 expected")
    if spec.host_set != "graph":
        raise InputError(f"host costs {spec.host_set} cannot be replayed: the replayer captures graphs: graph expected")
