"""What a policy's parts say of it: which plug-ins bring them, and whether a runtime could follow it.

What a user must know before believing a result: one line each.
"""

from __future__ import annotations

from collections.abc import Iterator

from specmoe.hwprofiles.catalogue import is_of_model, shape_of_model
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import ModelShape
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policy import POLICIES, Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.speculate.predictors import PREDICTORS
from specmoe.traces.schema import TraceMeta

GIB = 1 << 30
DEFAULT_SHAPE = "switch-base-128"
SATURATED = 0.9  # share of a run that its prefetches' copies would fill
WASTED = 0.1  # of the prefetches: a perfect predictor saturates a slow link, too, and that is no fault


def about_model(meta: TraceMeta, shape: ModelShape) -> Iterator[str]:
    """Routing of one model timed with another's shape."""
    stack = shape.stack(meta.phase)
    if (meta.num_layers, meta.num_experts) != (stack.moe_layers, shape.experts.number):
        yield (
            f"routing of {meta.model} ({meta.num_layers} layers of {meta.num_experts}) timed as {shape.name} "
            f"({stack.moe_layers} of {shape.experts.number})"
        )
    elif not is_of_model(shape.name, meta.model):
        yield f"routing of {meta.model} timed with the shape of {shape.name}"
    if meta.top_k != shape.experts.top_k:
        yield f"the trace uses {meta.top_k} experts a token and layer, {shape.name} {shape.experts.top_k}"


def about_slots(decisions: DecisionTable) -> Iterator[str]:
    """Fewer slots than a step demands, which is an LRU's cliff: up to all layers' demand but one's it hits nothing."""
    demand = len(decisions.uses.key) / decisions.num_steps
    if decisions.slots < demand:
        yield (
            f"{decisions.slots} slots hold less than a step's demand of {demand:.4g} experts: an LRU over all layers "
            f"finds hardly any expert again up to {decisions.cliff_slots} slots (its cliff)"
        )


def about_memory(weights: int, profile: HardwareProfile) -> Iterator[str]:
    """Weights, in bytes, that the device does not hold."""
    vram = int(profile["device.vram"])
    if weights > vram:
        yield f"{weights / GIB:.1f} GiB of weights would be in VRAM, and {profile.name} has {vram / GIB:.1f} GiB"


def about_link(decisions: DecisionTable, prefetching_ns: int, run_ns: int) -> Iterator[str]:
    """A link that does little else than prefetch, in vain."""
    wasted = 1 - decisions.prefetch_useful / max(1, decisions.prefetch_loads)
    if prefetching_ns > SATURATED * run_ns and wasted >= WASTED:
        yield f"the link is saturated by prefetches, {wasted:.0%} of them wasted"


def about_order(link: str, profile: HardwareProfile) -> Iterator[str]:
    """An order of copies for which their effect on kernels is not simulated."""
    if link != "fifo" and profile.interference:
        share = f"{100 * profile.interference:.1f} %"
        yield f"{profile.name}: kernels take {share} longer beside a copy, which is left out on a {link} link"


def is_yardstick(chosen: Policy) -> bool:
    """Whether no runtime could follow the policy with this model: it holds every expert, or its eviction or predictor
    declares `peeks` (it knows the future, or needs a model made for it). An unknown part is none."""
    predictor = PREDICTORS.get(chosen.predictor)
    parts = EVICTIONS.get(chosen.eviction), getattr(predictor, "func", predictor)  # configured ones are partial
    return chosen.sharing == "all-resident" or any(getattr(part, "peeks", False) for part in parts)


def brought(chosen: Policy) -> dict[str, str]:
    """Versions of the distributions that bring a policy, its eviction or its predictor; none where all is built in."""
    parts = (POLICIES, chosen.name), (EVICTIONS, chosen.eviction), (PREDICTORS, chosen.predictor)
    return {name: version for table, part in parts for name, version in table.versions(part).items()}


def default_shape(meta: TraceMeta) -> str:
    """The shape that routing is timed with unless another is chosen: that of its own model, if it is shipped."""
    return shape_of_model(meta.model) or DEFAULT_SHAPE


def of_default_shape(trace: str, meta: TraceMeta) -> str:
    """What to say where no shape was chosen and that of the trace's own model is shipped; else nothing."""
    name = shape_of_model(meta.model)
    return "" if name is None else f"{trace} is timed with the shape {name} of its model, {meta.model}"
