"""Latency by policy, and which copies policies pay their hits with: one slice of a setting."""

from __future__ import annotations

import math

from specmoe.analysis.bandwidth_plot import bandwidth_figure
from specmoe.analysis.comparison import ranked, winner
from specmoe.analysis.figures.drawn import Drawn
from specmoe.analysis.figures.setting import Setting
from specmoe.analysis.figures.words import ms, percent, times, titled
from specmoe.analysis.latency_plot import latency_figure
from specmoe.analysis.point import Point


def of_latency(setting: Setting) -> Drawn | None:
    """Stacked bars of compute, stall and host; None of a single policy."""
    points = [cell.point for cell in setting.along()]
    if len(points) < 2:
        return None
    title = titled("Mean time of a step by policy", setting.told())
    return Drawn("latency", title, fastest(points), latency_figure(points, title))


def of_copies(setting: Setting) -> Drawn | None:
    """Hit rate against the useful share of the loaded bytes; None unless somebody prefetches."""
    points = [cell.point for cell in setting.along()]
    real = [point for point in points if point.prefetches and not point.yardstick]
    if not real:
        return None
    title = titled("What hits cost in copies", setting.told())
    best = max(real, key=lambda point: (point.hit_rate, point.useful_share, point.about.policy))
    reading = (
        f"Of the policies that prefetch, {best.about.policy} hits most ({percent(best.hit_rate)} of the demands), and "
        f"{percent(1 - best.useful_share)} of the bytes it copies are of no use."
    )
    return Drawn("copies", title, reading, bandwidth_figure(points, title))


def fastest(points: list[Point]) -> str:
    """Who wins, by how much, and how far from the best possible."""
    best = winner(points)
    if best is None:
        return "There are yardsticks only: no policy that could be built."
    text = f"{best.about.policy} is fastest: {ms(best.latency_ns)} a step"
    others = [point for point in ranked(points) if not point.yardstick and point is not best]
    if others:
        text += f", {percent(1 - best.latency_ns / others[0].latency_ns)} less than {others[0].about.policy}"
    ratio = best.latency_ns / best.bound_ns("oracle")
    return f"{text}." if math.isnan(ratio) else f"{text}, and {times(ratio)} what the oracle needs."
