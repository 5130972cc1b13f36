"""Which of a profile's measured curves are of a model's parts, and so go before the roofline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from specmoe.hwprofiles.curves import Interpolated, Points
from specmoe.hwprofiles.formats import Format, compute_format
from specmoe.hwprofiles.profile import DenseCurve, DensePart, HardwareProfile
from specmoe.hwprofiles.shape import ModelShape, Phase


@dataclass(frozen=True)
class Fitting:
    """The curves of `profile` that are of `shape`, its experts in slots of format `held`."""

    profile: HardwareProfile
    shape: ModelShape
    held: Format

    @cached_property
    def use(self) -> Interpolated | None:
        """Of an expert out of its slot, its expansion included."""
        return self._expert(self.held)

    @cached_property
    def expert(self) -> Interpolated | None:
        """Of an expert in the format that it computes in."""
        return self._expert(compute_format(self.held))

    @property
    def slot(self) -> Interpolated | None:
        """What an expert's use rests on: `use`, or else `expert`."""
        return self.use or self.expert

    @property
    def slot_points(self) -> tuple[Points, ...]:
        """Of `slot`, if there is one."""
        return (self.slot.points,) if self.slot else ()

    def before(self, phase: Phase, layer: int) -> list[DenseCurve]:
        """Of everything up to the router of a MoE layer, by rising context."""
        return self._dense("before", phase, self.shape.dense_parameters(phase, layer))

    def head(self, phase: Phase) -> list[DenseCurve]:
        """Of what is behind the last MoE layer."""
        return self._dense("head", phase, self.shape.head_parameters)

    def router(self, phase: Phase) -> list[DenseCurve]:
        """Of one more router behind another."""
        return self._dense("router", phase, self.shape.router_parameters)

    def dense(self, phases: Iterable[Phase]) -> list[list[DenseCurve]]:
        """Of every dense part of some phases; an empty list for each that was not measured."""
        parts: list[list[DenseCurve]] = []
        for phase in phases:
            layers = range(self.shape.stack(phase).moe_layers)
            kinds = {self.shape.dense_parameters(phase, layer): layer for layer in layers}
            parts += [self.before(phase, layer) for layer in kinds.values()]
            if not (self.shape.encoder and phase == "encode"):
                parts.append(self.head(phase))
        return parts

    def _expert(self, held: Format) -> Interpolated | None:
        wanted = (self.shape.d_model, self.shape.experts.d_ff, self.shape.experts.gated, held)
        curves = self.profile.expert_curves
        points = (c.points for c in curves if (c.d_model, c.d_ff, c.gated, c.format) == wanted)
        return next((Interpolated(self.profile.ns("device.kernel_floor"), found) for found in points), None)

    def _dense(self, part: DensePart, phase: Phase, parameters: int) -> list[DenseCurve]:
        wanted = (part, phase, self.shape.d_model, parameters, compute_format(self.held))
        curves = self.profile.dense_curves
        found = [c for c in curves if (c.part, c.phase, c.d_model, c.parameters, c.format) == wanted]
        return sorted(found, key=lambda curve: curve.context)
