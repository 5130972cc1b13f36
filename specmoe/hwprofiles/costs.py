"""What one model costs on one machine: the only thing that the timing stage asks. Whole nanoseconds, pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.curves import Curve, Interpolated, Points, extrapolation
from specmoe.hwprofiles.fields import HOST_COSTS, HOST_SETS, OPTIONAL_HOST_COSTS, TILES
from specmoe.hwprofiles.formats import FORMATS, ComputeFormat, Format, bytes_of, compute_format, is_compressed
from specmoe.hwprofiles.kernels import Rates, Tiles, expert_gemms, grouped_gemm_ns, rates_of, roofline_ns, tiles_of
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import Evidence, weakest
from specmoe.hwprofiles.reading import hint
from specmoe.hwprofiles.shape import ModelShape, Phase

Tier = Literal["vram", "vram-compressed", "host-pinned", "host-pageable", "nvme"]
Move = Literal["host-pinned", "host-pageable", "nvme", "device-copy", "device-to-host", "allocation"]
HostSet = Literal["graph", "eager"]

CURVE_OF: dict[Move, str] = {
    "host-pinned": "host_to_device.pinned",
    "host-pageable": "host_to_device.pageable",
    "nvme": "nvme",
    "device-copy": "device_copy",
    "device-to-host": "device_to_host",
    "allocation": "allocation",
}


class HostCosts(NamedTuple):
    """What the host thread pays, in ns."""

    launch_ns: int  # one expert
    launch_dense_ns: int  # everything up to the next router
    issue_ns: int  # one copy
    event_ns: int  # making one stream wait for another
    sync_ns: int  # from a router's end until its result is here
    bookkeeping_ns: int  # the policy's own work in a MoE layer
    begin_ns: int = 0  # from the end of the host's call until an idle device begins what was launched or issued


@dataclass(frozen=True)
class Costs:
    """Costs of `shape` on `profile`: experts in slots of `format`, all else in the format that they compute in.

    `moves` and `also_held` name the curves and the further formats (of compressed copies) that a run uses, and
    `most_tokens` the most that one expert gets in a step. Asking for another move or format is an error, so that
    `evidence`, `assumed` and `warnings` cover all that was asked. Raises InputError for unknown names.
    """

    profile: HardwareProfile
    shape: ModelShape
    format: Format
    host_set: HostSet = "graph"
    moves: tuple[Move, ...] = ("host-pinned",)
    also_held: tuple[Format, ...] = ()
    most_tokens: int = 1

    def __post_init__(self) -> None:
        choices: list[tuple[str, str, tuple[str, ...]]]
        choices = [("format", self.format, FORMATS), ("host set", self.host_set, HOST_SETS)]
        choices += [("format", held, FORMATS) for held in self.also_held]
        choices += [("move", move, tuple(CURVE_OF)) for move in self.moves]
        for what, name, known in choices:
            if name not in known:
                raise InputError(f"{what} {name!r}: {hint(name, known)}")

    @cached_property
    def host(self) -> HostCosts:
        """What the host thread pays."""
        costs = (*HOST_COSTS, *OPTIONAL_HOST_COSTS)
        names = {f"{cost}_ns": f"host.{self.host_set}.{cost}" for cost in costs}
        return HostCosts(**{cost: self.profile.ns(name) for cost, name in names.items() if name in self.profile})

    def move_ns(self, move: Move, amount: int) -> int:
        """Time of one copy, read or allocation of `amount` bytes on its own link."""
        return self._curve(move)(amount)

    def load_ns(self, tier: Tier = "host-pinned", held: Format | None = None) -> int:
        """Time on a tier's link for one expert, in the slots' format unless told; nothing for what is in VRAM.

        From `nvme` it ends in host memory: the copy to the device comes after it.
        """
        return 0 if tier == "vram" or tier == "vram-compressed" else self.move_ns(tier, self._bytes(held))

    def device_copy_ns(self, amount: int) -> int:
        """Time of copying `amount` bytes inside VRAM."""
        return self.move_ns("device-copy", amount)

    def dequantise_ns(self, held: Format | None = None) -> int:
        """Time of expanding one expert to the compute format; 0 if it is held expanded."""
        held = self._known(held)
        if not is_compressed(held):
            return 0
        expanded = bytes_of(self.shape.expert_parameters, self.compute_format)
        return round(self._rates.floor_ns + expanded / self.profile[f"dequantise.{held}.rate"] * 1e9)

    def expert_ns(self, tokens: int) -> int:
        """Time of one expert alone with so many tokens, its weights ready in the compute format; 0 for no token."""
        return self.experts_ns((tokens,))

    def experts_ns(self, tokens: Sequence[int]) -> int:
        """Time of several experts in one grouped launch; those with no token cost nothing.

        Where experts were measured it is the sum of what each takes alone.
        """
        rows = [part for part in tokens if part]
        if not rows:
            return 0
        if self._expert_curve is not None:
            return sum(map(self._expert_curve, rows))
        peak = self.profile[f"gemm.{self.compute_format}.rate"]
        return round(
            sum(grouped_gemm_ns(self._rates, self._tiles, peak, gemm, rows) for gemm in expert_gemms(self.shape))
        )

    def dense_ns(self, phase: Phase, tokens: int, context: int, layer: int = -1) -> int:
        """Time before the router of a MoE layer (ordinal; the last unless told), from the experts before it on.

        Dense layers, then the layer's own attention, then its shared experts. `tokens` of all sequences together
        attend to `context` positions each, in each of their attentions.
        """
        count = self.shape.stack(phase).dense_before(layer)
        between = self._layer_ns(phase, self.shape.dense_layer_parameters(phase), tokens, context)
        return round(count * between) + self.attention_ns(phase, tokens, context) + self.shared_ns(tokens)

    def attention_ns(self, phase: Phase, tokens: int, context: int) -> int:
        """Time of a MoE layer's own attention: the part of `dense_ns` that a "MoE block" includes."""
        return round(self._layer_ns(phase, self.shape.attention_parameters(phase), tokens, context))

    def shared_ns(self, tokens: int) -> int:
        """Time of a MoE layer's shared experts; 0 if it has none."""
        return self._product_ns(self.shape.shared_parameters, tokens, 2 * self._rates.floor_ns)

    def router_ns(self, tokens: int) -> int:
        """Time of a router on the device."""
        return self._product_ns(self.shape.router_parameters, tokens, self.profile.ns("router.floor"))

    def head_ns(self, phase: Phase, tokens: int) -> int:
        """Time after the last MoE layer for so many tokens that are to be continued; an encoder continues none."""
        if self.shape.encoder and phase == "encode":
            return 0
        return self._product_ns(self.shape.head_parameters, tokens, self._rates.floor_ns)

    @property
    def compute_format(self) -> ComputeFormat:
        """What the kernels work in."""
        return compute_format(self.format)

    @property
    def uses(self) -> tuple[str, ...]:
        """Dotted names of everything in the profile that these costs rest on."""
        held = sorted({self.format, *self.also_held})
        groups = [CURVE_OF[move] for move in self.moves]
        groups += [f"dequantise.{name}" for name in held if is_compressed(name)]
        groups += [f"gemm.{self.compute_format}", "dense", "router", f"host.{self.host_set}"]
        groups += [TILES] if self._tiles and self._expert_curve is None else []
        named = [name for group in groups for name in self.profile.names_under(group)]
        return ("device.memory_bandwidth", "device.kernel_floor", *named)

    @property
    def assumed(self) -> tuple[str, ...]:
        """Those of `uses` that are assumed."""
        return self.profile.assumed(self.uses)

    @property
    def evidence(self) -> Evidence:
        """The weakest that these costs rest on."""
        beyond: tuple[Evidence, ...] = ("extrapolated",) if self.warnings else ()
        curve: tuple[Evidence, ...] = (self._measured_expert.evidence,) if self._measured_expert else ()
        return weakest((self.profile.evidence(self.uses), *curve, *beyond))

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each curve that is asked beyond what was measured or fitted."""
        sizes = sorted({self._bytes(held) for held in (self.format, *self.also_held)})
        copies = [
            extrapolation(self._curve(move), size, f"{self.profile.name}: {CURVE_OF[move]}", "B")
            for move in self.moves
            for size in sizes
        ]
        if self._expert_curve is not None:
            name = f"{self.profile.name}: expert_curve"
            copies.append(extrapolation(self._expert_curve, self.most_tokens, name, "token"))
        return tuple(warning for warning in copies if warning)

    def _layer_ns(self, phase: Phase, parameters: int, tokens: int, context: int) -> float:
        """One layer's floor, then its weights, its key-value cache and the operations on both."""
        attentions = self.shape.attentions(phase)
        # One sequence a token when decoding; encoding, tokens share the positions that they attend to.
        positions = attentions * (tokens * context if phase == "decode" else tokens)
        flops = tokens * (2 * parameters + attentions * context * self.shape.attention.flops_per_position)
        cached = positions * self.shape.attention.cached * self._rates.weight_bytes
        return self.profile.ns("dense.layer_floor") + roofline_ns(self._rates, parameters, flops, cached)

    def _product_ns(self, parameters: int, tokens: int, floor_ns: int) -> int:
        if not parameters or not tokens:
            return 0
        return round(floor_ns + roofline_ns(self._rates, parameters, 2 * parameters * tokens))

    def _bytes(self, held: Format | None) -> int:
        return self.shape.expert_bytes(self._known(held))

    def _known(self, held: Format | None) -> Format:
        if held not in (None, self.format, *self.also_held):
            known = ", ".join((self.format, *self.also_held))
            raise InputError(f"format {held!r} was not announced: one of {known} expected")
        return held or self.format

    def _curve(self, move: Move) -> Curve:
        if move not in self.moves:
            raise InputError(f"move {move!r} was not announced: one of {', '.join(self.moves)} expected")
        return self.profile.curve(CURVE_OF[move])

    @cached_property
    def _rates(self) -> Rates:
        return rates_of(self.profile, self.compute_format)

    @cached_property
    def _tiles(self) -> Tiles | None:
        return tiles_of(self.profile, self.compute_format)

    @cached_property
    def _measured_expert(self) -> Points | None:
        wanted = (self.shape.d_model, self.shape.experts.d_ff, self.shape.experts.gated, self.compute_format)
        curves = self.profile.expert_curves
        return next((c.points for c in curves if (c.d_model, c.d_ff, c.gated, c.format) == wanted), None)

    @cached_property
    def _expert_curve(self) -> Interpolated | None:
        if self._measured_expert is None:
            return None
        return Interpolated(self.profile.ns("device.kernel_floor"), self._measured_expert)
