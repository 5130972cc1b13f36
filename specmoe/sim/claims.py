"""Warnings and origins of a result: what a user must know before believing it, one line each.

The warnings are about the model, the number of slots, VRAM and the link. `is_yardstick` says whether a runtime could
follow the policy at all, and `plugin_versions` which plug-ins the policy's parts come from.
"""

from collections.abc import Iterator, Mapping

from specmoe.hwprofiles.catalogue import is_of_model, load_shape, shape_names, shape_of_model
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import ModelShape
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.misses import named
from specmoe.sim.decide.policy import POLICIES, Policy
from specmoe.sim.decide.table import Counted, DecisionTable
from specmoe.sim.speculate.predictors import PREDICTORS
from specmoe.traces.schema import TraceMeta
from specmoe.traces.workload import WarmUp

MIB, GIB = 1 << 20, 1 << 30
DEFAULT_SHAPE = "switch-base-128"
LEARNED = "learned"  # prefix of predictors with a network
SATURATED = 0.9  # share of a run's time that copies of prefetches take; above it the link is saturated
WASTED = 0.1  # share of prefetches never used; below it a saturated link is no fault of the predictor


def about_model(meta: TraceMeta, shape: ModelShape) -> Iterator[str]:
    """Warn about routing of one model that is timed with the shape of another."""
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


def about_slots(decisions: Counted) -> Iterator[str]:
    """Warn about fewer slots than one step uses: an LRU then evicts each expert before its next use (its cliff)."""
    demand = decisions.demands / decisions.steps
    if decisions.slots < demand:
        yield (
            f"{decisions.slots} slots are fewer than the {demand:.4g} experts that one step uses: up to "
            f"{decisions.cliff_slots} slots (its cliff) an LRU over all layers evicts each expert before its next use"
        )


def about_training(chosen: Policy, domains: tuple[str, ...]) -> Iterator[str]:
    """Warn about a network, which learns nothing from the text domains that a run names."""
    if domains and chosen.predictor.startswith(LEARNED):
        yield f"the network of {chosen.name} was trained before, and not on the text domains of this run alone"


def about_placement(chosen: Policy, layers: int) -> Iterator[str]:
    """Warn about more layers in RAM than there are."""
    name, number = named(chosen.placement)
    if name.startswith("cpu-") and number and int(number) > layers:
        yield (
            f"{chosen.name}: the model has only {layers} MoE layers: all their experts are in RAM, as under cpu-experts"
        )


def about_changes(decisions: DecisionTable) -> Iterator[str]:
    """Warn about uses that an approximate policy changes."""
    if decisions.changes is not None:
        parts = {"dropped": decisions.dropped_uses, "of few bits": decisions.low_uses}
        parts["joined a layer later"] = decisions.deferred_uses
        uses, mass = len(decisions.uses.key), decisions.changes.mass.sum()
        counted = ", ".join(f"{count / uses:.1%} {how}" for how, count in parts.items() if count)
        yield f"approximate: of the uses are {counted}, with {decisions.changed_mass / mass:.1%} of the routers' weight"


def about_warm_up(warm_up: WarmUp, slots: int) -> Iterator[str]:
    """Warn about a warm-up in which demand cannot have filled every slot."""
    if 0 < warm_up.demanded < slots:
        yield (
            f"the {slots} slots are not all filled in the warm-up: its {warm_up.steps} steps demand {warm_up.demanded} "
            "distinct experts"
        )


def about_sizes(slots: Mapping[int, int]) -> Iterator[str]:
    """Say how many slots there are of each size of expert, bytes."""
    parts = ", ".join(f"{count} of {size / MIB:.2f} MiB" for size, count in slots.items())
    yield f"experts have {len(slots)} sizes, and layers share slots of their own size only: {parts}"


def about_memory(weights: int, profile: HardwareProfile) -> Iterator[str]:
    """Warn about weights, in bytes, that exceed the VRAM of the device."""
    vram = int(profile["device.vram"])
    if weights > vram:
        yield f"the weights in VRAM take {weights / GIB:.1f} GiB, but {profile.name} has only {vram / GIB:.1f} GiB"


def about_link(decisions: Counted, prefetching_ns: int, run_ns: int) -> Iterator[str]:
    """Warn about a link that is saturated by prefetches of which many are wasted. Times in ns."""
    wasted = 1 - decisions.prefetch_useful / max(1, decisions.prefetch_loads)
    if prefetching_ns > SATURATED * run_ns and wasted >= WASTED:
        yield f"the link is saturated by prefetches, {wasted:.0%} of them wasted"


def about_order(link: str, profile: HardwareProfile) -> Iterator[str]:
    """Warn about an order of copies for which the slowdown of kernels beside copies is not simulated."""
    if link != "fifo" and profile.interference:
        share = f"{100 * profile.interference:.1f} %"
        yield f"{profile.name}: kernels take {share} longer beside a copy, which is not simulated on a {link} link"


def is_yardstick(chosen: Policy, fits: bool = False) -> bool:
    """Whether no runtime could follow the policy with this model.

    True where every expert is resident although not all fit (`fits`), or where the eviction or the predictor declares
    `peeks` (it knows the future, or needs a model that was trained for it). An unknown part counts as no yardstick.
    """
    predictor = PREDICTORS.get(chosen.predictor)
    parts = EVICTIONS.get(chosen.eviction), getattr(predictor, "func", predictor)  # configured ones are partial
    return (chosen.sharing == "all-resident" and not fits) or any(getattr(part, "peeks", False) for part in parts)


def plugin_versions(chosen: Policy) -> dict[str, str]:
    """Versions of the plug-ins that a policy, its eviction and its predictor come from; empty if all are built in."""
    parts = (POLICIES, chosen.name), (EVICTIONS, chosen.eviction), (PREDICTORS, chosen.predictor)
    return {name: version for table, part in parts for name, version in table.versions(part).items()}


def default_shape(meta: TraceMeta) -> str:
    """The shape that routing is timed with unless another is chosen: that of its own model, if it is shipped.

    Routing of more layers than the usual shape has gets the smallest shape that it can stand in for.
    """
    usual = load_shape(DEFAULT_SHAPE)
    if (named := shape_of_model(meta.model)) or meta.num_layers <= usual.stack(meta.phase).moe_layers:
        return named or DEFAULT_SHAPE
    alike = [shape for shape in map(load_shape, shape_names()) if stands_in(meta, shape)]
    return min(alike, key=lambda shape: (shape.decoder.moe_layers, shape.d_model), default=usual).name


def stands_in(meta: TraceMeta, shape: ModelShape) -> bool:
    """Whether a trace can stand in for a decoder-only shape: as many experts, the same top-k, and no more layers."""
    alike = (meta.num_experts, meta.top_k) == (shape.experts.number, shape.experts.top_k)
    return shape.encoder is None and alike and meta.num_layers <= shape.decoder.moe_layers


def of_default_shape(trace: str, meta: TraceMeta) -> str:
    """What to say where no shape was chosen and that of the trace's own model is shipped; else nothing."""
    name = shape_of_model(meta.model)
    return "" if name is None else f"{trace} is timed with the shape {name} of its model, {meta.model}"
