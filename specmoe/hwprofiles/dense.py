"""Dense parts as they were measured: time against tokens at some contexts, and what the roofline adds beyond them.

Below the fewest tokens and the least context the time stays what it is there; between two contexts it is a straight
line; beyond the most of either, operations and key-value bytes of what is more are added. More positions never take
less, whatever noise is in the points, nor do more tokens where the points do not fall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from specmoe.hwprofiles.curves import Interpolated, Range, extrapolation
from specmoe.hwprofiles.profile import DenseCurve
from specmoe.hwprofiles.shape import Phase

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
