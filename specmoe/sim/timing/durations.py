"""Durations: how long each part of a run takes, in integer nanoseconds. The engine knows nothing else of hardware.

Predictions cost time of the host thread, or of the GPU right behind the router. On the GPU, guesses reach the host
together with the router's result. A guess `depth` layers deep costs as much as `depth` guesses one layer deep, except
for networks, which give all depths at once. No router beyond the last layer runs.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles.costs import Costs, HostCosts
from specmoe.hwprofiles.cpu import CpuExperts
from specmoe.hwprofiles.kernels import Launching
from specmoe.hwprofiles.launches import padded, whole_context
from specmoe.hwprofiles.shape import Phase
from specmoe.sim.config import Home
from specmoe.sim.decide.miss import Rates
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.program import Groups, groups_of
from specmoe.sim.decide.table import CPU, DecisionTable, First, found_compressed, packed
from specmoe.sim.speculate.predictors import (
    FREE,
    MOST_TOKENS,
    ON_THE_DEVICE,
    RunningTime,
    device_of,
    is_extrapolated,
    running_time,
)
from specmoe.sim.timing.cpu_lane import NO_CPU, SHARE, CpuCosts
from specmoe.traces.workload import Workload

UNTIMED = ("sync_each_layer", "interference", "launching", "runs_ahead")  # fields of `Durations` that are not times
MOST_NS = 1 << 62  # of all durations, so that no sum of times overflows


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
    launch_dense: Sequence[int] = ()  # [layers + 1], of the host, by layer and for the head; empty: that of `host`


def durations_of(
    workload: Workload, table: DecisionTable, costs: Costs, home: Home, context: list[int], pads: bool = False
) -> Durations:
    """The durations of decisions with a model's costs on a machine; `context` is the positions each step attends to.

    `pads`: kernels exist for powers of two of tokens only. Experts that are compressed at home cross the link
    compressed, and are expanded before the first use of each load. Where every expert is resident and launches are
    grouped, a kernel finds the experts itself, and the host does not wait for the router.
    """
    layers = workload.meta.num_layers
    alike = {phase: costs.shape.layers_alike(phase, layers) for phase in set(workload.phases)}
    before = cache(costs.before_ns)

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
        before=[time for step in steps for time in _of_layers(before, step, alike[step[0]])],
        expert=packed(used),
        after=[head(phase, count) for phase, count in zip(workload.phases, asked, strict=True)],
        copy=packed(np.where(in_vram, 0, copies_ns(costs, home, layers)[table.loads.key // table.num_experts])),
        read=read,
        host=costs.host,
        interference=costs.profile.interference,
        launching=costs.style.launch,
        runs_ahead=table.all_resident and costs.style.launch != "separate",
        **on_cpu,
    )


def _of_layers(time: Callable[..., int], step: tuple[Phase, int, int], alike: Sequence[int]) -> Iterable[int]:
    """The time of each layer of a step; `alike` names a layer that takes as long as each."""
    times = {layer: time(*step, layer) for layer in set(alike)}
    return map(times.__getitem__, alike)


def _cpu_durations(workload: Workload, table: DecisionTable, costs: Costs, used: NDArray[np.int64]) -> dict[str, Any]:
    """Fields of `Durations` of experts on the CPU, whose own times are written into `used`; empty without any."""
    rows, experts = np.flatnonzero(table.uses.where == CPU), costs.cpu
    if not len(rows):
        return {}
    if experts is None:
        raise InputError(f"the CPU computes {len(rows)} experts: costs of a CPU expected")
    counts, place = np.unique(table.uses.tokens[rows], return_inverse=True)
    used[rows] = _at_most([experts.expert_ns(count) for count in counts.tolist()])[place]
    small = {count: costs.hidden_ns(count) for count in set(workload.step_tokens.tolist())}
    to_host, to_device = zip(*(small[count] for count in workload.step_tokens.tolist()), strict=True)
    shares = (round(share * SHARE) for share in (experts.slowed_by_copy, experts.slows_copy))
    fixed = (costs.profile.ns(name) for name in ("cpu.start", "cpu.join", "device.kernel_floor"))
    return {"to_host": to_host, "to_device": to_device, "cpu": CpuCosts(*fixed, *shares)}


def _launches(groups: Groups, tokens: NDArray[Any], costs: Costs) -> NDArray[np.int64]:
    """Time of each launch at its last use, 0 at its others, [uses]; `tokens` are those of each use."""
    if costs.style.launch == "separate":
        counts, place = np.unique(tokens, return_inverse=True)
        return _at_most([costs.use_ns(count) for count in counts.tolist()])[place]

    @cache
    def launch(members: tuple[int, ...]) -> int:
        return costs.launch_ns(members)

    in_order, bounds = tokens[groups.order].tolist(), np.append(np.flatnonzero(groups.opens), len(tokens)).tolist()
    used = np.zeros(len(tokens), np.int64)
    used[groups.ends] = _at_most([launch(tuple(sorted(in_order[start:end]))) for start, end in pairwise(bounds)])
    return used


def _at_most(times: Sequence[int]) -> NDArray[np.int64]:
    """Times as an array; raises InputError for one of centuries."""
    _require_no_centuries(max(times, default=0))
    return np.array(times, np.int64)


def _require_no_centuries(whole: int) -> None:
    if whole > MOST_NS:
        shown = min(whole, 10**300)  # the most that can be written so
        raise InputError(f"durations: {shown:.3g} ns in all: at most {MOST_NS:.3g} (146 years) expected")


def require_possible(durations: Durations) -> None:
    """Raise InputError for a duration below 0, e.g. of a copy on a contradictory link, and for centuries in all."""
    whole = durations.read * len(durations.copy)
    for name, value in durations._asdict().items():
        if name in UNTIMED:
            continue
        times = [value] if isinstance(value, int | float) else value
        if min(times, default=0) < 0:
            raise InputError(f"durations: {name} of {min(times)} ns: 0 or more expected")
        whole += sum(times)
    _require_no_centuries(whole)


def require_at_hand(read: int, copies: Sequence[int]) -> None:
    """Raise InputError if the CPU cannot compute experts because they are not at hand in host memory.

    `read` is the time to read one from NVMe, `copies` are those of loads: 0 where VRAM holds the expert compressed.
    """
    where = "on NVMe" if read else "compressed in VRAM" if 0 in copies else None
    if where:
        raise InputError(f"experts on the CPU: not simulated where experts are {where}: a tier in host memory expected")


def _sizes(tokens: NDArray[Any], pads: bool) -> NDArray[Any]:
    return padded(tokens) if pads else tokens


def copy_ns(costs: Costs, home: Home, layer: int | None = None) -> int:
    """Time of one expert on the link, ns: of a layer, or of the mean size."""
    return costs.load_ns("host-pageable" if home.tier == "host-pageable" else "host-pinned", home.format, layer)


def copies_ns(costs: Costs, home: Home, layers: int) -> NDArray[np.int64]:
    """Time of an expert of each layer on the link, ns, [layers]."""
    if costs.shape.in_file is None:  # all are equally large
        return np.full(layers, copy_ns(costs, home))
    return np.array([copy_ns(costs, home, layer) for layer in range(layers)], np.int64)


def copies_of_uses(table: DecisionTable, first: First, costs: Costs, home: Home) -> int:
    """Time on the link, ns, if every use from the first on loads its expert."""
    layers = table.uses.key[first.use :] // table.num_experts
    return int(copies_ns(costs, home, table.num_layers)[layers].sum())


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


def miss_rates(costs: Costs, cpu: CpuExperts, home: Home) -> Rates:
    """Times of one expert: over the link, on the CPU, and of each of many where both work and slow each other.

    On the CPU few tokens take the time of one, and each of many a share of the time of the most that an expert serves.
    """
    copy, one, most = copy_ns(costs, home), cpu.expert_ns(1), max(1, costs.most_tokens)
    copies, computed = 1 / (copy * (1 + cpu.slows_copy)), 1 / (one * (1 + cpu.slowed_by_copy))  # of each, per ns
    return Rates(
        copy_ns=copy,
        cpu_ns=one,
        both_ns=1 / (copies + computed),
        cpu_token_ns=cpu.expert_ns(most) / most,
        gpu_ns=costs.use_ns(1),
    )


class Charge(NamedTuple):
    """Time of each event's predictions, ns, [events] (empty: none), where they run, and the source of the number."""

    ns: list[int]
    on: Literal["host", "gpu"]
    ref: str
    assumed: str | None = None  # the assumption, where it was not measured

    @property
    def mean_ns(self) -> int:
        """Mean time of an event's predictions, ns."""
        return self.mean_since(0)

    def mean_since(self, first: int) -> int:
        """Mean time of the predictions of an event and of all later ones, ns."""
        return round(float(np.mean(self.ns[first:]))) if self.ns else 0


NO_CHARGE = Charge([], "host", "nothing to predict")


def charge(
    chosen: Policy, workload: Workload, costs: Costs, assumed_ns: int | None = None, pads: bool = False
) -> Charge:
    """Cost of a policy's predictions. `assumed_ns` per event replaces the known cost, on the same device.

    The oracle is a bound, so its predictions cost nothing. `pads`: routers exist for powers of two of tokens only.
    """
    if chosen.prefetch is None or chosen.predictor == "oracle":
        return NO_CHARGE
    on: Literal["host", "gpu"] = "gpu" if _on_gpu(chosen) else "host"
    if assumed_ns is not None:
        return Charge([assumed_ns] * workload.num_events, on, "assumed", f"assumed_predict_ns: {assumed_ns}")
    if chosen.predictor in FREE:
        return Charge([], "host", "none by definition")
    if chosen.predictor in ON_THE_DEVICE:
        steps = (padded(workload.step_tokens) if pads else workload.step_tokens).tolist()
        return Charge(
            _routers(workload, steps, costs, chosen.prefetch.depth), "gpu", "one more router for each layer ahead"
        )
    time = running_time(chosen.predictor, chosen.predictor_parameters)
    if time is None:
        return Charge([], on, "unknown", f"predictor time of {chosen.predictor}: 0")
    times = 1 if chosen.predictor.startswith("learned-") else chosen.prefetch.depth
    return Charge(_measured(workload, time, times), on, time.ref, _beyond(chosen, workload))


def charged(durations: Durations, cost: Charge) -> Durations:
    """Durations with the time of predictions added."""
    if not cost.ns:
        return durations
    if cost.on == "host":
        return durations._replace(predict=cost.ns)
    return durations._replace(before=[sum(both) for both in zip(durations.before, cost.ns, strict=True)])


def _beyond(chosen: Policy, workload: Workload) -> str | None:
    """The assumption if more tokens run at once than when the time was measured; else None."""
    most = int(workload.step_tokens.max())
    if not is_extrapolated(chosen.predictor_parameters, most):
        return None
    return f"predictor time of {chosen.predictor} with {most} tokens, extrapolated from {MOST_TOKENS}"


def _on_gpu(chosen: Policy) -> bool:
    return chosen.predictor in ON_THE_DEVICE or device_of(chosen.predictor_parameters) == "cuda"


def _measured(workload: Workload, time: RunningTime, times: int) -> list[int]:
    layers = workload.meta.num_layers
    return [times * time.ns(tokens) for tokens in workload.step_tokens.tolist() for _ in range(layers)]


def _routers(workload: Workload, steps: list[int], costs: Costs, depth: int) -> list[int]:
    """Time of the extra routers of each event, ns; `steps` is the number of tokens that kernels run in each step."""
    ahead = [min(depth, workload.meta.num_layers - 1 - layer) for layer in range(workload.meta.num_layers)]
    routers = {tokens: costs.router_ns(tokens, workload.meta.phase) for tokens in set(steps)}
    return [routers[tokens] * count for tokens in steps for count in ahead]
