"""Which policy is fastest below and above which link, or number of slots where the link is not varied: one sentence.

A crossing lies between two neighbouring cells with different winners. Its place is where the two policies' mean steps,
taken as linear in between, are equal: linear in the time of a byte along a link, in the number along slots.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from specmoe.analysis.figures.link import link_column
from specmoe.analysis.figures.setting import Setting
from specmoe.analysis.point import Point, lead, three_digits, unit_of
from specmoe.level import Lead, listed
from specmoe.summary import SCALE, SET

MOST = 3  # crossings that are told one by one


class At(NamedTuple):
    """The policies at one value of the axis."""

    value: float
    means: dict[str, float]  # ns, of those that a runtime could follow
    lead: Lead

    @property
    def best(self) -> str:
        """The fastest policy."""
        return self.lead.best.policy


def crossover_of(setting: Setting) -> str:
    """One sentence about the axis of a setting; empty where one policy is the fastest everywhere."""
    column = link_column(setting) or ("slots" if "slots" in setting.varying else None)
    return "" if column is None else told(along(setting, column), column)


def along(setting: Setting, column: str) -> list[At]:
    """The policies at each value of a column, in order; where only one ran there is nothing to compare."""
    places: dict[float, list[Point]] = {}
    for cell in setting.along(column):
        if cell.where[column] is not None and not cell.point.yardstick:
            places.setdefault(float(cell.where[column]), []).append(cell.point)
    found = []
    for value, points in sorted(places.items()):
        first = lead(points)
        if first is not None and len(points) > 1:
            found.append(At(value, {point.about.policy: point.latency_ns for point in points}, first))
    return found


def told(places: Sequence[At], column: str) -> str:
    """The sentence about values in order."""
    steps = [(one, other) for one, other in pairwise(places) if one.best != other.best]
    if not steps:
        return ""
    winners = list(dict.fromkeys(at.best for at in places))
    level = [at for at in places if set(winners) <= {each.policy for each in at.lead.leaders}]
    if len(level) == len(places):
        return f"{listed(winners)} are level {_span(places, column)}."
    if len(steps) > MOST:
        outer = (f"{at.best} at {_value(at.value, column)}" for at in (places[0], places[-1]))
        return f"The fastest policy changes {len(steps)} times {_span(places, column)}: {' and '.join(outer)}."
    ends = [_value(crossing(one, other, column), column) for one, other in steps]
    parts = [f"{steps[0][0].best} is fastest below {ends[0]}"]
    parts += [f"{one.best} up to {end}" for (one, _), end in zip(steps[1:], ends[1:], strict=True)]
    text = f"{', '.join(parts)}, {steps[-1][1].best} above"
    return f"{text}; they are level {_level(level, places, column)}." if level else f"{text}."


def crossing(one: At, other: At, column: str) -> float:
    """Where the winners of two neighbouring values are equally fast; in the middle where one of them did not run."""
    first, second = one.best, other.best
    x, y = (at.value if column == "slots" else 1 / at.value for at in (one, other))
    gaps = [at.means.get(first, math.nan) - at.means.get(second, math.nan) for at in (one, other)]
    share = gaps[0] / (gaps[0] - gaps[1]) if not any(map(math.isnan, gaps)) and gaps[0] != gaps[1] else 0.5
    place = x + share * (y - x)
    return place if column == "slots" else 1 / place


def _level(level: Sequence[At], places: Sequence[At], column: str) -> str:
    first, last = places.index(level[0]), places.index(level[-1])
    if last - first + 1 == len(level):
        return _span(level, column)
    return f"at {len(level)} of {len(places)} values"


def _span(places: Sequence[At], column: str) -> str:
    if len(places) == 1:
        return f"at {_value(places[0].value, column)}"
    return f"from {_number(places[0].value, column)} to {_value(places[-1].value, column)}"


def _number(value: float, column: str) -> str:
    if column == "slots":
        return f"{value:.0f}"
    size = 1.0 if column.startswith(SCALE) else unit_of(column.removeprefix(SET))[1]
    return three_digits(value / size)


def _value(value: float, column: str) -> str:
    """With its unit."""
    if column == "slots":
        return f"{_number(value, column)} slots"
    unit = " times the profile's own link" if column.startswith(SCALE) else " GB/s"
    return _number(value, column) + unit
