"""Large products, what experts reach of them, and floors: what is left of small work after the roofline."""

from __future__ import annotations

import torch

from specmoe.hwprofiles.formats import ComputeFormat, compute_format
from specmoe.hwprofiles.kernels import Rates, roofline_ns
from specmoe.hwprofiles.measure.dense import DenseParts
from specmoe.hwprofiles.measure.experts import Experts
from specmoe.hwprofiles.measure.findings import Context
from specmoe.hwprofiles.measure.layers import WIDTH
from specmoe.hwprofiles.measure.rates import kernel_floor, product
from specmoe.hwprofiles.shape import ModelShape

FLOOR_CONTEXT = 32  # positions: few, so that what a layer takes is the chain of its kernels


def products(context: Context, shape: ModelShape, computed: ComputeFormat) -> None:
    """The rate of large products, and the share of it that an expert on the most tokens reaches."""
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
    """Of a kernel, of a layer and of a router, one token."""
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
    """What the roofline says of the layer that `floors` measures, as `Costs` does of any."""
    shape, rates = parts.shape, rates_found(context, parts.computed)
    positions = shape.attentions(parts.phase) * FLOOR_CONTEXT
    operations = 2 * parts.layer_parameters + positions * shape.attention.flops_per_position
    cached = positions * shape.attention.cached * rates.weight_bytes
    return roofline_ns(rates, parts.layer_parameters, operations, cached)


def rates_found(context: Context, computed: ComputeFormat) -> Rates:
    """What the device was found to reach in a format."""
    known = {name: quantity.value for name, quantity in context.found.quantities.items()}
    arithmetic = known[f"gemm.{computed}.rate"] * known[f"gemm.{computed}.efficiency"]
    return Rates(0, known["device.memory_bandwidth"], arithmetic, WIDTH[computed])
