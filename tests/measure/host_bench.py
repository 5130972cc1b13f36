"""The host in the place of a device: everything runs when it is launched, on CPU tensors and the host's clock."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from specmoe.hwprofiles.curves import Fact
from specmoe.hwprofiles.measure.bench import Beside, Effort
from specmoe.hwprofiles.measure.findings import Plan
from specmoe.hwprofiles.measure.layers import Run
from specmoe.hwprofiles.shape import Attention, Experts, ModelShape, Stack

FACTS: dict[str, Fact] = {
    "device": "NVIDIA Test 1GB",
    "driver": "1.2.3",
    "pcie_generation_max": 4,
    "pcie_width_max": 8,
    "date": "2026-01-02",
}
QUICK = Plan(
    copies=(4096, 16384),
    reads=(4096, 16384),
    expansions=(4096, 16384),
    expert_tokens=(1, 4),
    dense_tokens={"decode": (1, 2), "encode": (4, 8)},
    contexts={"decode": (4, 8), "encode": (4,)},
    product=32,
    cpu_tokens=(1, 2),
    cpu_bytes=1 << 16,
    cpu_copy=4096,
    effort=Effort(10_000, 3),
)


def encoder_decoder(name: str = "tiny", d_ff: int = 32) -> ModelShape:
    """Ungated, an encoder, cross-attention."""
    stack = Stack(4, 1, 2, 64)
    return ModelShape(
        name, "by hand", "fp16", 32, 50, True, Attention(2, 2, 16), Experts(4, 1, d_ff, False), stack, stack
    )


def decoder_only(name: str = "gated") -> ModelShape:
    """Gated, grouped heads, shared experts, one dense layer in front of the first MoE layer only."""
    experts = Experts(4, 2, 16, True, shared_d_ff=16)
    return ModelShape(name, "by hand", "bf16", 32, 40, False, Attention(4, 2, 8), experts, Stack(3, 1, 1, 64))


class HostBench:
    """`Bench` that counts what it was asked for; `room` is the most bytes of one graph's worth, None: no limit."""

    device = torch.device("cpu")
    l2_bytes = 4096
    vram_bytes = 1 << 30

    def __init__(self, facts: Mapping[str, Fact] = FACTS) -> None:
        self._facts = facts
        self._last = 0
        self.captures = self.released = 0
        self.busy = False

    def facts(self) -> Mapping[str, Fact]:
        return self._facts

    def pinned(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def captured(self, run: Run) -> Run:
        self.captures += 1
        return run

    def release(self) -> None:
        self.released += 1

    def now(self) -> int:
        return time.perf_counter_ns()

    def wait(self) -> None:
        pass

    def queued_ns(self, launch: Run, times: int, beside: Beside | None = None) -> float:
        if beside is not None:
            beside.launch()
        before = self.now()
        for _ in range(times):
            launch()
        return (self.now() - before) / times

    def copied_ns(self, copy: Run, times: int, ahead: bool = True, beside: Beside | None = None) -> float:
        if beside is not None:
            self.busy = True
            beside.launch()
        return self.queued_ns(copy, times)

    def launch(self, launch: Run) -> None:
        launch()

    def issue(self, copy: Run) -> None:
        copy()

    def await_last(self) -> None:
        pass

    def handover_ns(self, copy: Run, launch: Run) -> float:
        copy()
        return self.queued_ns(launch, 1)

    def allocation_ns(self, size: int) -> float:
        before = self.now()
        torch.empty(size, dtype=torch.uint8)
        return float(self.now() - before)
