"""What the device reaches at best: large matrix products, and the least time of a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from specmoe.hwprofiles.formats import ComputeFormat
from specmoe.hwprofiles.measure.bench import Bench
from specmoe.hwprofiles.measure.device_time import Effort, computing
from specmoe.hwprofiles.measure.layers import DTYPES
from specmoe.hwprofiles.measure.sample import Sample

CHAIN = 200  # kernels, each of which needs what the one before wrote
CHAIN_NUMBERS = 256


def product(size: int, computed: ComputeFormat, bench: Bench, effort: Effort) -> Sample:
    """Time of a product of two square matrices, 2 * size^3 operations."""
    one, other = (torch.randn((size, size), device=bench.device).to(DTYPES[computed]) for _ in range(2))
    out = torch.empty_like(one)
    return computing(bench, [bench.captured(lambda: torch.mm(one, other, out=out))], effort)


def kernel_floor(bench: Bench, effort: Effort) -> Sample:
    """Time of one of many small kernels that depend on each other, in one graph."""
    numbers = torch.zeros(CHAIN_NUMBERS, device=bench.device)

    def chain() -> None:
        for _ in range(CHAIN):
            numbers.add_(1)

    sample = computing(bench, [bench.captured(chain)], effort)
    return Sample(tuple(time / CHAIN for time in sample.raw))


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute fp32 products in fp32, not in TF32, whatever was set before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
