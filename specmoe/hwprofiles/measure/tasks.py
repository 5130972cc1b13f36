"""Tasks of a measurement: disk, links and host; expansion, experts and dense parts; large products and floors.

Each task measures on `Context.bench` and stores its results in `Context.found`. A floor is the time of small work minus
its roofline.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch

from specmoe.errors import InputError
from specmoe.hwprofiles.curves import DenseCurve, DensePart, ExpertCurve, Fact
from specmoe.hwprofiles.kernels import Rates, roofline_ns
from specmoe.hwprofiles.measure import host
from specmoe.hwprofiles.measure.bench import Bench, Effort, Sample, computing
from specmoe.hwprofiles.measure.copies import LATENCY_BYTES, Link, fitting, reads
from specmoe.hwprofiles.measure.experts import DenseParts, Experts, Groups, PackedExperts, expansion
from specmoe.hwprofiles.measure.findings import Context
from specmoe.hwprofiles.measure.host import quiet
from specmoe.hwprofiles.measure.layers import DTYPES, WIDTH
from specmoe.hwprofiles.measure.machine import link as link_fact
from specmoe.hwprofiles.quantity import HOST_SETS
from specmoe.hwprofiles.shape import ComputeFormat, Format, ModelShape, Phase, compute_format

CHAIN = 200  # kernels, each of which depends on the one before
CHAIN_NUMBERS = 256
HOW_EXPERT = "one expert as a captured graph, back to back, weights in several places in turn"
HOW_DENSE = "one captured graph, back to back, weights in several places in turn"
HOW_BEFORE = "one captured graph of each layer in turn behind a token's experts, whose time alone is subtracted"
ASSUMED_LANES = 16  # if the driver does not report the link
LANE_RATE = 1e9 * 128 / 130  # bytes per second of a lane of generation 3; it doubles with each generation
REPORTED, NOT_REPORTED = "as the driver reports it", "the driver does not tell"
FLOOR_CONTEXT = 32  # positions; few, so that a layer's time is the chain of its kernels


def product(size: int, computed: ComputeFormat, bench: Bench, effort: Effort) -> Sample:
    """Time of a product of two square matrices, 2 * size^3 operations."""
    one, other = (torch.randn((size, size), device=bench.device).to(DTYPES[computed]) for _ in range(2))
    out = torch.empty_like(one)
    return computing(bench, [bench.captured(lambda: torch.mm(one, other, out=out))], effort)


def kernel_floor(bench: Bench, effort: Effort) -> Sample:
    """Time of one of many small dependent kernels in one graph."""
    numbers = torch.zeros(CHAIN_NUMBERS, device=bench.device)

    def chain() -> None:
        for _ in range(CHAIN):
            numbers.add_(1)

    sample = computing(bench, [bench.captured(chain)], effort)
    return Sample(tuple(time / CHAIN for time in sample.raw))


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute fp32 products in fp32 instead of TF32 inside the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Kind(NamedTuple):
    """Fields of a dense curve without its points."""

    part: DensePart
    phase: Phase
    d_model: int
    parameters: int
    format: ComputeFormat
    context: int


def expert_curve(context: Context, shape: ModelShape, held: Format) -> None:
    """Measure an expert of a shape in a format, up to the tokens that fit into memory."""
    what, effort = f"experts of {shape.name} in {held}", context.plan.effort
    try:
        experts = Experts(shape, held, context.bench)
    except torch.OutOfMemoryError as error:
        context.skip(f"{what}: {first_line(error)}")
        return
    timed = as_far_as_memory(context, what, context.plan.expert_tokens, lambda tokens: experts.sample(tokens, effort))
    if timed:
        points = context.found.records.points(timed, "token", HOW_EXPERT)
        sizes = shape.experts
        context.found.experts.append(ExpertCurve(shape.d_model, sizes.d_ff, sizes.gated, held, points))


def group_curves(context: Context, shape: ModelShape, held: Format) -> None:
    """Measure launches of 1, 2, 4 ... experts with the fused kernel."""
    what, plan = f"groups of {shape.name} in {held}", context.plan
    try:
        groups = Groups(shape, held, plan.group_experts[-1], context.bench)
    except (InputError, torch.OutOfMemoryError) as error:
        context.skip(f"{what}: {first_line(error)}")
        return
    for number in plan.group_experts:
        sample = partial(groups.sample, number, effort=plan.effort)
        timed = as_far_as_memory(context, f"{what}, {number} together", plan.group_tokens, sample)
        _store(context, shape, held, timed, f"{number} experts in one launch of the fused kernel", number)


def packed_curve(context: Context, shape: ModelShape) -> None:
    """Measure an expert with torch's own int4 product."""
    what, plan = f"experts of {shape.name} in q4_0", context.plan
    try:
        experts = PackedExperts(shape, context.bench)
    except (InputError, torch.OutOfMemoryError) as error:
        context.skip(f"{what}: {first_line(error)}")
        return
    sample = partial(experts.sample, effort=plan.effort)
    timed = as_far_as_memory(context, what, (1, 2, 4, 8, 16, 32, 64), sample)
    _store(context, shape, "q4_0", timed, "one expert with torch's int4 product as a captured graph, back to back", 1)


def _store(
    context: Context, shape: ModelShape, held: Format, timed: list[tuple[int, Sample]], how: str, experts: int
) -> None:
    """Store a curve of the kernels that read packed weights."""
    if timed:
        points, sizes = context.found.records.points(timed, "token", how), shape.experts
        curve = ExpertCurve(shape.d_model, sizes.d_ff, sizes.gated, held, points, "fused", experts)
        context.found.experts.append(curve)


def dense_curves(context: Context, shape: ModelShape, phase: Phase, computed: ComputeFormat) -> None:
    """Measure everything before each kind of MoE layer at every context, the router and the head."""
    parts, plan = DenseParts(shape, phase, computed, context.bench), context.plan
    layers = range(shape.stack(phase).moe_layers)
    for parameters, layer in {shape.dense_parameters(phase, layer): layer for layer in layers}.items():
        for at in plan.contexts[phase]:
            before = partial(parts.before, layer, positions=at, effort=plan.effort)
            _dense(context, Kind("before", phase, shape.d_model, parameters, computed, at), before)
    router = partial(parts.router, effort=plan.effort)
    _dense(context, Kind("router", phase, shape.d_model, shape.router_parameters, computed, 0), router)
    if not (shape.encoder and phase == "encode"):
        head = partial(parts.head, effort=plan.effort)
        _dense(context, Kind("head", phase, shape.d_model, shape.head_parameters, computed, 0), head)


def _dense(context: Context, kind: Kind, sample: Callable[[int], Sample]) -> None:
    """Measure one curve, unless an earlier shape had the same."""
    if any(kind == tuple(getattr(curve, name) for name in Kind._fields) for curve in context.found.dense):
        return
    what = f"{kind.part} of {kind.phase} in {kind.format}, d_model {kind.d_model}, {kind.context} positions"
    timed = as_far_as_memory(context, what, context.plan.dense_tokens[kind.phase], sample)
    if timed:
        how = HOW_BEFORE if kind.part == "before" else HOW_DENSE
        context.found.dense.append(DenseCurve(*kind, context.found.records.points(timed, "token", how)))


def expansion_curve(context: Context, held: Format) -> None:
    """Measure expansion of a compressed format; its rate is that of the largest. Raises InputError if none fits."""
    plan, found = context.plan, context.found
    sample = partial(expansion, held=held, bench=context.bench, effort=plan.effort)
    name, how = f"dequantise.{held}", "expansion to fp16 as a captured graph, back to back"
    timed = as_far_as_memory(context, f"expansion of {held}", plan.expansions, sample)
    if not timed:
        raise InputError(f"{name}: device memory is too small for the smallest expansion")
    found.curve(f"{name}.points", timed, how)
    found.rate(f"{name}.rate", *timed[-1], f"the largest {how}")


def as_far_as_memory(
    context: Context, what: str, amounts: Iterable[int], sample: Callable[[int], Sample]
) -> list[tuple[int, Sample]]:
    """Samples by rising amount until device memory runs out, which is reported as skipped."""
    timed: list[tuple[int, Sample]] = []
    for amount in amounts:
        try:
            timed.append((amount, sample(amount)))
        except torch.OutOfMemoryError as error:
            context.skip(f"{what} from {amount} on: {first_line(error)}")
            break
    return timed


def first_line(error: Exception) -> str:
    """First line of an error message."""
    return str(error).splitlines()[0]


def disk_reads(context: Context) -> None:
    """Measure reads from disk: the copy `nvme`."""
    timed, latency, how = reads(context.plan.reads)
    context.found.curve("nvme.points", timed, how)
    context.found.latency("nvme", latency, how)


def links_and_host(context: Context, shape: ModelShape) -> None:
    """Measure all copies, allocation and host costs, which share their buffers."""
    link = open_link(context)
    copies(context, link, shape)
    with quiet():
        host_costs(context, link, shape)


def open_link(context: Context) -> Link:
    """Allocate buffers of the largest size that fits into memory; raises InputError if none fits."""
    for largest in reversed(context.plan.copies):
        try:
            return Link(context.bench, largest, context.plan.effort)
        except RuntimeError as error:  # torch raises it if host or device memory runs out
            context.skip(f"copies of {largest} bytes: {str(error).splitlines()[0]}")
    raise InputError("copies: host or device memory is too small for the smallest copy")


def copies(context: Context, link: Link, shape: ModelShape) -> None:
    """Measure all kinds of copies by size; the time of the smallest is the latency."""
    sizes = fitting(context.plan.copies, len(link.pinned))
    beside = Experts(shape, shape.format, context.bench).beside(context.plan.effort)
    for name, measured, how in link.ways(beside):
        timed = [(size, measured(size)) for size in sizes]
        context.found.curve(name, timed, how)
        if name.endswith(".points"):
            context.found.latency(name.rpartition(".")[0], measured(LATENCY_BYTES), how)
        if name == "device_copy.points":
            size, sample = timed[-1]
            context.found.rate("device.memory_bandwidth", 2 * size, sample, "read and written by the largest of them")


def host_costs(context: Context, link: Link, shape: ModelShape) -> None:
    """Measure both sets of host costs, with an expert and the last dense part of a shape on one token."""
    bench, effort, found = context.bench, context.plan.effort, context.found
    parts = _parts(context, shape)
    begin = host.begin(bench, parts, effort)
    shared = {
        "issue": (host.issue(bench, link), "issue of a copy: another stream, a wait, the copy, an event"),
        "event": (host.handover(bench, link, parts.expert, effort), "from a copy's end until a kernel's beginning"),
        "sync": (host.sync(bench, parts, begin, effort), "from the router's end until the host has waited for it"),
        "bookkeeping": (host.bookkeeping(bench), "a replay's loop for an event that does nothing"),
        "begin_copy": (host.begin_copy(bench, link, effort), "from the issue of a few bytes until they move"),
    }
    for kind in HOST_SETS:
        for cost, (sample, how) in shared.items():
            found.time(f"host.{kind}.{cost}", sample, how)
    found.time("host.graph.begin", begin, "from a launch's return until an idle device begins")
    of = f"of {shape.name} {shape.format}"
    found.time("host.graph.launch", host.launch(bench, parts.expert), f"launch of a captured expert {of}")
    found.time("host.graph.launch_dense", host.launch(bench, parts.before), f"launch of a captured dense part {of}")
    found.time("host.eager.launch", host.launch(bench, parts.expert_eager), f"operators of an expert {of}")
    found.time("host.eager.launch_dense", host.launch(bench, parts.before_eager), f"operators of a dense part {of}")


def _parts(context: Context, shape: ModelShape) -> host.Parts:
    bench = context.bench
    expert = Experts(shape, shape.format, bench).runs(1)[0]
    stand = DenseParts(shape, "decode", compute_format(shape.format), bench).stands[0]
    before, chosen = stand.before(-1, 1, host.CONTEXT)
    return host.Parts(bench.captured(expert), expert, bench.captured(before), before, chosen)


def built_link(context: Context, facts: Mapping[str, Fact]) -> None:
    """Store the link as reported, else the lowest generation that explains the measured rate."""
    found, lanes, generation = context.found, link_fact(facts, "width"), link_fact(facts, "generation")
    if lanes is None:
        found.guessed("link.lanes", ASSUMED_LANES, f"{NOT_REPORTED}; the usual number")
    else:
        found.given("link.lanes", lanes, REPORTED)
    if generation is None:
        found.guessed("link.generation", _carrying(context), f"{NOT_REPORTED}; the lowest for the measured rate")
    else:
        found.given("link.generation", generation, REPORTED)


def _carrying(context: Context) -> int:
    points, lanes = context.found.points["host_to_device.pinned.points"], context.found.quantities["link.lanes"].value
    rate = points.amounts[-1] / points.times_ns[-1] * 1e9
    return next(at for at in itertools.count(1) if lanes * LANE_RATE * 2.0 ** (at - 3) > rate)


def products(context: Context, shape: ModelShape, computed: ComputeFormat) -> None:
    """Measure the rate of large products, and the share of it that an expert on the most tokens reaches."""
    size, found = context.plan.product, context.found
    sample = product(size, computed, context.bench, context.plan.effort)
    found.rate(f"gemm.{computed}.rate", 2 * size**3, sample, f"product of two matrices of {size} by {size}")
    tokens, name = context.plan.expert_tokens[-1], f"gemm.{computed}.efficiency"
    of = f"an expert of {shape.name} on {tokens} tokens"
    try:
        taken = Experts(shape, computed, context.bench).sample(tokens, context.plan.effort)
    except torch.OutOfMemoryError:
        found.guessed(name, 1, f"{of} does not fit into memory")
        return
    operations = 2 * shape.feed_forward_parameters(shape.experts.d_ff) * tokens
    reached = operations / taken.median * 1e9 / found.quantities[f"gemm.{computed}.rate"].value
    found.share(name, reached, taken, f"what {of} reaches of rate")


def floors(context: Context, shape: ModelShape) -> None:
    """Measure the floors of a kernel, of a layer and of a router on one token."""
    bench, effort, found = context.bench, context.plan.effort, context.found
    found.time("device.kernel_floor", kernel_floor(bench, effort), "one of many dependent kernels in one graph")
    parts = DenseParts(shape, "decode", compute_format(shape.format), bench)
    of = f"of {shape.name} on one token, less the roofline"
    layer, router = parts.layer(FLOOR_CONTEXT, effort), parts.router(1, effort)
    found.time("dense.layer_floor", layer, f"a layer {of}", layer_roofline_ns(context, parts))
    rates = rates_found(context, parts.computed)
    less = roofline_ns(rates, shape.router_parameters, 2 * shape.router_parameters)
    found.time("router.floor", router, f"a router {of}", less)


def layer_roofline_ns(context: Context, parts: DenseParts) -> float:
    """Roofline, ns, of the layer that `floors` measures, as in `Costs`."""
    shape, rates = parts.shape, rates_found(context, parts.computed)
    positions = shape.attentions(parts.phase) * FLOOR_CONTEXT
    operations = 2 * parts.layer_parameters + positions * shape.attention.flops_per_position
    cached = positions * shape.attention.cached * rates.weight_bytes
    return roofline_ns(rates, parts.layer_parameters, operations, cached)


def rates_found(context: Context, computed: ComputeFormat) -> Rates:
    """Measured rates of the device in a format."""
    known = {name: quantity.value for name, quantity in context.found.quantities.items()}
    arithmetic = known[f"gemm.{computed}.rate"] * known[f"gemm.{computed}.efficiency"]
    return Rates(0, known["device.memory_bandwidth"], arithmetic, WIDTH[computed])
