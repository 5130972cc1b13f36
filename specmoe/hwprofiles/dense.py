"""How long everything except routed experts takes: measured curves, or a roofline where nothing was measured.

A part is what lies between two groups of experts (`before`), a router, or the head. If a profile has curves of the part
in other sizes, the roofline is anchored to them as in `launches`. A compressed `dense_format` changes the bytes that
layers, shared experts and the head read, at the share of bandwidth that fused kernels of its class reach; many tokens
are multiplied as in the compute format.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

from specmoe.hwprofiles import kernels
from specmoe.hwprofiles.catalogue import load_shape, shape_names
from specmoe.hwprofiles.curves import DenseCurve, DensePart
from specmoe.hwprofiles.kernels import reading_ns, shares_of
from specmoe.hwprofiles.launches import Anchor, anchored, distance
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import ComputeFormat, Format, ModelShape, Phase, bytes_of, is_compressed

Sizes = dict[tuple[int, int], list[DenseCurve]]
"""Curves by d_model and weights."""

PHASES: tuple[Phase, ...] = ("encode", "decode")


class Structure(NamedTuple):
    """What a part is made of, besides its weights."""

    layers: int
    attentions: int  # in all layers
    cached: int  # numbers in the key-value cache, per position and attention
    flops_per_position: int
    router: int  # weights
    shared: bool  # has shared experts


class Part(NamedTuple):
    """A part of a model, or one that was measured; tokens and context come with each call."""

    kind: DensePart
    phase: Phase
    d_model: int
    parameters: int
    structure: Structure


def before_part(shape: ModelShape, phase: Phase, layer: int) -> Part:
    """Everything from the previous experts up to the router's result of MoE layer `layer`."""
    layers, attention = shape.stack(phase).dense_before(layer) + 1, shape.attention
    structure = Structure(
        layers,
        layers * shape.attentions(phase),
        attention.cached,
        attention.flops_per_position,
        shape.router_parameters,
        bool(shape.shared_parameters),
    )
    return Part("before", phase, shape.d_model, shape.dense_parameters(phase, layer), structure)


@cache
def _structures() -> dict[tuple[Phase, int, int], Structure]:
    """Structures of the bundled shapes by phase, d_model and weights: curves do not say theirs."""
    parts = [
        before_part(shape, phase, layer)
        for shape in map(load_shape, shape_names())
        for phase in PHASES
        for layer in {0, shape.stack(phase).moe_layers - 1}
    ]
    return {(part.phase, part.d_model, part.parameters): part.structure for part in parts}


@dataclass(frozen=True)
class DenseTimes:
    """Times of a model's dense parts on a profile, with weights in `held` and numbers in format `computed`."""

    profile: HardwareProfile
    shape: ModelShape
    computed: ComputeFormat
    held: Format

    def dense_ns(self, phase: Phase, tokens: int, context: int, layer: int = -1) -> int:
        """Roofline of dense layers, then of a MoE layer's own attention and shared experts."""
        count = self.shape.stack(phase).dense_before(layer)
        between = self._layer_ns(phase, self.shape.dense_layer_parameters(phase), tokens, context)
        return round(count * between) + self.attention_ns(phase, tokens, context) + self.shared_ns(tokens)

    def attention_ns(self, phase: Phase, tokens: int, context: int) -> int:
        """Roofline of a MoE layer's own attention."""
        return round(self._layer_ns(phase, self.shape.attention_parameters(phase), tokens, context))

    def shared_ns(self, tokens: int) -> int:
        """Roofline of a MoE layer's shared experts; 0 if it has none."""
        return round(self._product_ns(self.shape.shared_parameters, tokens, 2 * self.rates.floor_ns))

    def router_ns(self, tokens: int, phase: Phase) -> int:
        """Time of a router, right after another one if that was measured."""
        part = self._part("router", phase)
        return self._part_ns(part, tokens, 0) if tokens else 0

    def head_ns(self, phase: Phase, tokens: int) -> int:
        """Time after the last MoE layer; 0 for an encoder."""
        if not tokens or (self.shape.encoder and phase == "encode"):
            return 0
        return self._part_ns(self._part("head", phase), tokens, 0)

    def before_ns(self, phase: Phase, tokens: int, context: int, layer: int = -1) -> int:
        """Time from the previous experts up to the router's result of MoE layer `layer`."""
        own = range(self.shape.stack(phase).moe_layers)[layer]
        return self._before_ns(phase, tokens, context, min(own, 1))  # all layers but the first are alike

    def parts(self, phases: Iterable[Phase]) -> list[Part]:
        """All parts of phases but routers, those of equal weights once."""
        parts: list[Part] = []
        for phase in phases:
            layers = range(self.shape.stack(phase).moe_layers)
            parts += dict.fromkeys(before_part(self.shape, phase, layer) for layer in layers)
            if not (self.shape.encoder and phase == "encode"):
                parts.append(self._part("head", phase))
        return parts

    def measured(self, part: Part) -> list[DenseCurve]:
        """Curves of a part by rising context; empty if it was not measured with these weights."""
        if self._held_in(part) != self.computed:
            return []
        return self._curves(part).get((part.d_model, part.parameters), [])

    def is_anchored(self, part: Part) -> bool:
        """Whether curves of other sizes or formats correct the roofline of a part."""
        return bool(self._curves(part)) and not self.measured(part)

    @cached_property
    def rates(self) -> kernels.Rates:
        """Rates in the compute format."""
        return kernels.rates_of(self.profile, self.computed, self.profile.dense_speed)

    def _part(self, kind: DensePart, phase: Phase) -> Part:
        weights = self.shape.head_parameters if kind == "head" else self.shape.router_parameters
        return Part(kind, phase, self.shape.d_model, weights, Structure(0, 0, 0, 0, 0, False))

    @cached_property
    def _before_ns(self) -> Callable[[Phase, int, int, int], int]:
        @cache
        def before_ns(phase: Phase, tokens: int, context: int, layer: int) -> int:
            part = before_part(self.shape, phase, layer)
            if not self._curves(part):
                return self.dense_ns(phase, tokens, context, layer) + self.router_ns(tokens, phase)
            return self._part_ns(part, tokens, context)

        return before_ns

    @cached_property
    def _part_ns(self) -> Callable[[Part, int, int], int]:
        return cache(self._time_ns)

    def _time_ns(self, part: Part, tokens: int, context: int) -> int:
        own, known = self.measured(part), self._curves(part)
        if own:
            return round(kernels.measured_ns(own, tokens, context, self._more(part, self.rates)))
        if not known:
            return round(self._roofline_ns(part, tokens, context, self.rates, self._held_in(part)))
        # Curves have the profile's speed already.
        rates = kernels.rates_of(self.profile, self.computed)
        anchors = [self._anchor(part, curves, tokens, context) for curves in known.values()]
        plain = self._roofline_ns(part, tokens, context, rates, self._held_in(part))
        least = bytes_of(part.parameters, self._held_in(part)) / self.rates.memory * 1e9
        return round(max(least, anchored(plain, anchors)))

    def _anchor(self, part: Part, curves: Sequence[DenseCurve], tokens: int, context: int) -> Anchor:
        """How far a measured part is from `part`, and its measured time / roofline."""
        first = curves[0]
        structure = _structures().get((first.phase, first.d_model, first.parameters), part.structure)
        known = part._replace(d_model=first.d_model, parameters=first.parameters)
        if (known.d_model, known.parameters) != (part.d_model, part.parameters) and part.kind == "before":
            known = known._replace(structure=structure)
        rates = kernels.rates_of(self.profile, self.computed)
        roofline = self._roofline_ns(known, tokens, context, rates, self.computed)
        measured = kernels.measured_ns(curves, tokens, context, self._more(known, self.rates))
        attentions = (part.structure.attentions or 1, known.structure.attentions or 1)
        sizes = (part.d_model, known.d_model), (part.parameters, known.parameters)
        return Anchor(distance(*sizes, attentions), measured / roofline)

    def _roofline_ns(self, part: Part, tokens: int, context: int, rates: kernels.Rates, held: Format) -> float:
        """Time of a part as one: its floors, then the longer of all bytes and all operations."""
        inside = part.structure
        floors = {"head": rates.floor_ns, "router": self.profile.ns("router.floor")}.get(part.kind)
        if floors is None:
            floors = inside.layers * self.profile.ns("dense.layer_floor") + self.profile.ns("router.floor")
            floors += 2 * rates.floor_ns * inside.shared
        positions = inside.attentions * (tokens * context if part.phase == "decode" else tokens)
        weights = part.parameters + inside.router
        flops = tokens * (2 * weights + inside.attentions * context * inside.flops_per_position)
        more = positions * inside.cached * rates.weight_bytes + self._read_bytes(part.parameters, held)
        return floors + kernels.roofline_ns(rates, inside.router, flops, more)

    def _layer_ns(self, phase: Phase, parameters: int, tokens: int, context: int) -> float:
        """Time of one layer: its floor plus the roofline of its weights, key-value cache and operations."""
        attentions = self.shape.attentions(phase)
        # When decoding each token is of its own sequence; when encoding tokens share the positions they attend to.
        positions = attentions * (tokens * context if phase == "decode" else tokens)
        flops = tokens * (2 * parameters + attentions * context * self.shape.attention.flops_per_position)
        more = positions * self.shape.attention.cached * self.rates.weight_bytes + self._read_bytes(
            parameters, self.held
        )
        return self.profile.ns("dense.layer_floor") + kernels.roofline_ns(self.rates, 0, flops, more)

    def _product_ns(self, parameters: int, tokens: int, floor_ns: int) -> float:
        if not parameters or not tokens:
            return 0
        read = self._read_bytes(parameters, self.held)
        return floor_ns + kernels.roofline_ns(self.rates, 0, 2 * parameters * tokens, read)

    def _read_bytes(self, parameters: int, held: Format) -> float:
        """Bytes of weights, more of them if kernels reach a part of the bandwidth only or take longer to unpack."""
        if not is_compressed(held):
            return bytes_of(parameters, held)
        return (
            reading_ns(self.profile, parameters, held, shares_of(held)) * self.profile["device.memory_bandwidth"] / 1e9
        )

    def _held_in(self, part: Part) -> Format:
        return self.computed if part.kind == "router" else self.held

    def _curves(self, part: Part) -> Sizes:
        """Curves of parts of the same kind, by d_model and weights, each by rising context."""
        return self._kinds.get((part.kind, part.phase), {})

    @cached_property
    def _kinds(self) -> dict[tuple[DensePart, Phase], Sizes]:
        kinds: dict[tuple[DensePart, Phase], Sizes] = {}
        for curve in sorted(self.profile.dense_curves, key=lambda curve: curve.context):
            if curve.format == self.computed:
                sizes = kinds.setdefault((curve.part, curve.phase), {})
                sizes.setdefault((curve.d_model, curve.parameters), []).append(curve)
        return kinds

    def _more(self, part: Part, rates: kernels.Rates) -> kernels.More:
        """Roofline for tokens and context beyond the measured ones; it includes key-value bytes when decoding."""
        inside = part.structure
        cached = inside.attentions * inside.cached * rates.weight_bytes * (part.phase == "decode")

        def more(parameters: int, tokens: int, context: int) -> float:
            flops = tokens * (2 * parameters + inside.attentions * context * inside.flops_per_position)
            return kernels.roofline_ns(rates, 0, flops, tokens * context * cached)

        return more
