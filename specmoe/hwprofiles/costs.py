"""Costs of one model on one machine, the only interface of the timing stage: pure functions, whole nanoseconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles import kernels
from specmoe.hwprofiles.basis import SMALL_COPIES, Basis, Move
from specmoe.hwprofiles.launches import size_of
from specmoe.hwprofiles.quantity import HOST_COSTS, OPTIONAL_HOST_COSTS
from specmoe.hwprofiles.shape import KV_SIXTEENTHS, Format, Phase, bytes_of, is_compressed, is_expandable

Tier = Literal["vram", "vram-compressed", "host-pinned", "host-pageable", "nvme"]


class HostCosts(NamedTuple):
    """Time that the host thread spends on each call, in ns."""

    launch_ns: int  # one expert
    launch_dense_ns: int  # everything up to the next router
    issue_ns: int  # one copy
    event_ns: int  # making one stream wait for another
    sync_ns: int  # from a router's end until the host has its result
    bookkeeping_ns: int  # the policy's own work per MoE layer
    begin_ns: int = 0  # from the end of the host's call until an idle device begins what was launched
    begin_copy_ns: int = 0  # likewise, until an idle link begins a copy


@dataclass(frozen=True)
class Costs(Basis):
    """Costs of `shape` on `profile`: experts in slots of `format`, dense weights in `dense_format`.

    `style` says how experts are multiplied and launched. Dense weights are in the compute format of the experts if
    `dense_format` is None. `cpu` are experts for the CPU to compute, None where it computes none. The other fields are
    those of `Basis`: what a run announces that it uses.
    """

    @cached_property
    def host(self) -> HostCosts:
        """Costs of the host thread."""
        costs = (*HOST_COSTS, *OPTIONAL_HOST_COSTS)
        names = {f"{cost}_ns": f"host.{self.host_set}.{cost}" for cost in costs}
        return HostCosts(**{cost: self.profile.ns(name) for cost, name in names.items() if name in self.profile})

    def move_ns(self, move: Move, amount: int) -> int:
        """Time of one copy, read or allocation of `amount` bytes, alone on its link."""
        return self._curve(move)(amount)

    def load_ns(self, tier: Tier = "host-pinned", held: Format | None = None, layer: int | None = None) -> int:
        """Time on a tier's link to load one expert held in format `held` (default: that of the slots); 0 in VRAM.

        It is an expert of a MoE layer, or one of the mean size. A load from `nvme` ends in host memory; the copy to the
        device follows it.
        """
        if tier == "vram" or tier == "vram-compressed":
            return 0
        alone = self.move_ns(tier, self._bytes(held, layer))
        return round(alone * self.profile.contention) if tier == "host-pinned" else alone

    def cpu_ns(self, tokens: int) -> int:
        """Time to compute one expert on the CPU while no copy is under way; 0 for no token."""
        if self.cpu is None:
            raise InputError("experts on the CPU: costs of a CPU expected")
        return self.cpu.expert_ns(tokens)

    def hidden_ns(self, tokens: int) -> tuple[int, int]:
        """Times of copying one layer's hidden state of `tokens` tokens to the host, and of copying it back."""
        amount = bytes_of(tokens * self.shape.d_model, self.compute_format)
        to_host, to_device = (self.profile.curve(group) for group in SMALL_COPIES)
        return to_host(amount), to_device(amount)

    def device_copy_ns(self, amount: int) -> int:
        """Time of copying `amount` bytes inside VRAM."""
        return self.move_ns("device-copy", amount)

    def dequantise_ns(self, held: Format | None = None) -> int:
        """Time to expand one expert to the compute format; 0 if it is not compressed."""
        held = self._known(held)
        if not is_compressed(held):
            return 0
        if not is_expandable(held):
            raise InputError(f"no kernel that expands {held}: style fused expected")
        return self.profile.curve(f"dequantise.{held}")(self._expanded_bytes)

    def use_ns(self, tokens: int) -> int:
        """Time to compute one expert alone from its slot, in the run's style; 0 for no token."""
        return self.launch_ns((tokens,))

    def launch_ns(self, tokens: Sequence[int]) -> int:
        """Time of one launch of experts from their slots, each with its number of tokens; those without cost nothing.

        Grouped experts are all computed for as many tokens as the largest has. In a style that launches experts
        separately it is the sum of their times.
        """
        rows = [part for part in tokens if part]
        if self.style.launch == "separate":
            return sum(self._launch_ns(1, part) for part in rows)
        return self._launch_ns(len(rows), max(rows)) if rows else 0

    def expert_ns(self, tokens: int) -> int:
        """Time to compute one expert with `tokens` tokens from weights in the compute format; 0 for no token."""
        return self.experts_ns((tokens,))

    def experts_ns(self, tokens: Sequence[int]) -> int:
        """Time of several experts in one grouped launch of the library; experts without tokens cost nothing.

        If the profile has measured curves of the library, it is the sum of the times of single experts.
        """
        rows = [part for part in tokens if part]
        if not rows:
            return 0
        if self._experts.products.groups:
            return sum(round(self._experts.product_ns(part)) for part in rows)
        peak = self.profile[f"gemm.{self.compute_format}.rate"] * self.profile.expert_speed
        rates = kernels.rates_of(self.profile, self.compute_format, self.profile.expert_speed)
        gemms = kernels.expert_gemms(size_of(self.shape))
        return round(sum(kernels.grouped_gemm_ns(rates, self._tiles, peak, gemm, rows) for gemm in gemms))

    def dense_ns(self, phase: Phase, tokens: int, context: int, layer: int = -1) -> int:
        """Time from the previous experts up to the router of MoE layer number `layer` (default: the last one).

        It covers dense layers, then the layer's own attention and shared experts. `tokens` counts all sequences; each
        token attends to `context` positions in each attention.
        """
        return self._dense.dense_ns(phase, tokens, context, layer)

    def attention_ns(self, phase: Phase, tokens: int, context: int) -> int:
        """Time of a MoE layer's own attention, the part of `dense_ns` that papers count as the MoE block."""
        return self._dense.attention_ns(phase, tokens, context)

    def shared_ns(self, tokens: int) -> int:
        """Time of a MoE layer's shared experts; 0 if it has none."""
        return self._dense.shared_ns(tokens)

    def router_ns(self, tokens: int, phase: Phase = "decode") -> int:
        """Time of a router on the device; measured right after another router if the profile has such a curve."""
        return self._dense.router_ns(tokens, phase)

    def before_ns(self, phase: Phase, tokens: int, context: int, layer: int = -1) -> int:
        """Time from the previous experts up to the router's result of MoE layer `layer`, at a context.

        It is measured as a whole if the profile has such a curve, else `dense_ns` plus `router_ns`. A layer with a
        window reads no more than it; decoding, a position in `kv_format` counts as its bytes in 16 bits.
        """
        positions = self.shape.attended(phase, context, layer)
        if phase == "decode":
            positions = -(-positions * KV_SIXTEENTHS[self.kv_format] // KV_SIXTEENTHS["f16"])
        return self._dense.before_ns(phase, tokens, positions, layer)

    def head_ns(self, phase: Phase, tokens: int) -> int:
        """Time after the last MoE layer for `tokens` tokens that produce a next one; 0 for an encoder."""
        return self._dense.head_ns(phase, tokens)

    @cached_property
    def _launch_ns(self) -> Callable[[int, int], int]:
        """Time of a launch of experts with at most a number of tokens each."""
        return cache(lambda experts, tokens: round(self._experts.launch_ns(experts, tokens)))
