"""By how much kernels and copies slow each other down, in a decoder's steps."""

import numpy as np
import torch

from specmoe.hwprofiles.measure.bench import Beside, computing, copying, in_turn, percent, rounded
from specmoe.hwprofiles.measure.copies import pairs
from specmoe.hwprofiles.measure.experts import DenseParts
from specmoe.hwprofiles.measure.findings import Context
from specmoe.hwprofiles.measure.host import CONTEXT
from specmoe.hwprofiles.quantity import CONTENTION, INTERFERENCE
from specmoe.hwprofiles.shape import ComputeFormat, ModelShape

COPIES_IN_TURN = 3


def slowdown(context: Context, shape: ModelShape, computed: ComputeFormat) -> None:
    """Measure a decoder's kernels beside copies of its experts, and those beside its kernels."""
    what = f"{shape.name} {computed}"
    try:
        context.found.slower[what] = slower_together(context, shape, computed)
    except RuntimeError as error:  # torch raises it if host or device memory runs out
        context.skip(f"copies beside kernels of {what}: {str(error).splitlines()[0]}")


def typical_slowdown(context: Context) -> None:
    """Store the medians of all that `slowdown` measured, unless they are 0."""
    found = context.found
    names = (INTERFERENCE, "kernels beside copies", 0.0), (CONTENTION, "copies beside kernels", 1.0)
    for (name, how, least), shares in zip(names, zip(*found.slower.values(), strict=True), strict=False):
        typical = float(np.median(np.maximum(shares, 0.0)))
        each = ", ".join(f"{what} {percent(share)}" for what, share in zip(found.slower, shares, strict=True))
        if typical:
            found.given(name, rounded(least + typical), f"{how}, median of {each}")


def slower_together(context: Context, shape: ModelShape, computed: ComputeFormat) -> tuple[float, float]:
    """Shares by which a decoder's kernels and copies of its experts take longer beside each other."""
    bench, effort = context.bench, context.plan.effort
    parts = DenseParts(shape, "decode", computed, bench)
    launches = parts.behind(parts.token, shape.stack("decode").moe_layers - 1, 1, CONTEXT)
    size = shape.expert_bytes(computed)
    source = bench.pinned(COPIES_IN_TURN * size)
    turn = pairs(torch.empty_like(source, device=bench.device), source, size)
    alone, copied = computing(bench, launches, effort).median, copying(bench, turn, effort).median
    slowed = computing(bench, launches, effort, Beside(in_turn(turn), max(copied, 1.0))).median
    longer = copying(bench, turn, effort, beside=Beside(in_turn(launches), max(alone, 1.0))).median
    return slowed / max(alone, 1.0) - 1, longer / max(copied, 1.0) - 1
