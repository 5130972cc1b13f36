"""Experts and dense parts by tokens, expansion by bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch

from specmoe.errors import InputError
from specmoe.hwprofiles.formats import ComputeFormat, Format
from specmoe.hwprofiles.measure.dense import DenseParts
from specmoe.hwprofiles.measure.experts import Experts, expansion
from specmoe.hwprofiles.measure.findings import Context
from specmoe.hwprofiles.measure.sample import Sample
from specmoe.hwprofiles.profile import DenseCurve, DensePart, ExpertCurve
from specmoe.hwprofiles.shape import ModelShape, Phase


class Kind(NamedTuple):
    """A dense curve without its points."""

    part: DensePart
    phase: Phase
    d_model: int
    parameters: int
    format: ComputeFormat
    context: int


HOW_EXPERT = "one expert as a captured graph, back to back, weights in several places in turn"
HOW_DENSE = "one captured graph, back to back, weights in several places in turn"


def expert_curve(context: Context, shape: ModelShape, held: Format) -> None:
    """An expert of a shape in a format, as far as memory goes."""
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


def dense_curves(context: Context, shape: ModelShape, phase: Phase, computed: ComputeFormat) -> None:
    """Everything before each kind of MoE layer at every context, and the head."""
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
    """One curve, unless a shape before had the same."""
    if any(kind == tuple(getattr(curve, name) for name in Kind._fields) for curve in context.found.dense):
        return
    what = f"{kind.part} of {kind.phase} in {kind.format}, d_model {kind.d_model}, {kind.context} positions"
    timed = as_far_as_memory(context, what, context.plan.dense_tokens[kind.phase], sample)
    if timed:
        points = context.found.records.points(timed, "token", HOW_DENSE)
        context.found.dense.append(DenseCurve(*kind, points))


def expansion_curve(context: Context, held: Format) -> None:
    """Expansion of a compressed format; its rate is that of the most bytes. Raises InputError if no memory is left."""
    plan, found = context.plan, context.found
    sample = partial(expansion, held=held, bench=context.bench, effort=plan.effort)
    name, how = f"dequantise.{held}", "expansion to fp16 as a captured graph, back to back"
    timed = as_far_as_memory(context, f"expansion of {held}", plan.expansions, sample)
    if not timed:
        raise InputError(f"{name}: no room for the least expansion in device memory")
    found.curve(f"{name}.points", timed, how)
    found.rate(f"{name}.rate", *timed[-1], f"the largest {how}")


def as_far_as_memory(
    context: Context, what: str, amounts: Iterable[int], sample: Callable[[int], Sample]
) -> list[tuple[int, Sample]]:
    """Samples by rising amount, up to where device memory runs out, which is told."""
    timed: list[tuple[int, Sample]] = []
    for amount in amounts:
        try:
            timed.append((amount, sample(amount)))
        except torch.OutOfMemoryError as error:
            context.skip(f"{what} from {amount} on: {first_line(error)}")
            break
    return timed


def first_line(error: Exception) -> str:
    """Of what torch says at length."""
    return str(error).splitlines()[0]
