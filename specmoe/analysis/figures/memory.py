"""Latency, hit rate and distance from the oracle against VRAM."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING

from specmoe.analysis.comparison import three_digits
from specmoe.analysis.figures.drawn import Drawn
from specmoe.analysis.figures.setting import Setting
from specmoe.analysis.figures.words import percent, times, titled
from specmoe.analysis.lines import Looks, baseline
from specmoe.analysis.memory_plot import distance_figure, hit_rate_figure, memory_figure
from specmoe.analysis.point import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = list[Point]
Draw = Callable[[Points, str, int, Looks], "Figure"]
NEAR = 0.1  # above the floor, as a share of it


def of_memory(setting: Setting) -> Drawn | None:
    """Mean step against VRAM."""
    return _drawn(setting, "memory", "Mean time of a step against VRAM", enough, memory_figure)


def of_hit_rate(setting: Setting) -> Drawn | None:
    """Hit rate against VRAM."""
    return _drawn(setting, "hit-rate", "Hit rate against VRAM", most_hits, hit_rate_figure)


def of_distance(setting: Setting) -> Drawn | None:
    """Mean step in units of the oracle's against VRAM."""
    return _drawn(setting, "distance", "Distance from the oracle against VRAM", what_is_left, distance_figure)


def enough(points: Points) -> str:
    """The least VRAM that brings a policy near the floor."""
    near = [p for p in points if p.latency_ns <= (1 + NEAR) * p.bound_ns("floor")]
    if near:
        best = min(near, key=lambda point: (point.vram_gib, point.latency_ns))
        return (
            f"{best.about.policy} needs {three_digits(best.vram_gib)} GiB for experts to come within "
            f"{percent(NEAR)} of the floor, the least of all."
        )
    best = min(points, key=lambda point: (point.latency_ns, point.vram_gib))
    return (
        f"No policy comes within {percent(NEAR)} of the floor: the nearest is {best.about.policy} with "
        f"{three_digits(best.vram_gib)} GiB, {times(best.latency_ns / best.bound_ns('floor'))} it."
    )


def most_hits(points: Points) -> str:
    """Where having a better policy gives most hits over the baseline, or where most is hit if it never does."""
    compared = baseline(points)
    pairs = []
    for group in _by_memory(points):
        best = max(group, key=lambda point: (point.hit_rate, point.about.policy))
        pairs += [(best, base) for base in group if base.about.policy == compared and best.hit_rate > base.hit_rate]
    if not pairs:
        best = max(points, key=lambda point: (point.hit_rate, -point.vram_gib))
        return f"{_hits(best)}, the most of all."
    best, base = max(pairs, key=lambda pair: pair[0].hit_rate - pair[1].hit_rate)
    return f"{_hits(best)} and {compared} {percent(base.hit_rate)}: nowhere does the policy matter more to hits."


def what_is_left(points: Points) -> str:
    """How far the best policy is from the oracle, where most and where least."""
    best = [min(group, key=lambda point: point.latency_ns) for group in _by_memory(points)]
    ratios = sorted((p.latency_ns / p.bound_ns("oracle"), p.vram_gib, p.about.policy) for p in best)
    (least, small, _), (most, large, name) = ratios[0], ratios[-1]
    if most <= 1:
        return "Perfect knowledge, as the oracle uses it, would gain nothing over the best policy with any VRAM."
    return (
        f"Perfect knowledge would gain most with {three_digits(large)} GiB for experts, where the best policy, {name}, "
        f"takes {times(most)} the oracle's time, and least with {three_digits(small)} GiB ({times(least)})."
    )


def _drawn(setting: Setting, name: str, what: str, reading: Callable[[Points], str], draw: Draw) -> Drawn | None:
    points = [cell.point for cell in setting.along("slots")]
    real = [point for point in points if not point.yardstick]
    if len({point.about.slots for point in real}) < 2:
        return None
    title = titled(what, setting.told("slots"))
    cliff = max(point.about.cliff_slots or 0 for point in real)
    return Drawn(name, title, reading(real), draw(points, title, cliff, setting.looks))


def _hits(point: Point) -> str:
    return f"With {three_digits(point.vram_gib)} GiB {point.about.policy} hits {percent(point.hit_rate)} of the demands"


def _by_memory(points: Points) -> list[Points]:
    order = sorted(points, key=lambda point: point.about.slots)
    return [list(group) for _, group in groupby(order, key=lambda point: point.about.slots)]
