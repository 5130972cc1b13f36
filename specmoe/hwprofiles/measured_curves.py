"""Which of a profile's measured curves are of a model's parts, and so go before the roofline.

Dense parts as they were measured: time against tokens at some contexts, and what the roofline adds beyond them.

Below the fewest tokens and the least context the time stays what it is there; between two contexts it is a straight
line; beyond the most of either, operations and key-value bytes of what is more are added. More positions never take
less, whatever noise is in the points, nor do more tokens where the points do not fall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from specmoe.hwprofiles.curves import Interpolated, Points, Range, extrapolation
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


More = Callable[[int, int, int], float]
"""The roofline's time, ns, of (parameters, tokens, context), without that of reading the weights."""


class Steps(NamedTuple):
    """What a run's steps ask of dense parts: the tokens of a step, and the positions that they attend to at most."""

    phase: Phase
    tokens: Range
    context: int


def measured_ns(curves: Sequence[DenseCurve], tokens: int, context: int, more: More) -> float:
    """Time of a part whose curves, by rising context, are given: one at least."""
    times = list(accumulate((_at(curve, tokens, context, more) for curve in curves), max))
    contexts = [curve.context for curve in curves]
    if context <= contexts[0]:
        return times[0]
    if context >= contexts[-1]:
        return times[-1] + more(0, tokens, context - contexts[-1])
    right = next(at for at, measured in enumerate(contexts) if measured >= context)
    left = right - 1
    share = (context - contexts[left]) / (contexts[right] - contexts[left])
    return times[left] + share * (times[right] - times[left])


def _at(curve: DenseCurve, tokens: int, context: int, more: More) -> float:
    """Time at a curve's own context, whatever lies beyond its tokens aside."""
    least, most = curve.points.range
    inside = Interpolated(0, curve.points)(min(max(tokens, least), most))
    return inside + more(curve.parameters, max(tokens - most, 0), context)


def beyond(curves: Sequence[DenseCurve], steps: Steps, name: str) -> list[str]:
    """One line for each way in which steps leave the curves of a part, by rising context."""
    asked = [(curve, tokens) for curve in curves for tokens in steps.tokens]
    found = [extrapolation(Interpolated(0, curve.points), tokens, name, "token") for curve, tokens in asked]
    least, most = curves[0].context, curves[-1].context
    if most and steps.context > most:
        found.append(f"{name}: {steps.context} positions are outside the measured {least} .. {most}")
    return [line for line in dict.fromkeys(found) if line]
