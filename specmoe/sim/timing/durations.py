"""Durations: how long each part of a run takes, in integer nanoseconds. The engine knows nothing else of hardware."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles.costs import Costs, HostCosts
from specmoe.hwprofiles.shape import Phase
from specmoe.hwprofiles.style import Launching
from specmoe.sim.config import Home
from specmoe.sim.decide.program import Groups, groups_of
from specmoe.sim.decide.table import CPU, DecisionTable, found_compressed, packed
from specmoe.sim.padding import padded, whole_context
from specmoe.sim.timing.cpu_lane import NO_CPU, SHARE, CpuCosts
from specmoe.traces.workload import Workload

UNTIMED = ("sync_each_layer", "interference", "launching", "runs_ahead")  # fields of `Durations` that are not times


class Durations(NamedTuple):
    """Durations of everything in a `DecisionTable`, ns."""

    before: Sequence[int]  # [events], compute from the end of the last expert to the router's result
    expert: Sequence[int]  # [uses], on the CPU of the expert, else of a launch at its last use and 0 at its others
    after: Sequence[int]  # [steps], compute behind the last MoE layer
    copy: Sequence[int]  # [loads], of one expert over the link
    read: int  # of one expert from NVMe into host memory; 0 where it is there already
    host: HostCosts
    sync_each_layer: bool = False  # a runtime that waits for every layer's experts before it goes on
    predict: Sequence[int] = ()  # [events], of the host thread, before prefetches are considered; empty: none
    interference: float = 0.0  # share by which computing takes longer while a copy is under way
    launching: Launching = "separate"  # how many experts a launch serves
    runs_ahead: bool = False  # routing stays on the device: the host waits at the end of a step only
    to_host: Sequence[int] = ()  # [steps], copy of a layer's hidden state; empty where the CPU computes nothing
    to_device: Sequence[int] = ()  # [steps], copy of the CPU's result
    cpu: CpuCosts = NO_CPU


def durations_of(
    workload: Workload, table: DecisionTable, costs: Costs, home: Home, context: list[int], pads: bool = False
) -> Durations:
    """The durations of decisions with a model's costs on a machine; `context` is the positions each step attends to.

    `pads`: kernels exist for powers of two of tokens only. Experts that are compressed at home cross the link
    compressed, and are expanded before the first use of each load. Where every expert is resident and launches are
    grouped, a kernel finds the experts itself, and the host does not wait for the router.
    """
    layers = workload.meta.num_layers
    last = costs.shape.stack(workload.meta.phase).moe_layers - 1

    @cache
    def before(phase: Phase, tokens: int, positions: int, layer: int) -> int:
        return costs.before_ns(phase, tokens, positions, min(layer, last))

    @cache
    def head(phase: Phase, tokens: int) -> int:
        return costs.head_ns(phase, tokens)

    tokens = _sizes(workload.step_tokens, pads).tolist()
    steps = list(zip(workload.phases, tokens, map(whole_context, context), strict=True))
    asked = tokens if workload.prefills is None else np.where(workload.prefills, 1, tokens).tolist()  # for a next token
    read = costs.load_ns("nvme", home.format) if home.tier == "nvme" else 0
    in_vram = found_compressed(table, home.compressed_slots)
    groups = groups_of(table, costs.style.launch)
    used = _launches(groups, _sizes(table.uses.tokens, pads), costs)
    on_cpu = _cpu_durations(workload, table, costs, used)
    if home.format not in (None, costs.format):
        np.add.at(used, groups.last[_first_uses(table)], costs.dequantise_ns(home.format))
    return Durations(
        before=[before(*step, layer) for step in steps for layer in range(layers)],
        expert=packed(used),
        after=[head(phase, count) for phase, count in zip(workload.phases, asked, strict=True)],
        copy=packed(np.where(in_vram, 0, copy_ns(costs, home))),
        read=read,
        host=costs.host,
        interference=costs.profile.interference,
        launching=costs.style.launch,
        runs_ahead=table.all_resident and costs.style.launch != "separate",
        **on_cpu,
    )


def _cpu_durations(workload: Workload, table: DecisionTable, costs: Costs, used: NDArray[np.int64]) -> dict[str, Any]:
    """Fields of `Durations` of experts on the CPU, whose own times are written into `used`; empty without any."""
    rows, experts = np.flatnonzero(table.uses.where == CPU), costs.cpu
    if not len(rows):
        return {}
    if experts is None:
        raise InputError(f"the CPU computes {len(rows)} experts: costs of a CPU expected")
    counts, place = np.unique(table.uses.tokens[rows], return_inverse=True)
    used[rows] = np.array([experts.expert_ns(count) for count in counts.tolist()], np.int64)[place]
    small = {count: costs.hidden_ns(count) for count in set(workload.step_tokens.tolist())}
    to_host, to_device = zip(*(small[count] for count in workload.step_tokens.tolist()), strict=True)
    shares = (round(share * SHARE) for share in (experts.slowed_by_copy, experts.slows_copy))
    fixed = (costs.profile.ns(name) for name in ("cpu.start", "cpu.join", "device.kernel_floor"))
    return {"to_host": to_host, "to_device": to_device, "cpu": CpuCosts(*fixed, *shares)}


def _launches(groups: Groups, tokens: NDArray[Any], costs: Costs) -> NDArray[np.int64]:
    """Time of each launch at its last use, 0 at its others, [uses]; `tokens` are those of each use."""
    if costs.style.launch == "separate":
        counts, place = np.unique(tokens, return_inverse=True)
        return np.array([costs.use_ns(count) for count in counts.tolist()], np.int64)[place]

    @cache
    def launch(members: tuple[int, ...]) -> int:
        return costs.launch_ns(members)

    in_order, bounds = tokens[groups.order].tolist(), np.append(np.flatnonzero(groups.opens), len(tokens)).tolist()
    used = np.zeros(len(tokens), np.int64)
    used[groups.ends] = [launch(tuple(sorted(in_order[start:end]))) for start, end in pairwise(bounds)]
    return used


def require_possible(durations: Durations) -> None:
    """Raise InputError for a duration below 0, e.g. of a copy on a link with contradictory numbers."""
    for name, value in durations._asdict().items():
        times = [value] if isinstance(value, int | float) else value
        if name not in UNTIMED and min(times, default=0) < 0:
            raise InputError(f"durations: {name} of {min(times)} ns: 0 or more expected")


def require_at_hand(read: int, copies: Sequence[int]) -> None:
    """Raise InputError if the CPU cannot compute experts because they are not at hand in host memory.

    `read` is the time to read one from NVMe, `copies` are those of loads: 0 where VRAM holds the expert compressed.
    """
    where = "on NVMe" if read else "compressed in VRAM" if 0 in copies else None
    if where:
        raise InputError(f"experts on the CPU: not simulated where experts are {where}: a tier in host memory expected")


def _sizes(tokens: NDArray[Any], pads: bool) -> NDArray[Any]:
    return padded(tokens) if pads else tokens


def copy_ns(costs: Costs, home: Home) -> int:
    """Time of one expert on the link, ns."""
    return costs.load_ns("host-pageable" if home.tier == "host-pageable" else "host-pinned", home.format)


def _first_uses(table: DecisionTable) -> NDArray[np.int64]:
    """Rows of the first use of every load that was used."""
    loads, first = np.unique(table.uses.load, return_index=True)
    return first[loads >= 0]


def contexts(workload: Workload, position: np.ndarray, cross: int) -> list[int]:
    """Number of positions that the tokens of each step attend to: their mean own position.

    `position` is the trace's column. Decoding, they attend to at least `cross` positions; in the encode phase, to their
    whole sequence.
    """
    rows = position[workload.rows] + 1
    sums = np.add.reduceat(rows, workload.row_offsets[:-1]) / workload.step_tokens
    longest = np.maximum.reduceat(rows, workload.row_offsets[:-1])
    whole = np.array(workload.phases) == "encode"
    positions: list[int] = np.where(whole, longest, np.maximum(np.ceil(sums).astype(np.int64), cross)).tolist()
    return positions
