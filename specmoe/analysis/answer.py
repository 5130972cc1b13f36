"""The answer of a sweep: which policy is fastest, where another one takes over, and which lever would help most.

A lever is a neighbouring cell: the next faster link, a smaller format in no more VRAM; and what the next smaller number
of slots costs, since the answer is for the largest. For better predictions, the oracle gives the bound. Each lever
counts with the policy that is fastest there.

A crossing lies between two neighbouring cells with different winners. Its place is where the two policies' mean steps,
taken as linear in between, are equal: linear in the time of a byte along a link, in the number along slots.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from specmoe import uncertainty
from specmoe.analysis.figures.link import link_column
from specmoe.analysis.figures.setting import NO_POLICY, Setting, ms, percent, settings_of, times, told
from specmoe.analysis.point import GIB, Point, bounds_of, lead, shown, three_digits, unit_of, winner
from specmoe.summary import SCALE, SET
from specmoe.sweep_table import SweepTable
from specmoe.uncertainty import Lead, listed

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
    return "" if column is None else sentence_of(along(setting, column), column)


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


def sentence_of(places: Sequence[At], column: str) -> str:
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


LINKS = (SET, SCALE)
PREDICTOR, FEWER = "predictor", "slots"
PINNED = "host_to_device.pinned.bandwidth"


@dataclass(frozen=True)
class Lever:
    """One thing to change: slots, link, predictor or format."""

    name: str
    gain: float  # share of the mean step that it saves; negative where it costs time
    sentence: str


def levers_of(setting: Setting, best: Point) -> list[Lever]:
    """What could be changed, the most helpful first; only what the table tells."""
    found = [_slots(setting, best), _link(setting, best), _predictor(setting, best), _format(setting, best)]
    return sorted((lever for lever in found if lever is not None), key=lambda lever: -lever.gain)


def _slots(setting: Setting, best: Point) -> Lever | None:
    """What the next smaller number of slots costs: the answer is for the largest one."""
    smaller = [value for value in _values(setting, "slots") if value < setting.main.get("slots", 0)]
    found = winner([c.point for c in setting.along("slots") if c.where["slots"] == max(smaller, default=None)])
    if found is None:
        return None
    less = (best.about.slots - found.about.slots) * best.about.expert_bytes / GIB
    what = f"{found.about.slots} slots instead of {best.about.slots} ({three_digits(less)} GiB less)"
    return _lever(FEWER, best, found, what)


def _link(setting: Setting, best: Point) -> Lever | None:
    columns = [name for name in setting.varying if name.endswith(".bandwidth") and name.startswith(LINKS)]
    for column in sorted(columns, key=lambda name: (PINNED not in name, name.startswith(SCALE), name)):
        here = setting.main[column]
        found = None if here is None else _next(setting, column, here)
        if found is not None:
            faster = min(value for value in _values(setting, column) if value > here)
            return _lever("link", best, found, f"a faster link ({shown(column, faster)}, from {_plain(column, here)})")
    return None


def _predictor(setting: Setting, best: Point) -> Lever | None:
    oracle = bounds_of([cell.point for cell in setting.along()])["oracle"]
    if math.isnan(oracle):
        return None
    gain = 1 - oracle / best.latency_ns
    if gain <= 0:
        return Lever(PREDICTOR, gain, f"the oracle, which knows what is to come, is no faster ({ms(oracle)} a step).")
    most = f"with perfect knowledge (the oracle) in the same slots {_change(gain)} ({ms(oracle)} a step)."
    return Lever(PREDICTOR, gain, most)


def _format(setting: Setting, best: Point) -> Lever | None:
    """The fastest in a smaller format: in no more VRAM if the table has such a cell, else in the same slots."""
    smaller = [c for c in setting.along("format", "slots") if c.point.about.expert_bytes < best.about.expert_bytes]
    fitting = [c.point for c in smaller if c.point.about.vram_peak_bytes <= best.about.vram_peak_bytes]
    same = [c.point for c in smaller if c.point.about.slots == best.about.slots]
    found = winner(fitting) or winner(same)
    if found is None:
        return None
    taken = f"{found.about.slots} slots, {three_digits(found.peak_gib)} GiB for all weights"
    what = f"experts in {found.about.format} ({taken})"
    lever = _lever("format", best, found, what)
    return Lever(lever.name, lever.gain, f"{lever.sentence[:-1]}; what it costs in quality is not simulated.")


def _next(setting: Setting, column: str, here: Any) -> Point | None:
    """The fastest real policy at the next larger value of a column."""
    larger = [value for value in _values(setting, column) if value > here]
    if not larger:
        return None
    return winner([cell.point for cell in setting.along(column) if cell.where[column] == min(larger)])


def _values(setting: Setting, column: str) -> list[Any]:
    cells = [cell for cell in setting.along(column) if not cell.point.yardstick]
    return sorted({cell.where[column] for cell in cells if cell.where[column] is not None})


def _lever(name: str, best: Point, there: Point, what: str) -> Lever:
    gain = 1 - there.latency_ns / best.latency_ns
    policy = f", by {there.about.policy}" if there.about.policy != best.about.policy else ""
    return Lever(name, gain, f"{what}: {_change(gain)} ({ms(there.latency_ns)} a step{policy}).")


def _change(gain: float) -> str:
    return f"a step takes {percent(abs(gain))} {'less' if gain > 0 else 'more'} time" if gain else "no gain"


def _plain(column: str, value: Any) -> str:
    """The value alone."""
    return told(column, value).partition("=")[2] or "the profile's own"


@dataclass(frozen=True)
class SettingAnswer:
    """Of one trace, machine and model at the main value of all else; latencies in ns."""

    where: str  # the slice in words; empty where nothing else varies
    policy: str
    latency_ns: float
    tokens_per_second: float
    vram_gib: float  # for experts
    level: tuple[str, ...]  # policies level with it, the fastest first
    runner_up: str | None  # the fastest that is not level
    ahead: float | None  # share of the runner-up's mean step that the policy saves; None where others are level
    of_oracle: float  # mean step in units of the oracle's in the same slots; nan if it is not known
    of_floor: float
    levers: tuple[Lever, ...]  # the one that helps most first
    trace_kind: str
    evidence: str
    semantics: str
    warnings: tuple[str, ...]
    fits: str  # what is said where there is nothing to offload
    band: str  # expected error and its basis
    drawn: Mapping[str, Any]  # of the policy, on drawn machines: a row with `specmoe.summary.SPREAD`; may be empty
    crossover: str  # which policy is fastest where, along the link or the slots; empty where it is always the same
    headline: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """Of each setting with a policy that could be built, in the table's order."""

    settings: tuple[SettingAnswer, ...]
    cells: int
    failed: int
    sentences: tuple[str, ...]


def answer_of(table: SweepTable) -> Answer:
    """The answer that a table gives; raises InputError if no row has figures."""
    found = [answer for setting in settings_of(table) if (answer := _of(setting)) is not None]
    failed = len(table.rows) - len(table.good)
    said = [sentence for answer in found for sentence in answer.sentences]
    if not found:
        said.append(NO_POLICY)
    if failed:
        errors = table.rows["error"][table.rows["error"] != ""]
        said.append(f"{failed} of {len(table.rows)} cells failed, the first with: {errors.iloc[0]}.")
    return Answer(tuple(found), len(table.rows), failed, tuple(said))


def _of(setting: Setting) -> SettingAnswer | None:
    points = [cell.point for cell in setting.along()]
    best = winner(points)
    if best is None:
        return None
    found = lead(points)
    assert found is not None, "there is a winner"
    behind, fits, band, crossover = found.behind, best.about.fits, best.about.band, crossover_of(setting)
    bounds = bounds_of(points)
    levers = tuple(levers_of(setting, best))
    ratios = [best.latency_ns / bounds[name] for name in ("oracle", "floor")]
    rows = uncertainty.compared(point.drawn for point in points)
    drawn: Mapping[str, Any] = next((row for row in rows if row["policy"] == best.about.policy), {})
    return SettingAnswer(
        where=setting.told(),
        policy=best.about.policy,
        latency_ns=best.latency_ns,
        tokens_per_second=best.tokens_per_second,
        vram_gib=best.vram_gib,
        level=tuple(each.policy for each in found.level),
        runner_up=None if behind is None else behind.policy,
        ahead=found.ahead,
        of_oracle=ratios[0],
        of_floor=ratios[1],
        levers=levers,
        trace_kind=best.about.trace_kind,
        evidence=best.about.evidence,
        semantics=best.about.semantics,
        warnings=best.about.warnings,
        fits=fits,
        band=band,
        drawn=drawn,
        crossover=crossover,
        headline=f"{found.verdict}: {three_digits(best.tokens_per_second)} tokens/s",
        sentences=tuple(
            text
            for text in (
                fits and f"{fits[0].upper()}{fits[1:]}.",
                _verdict(setting, best, found, ratios),
                crossover,
                band and f"Expected error: {band}.",
                *_unknown(rows, drawn),
                *_advice(levers),
            )
            if text
        ),
    )


def _unknown(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> list[str]:
    """What is unknown of the machine: who is fastest on how many, both errors of the best, what to measure first."""
    if not best:
        return []
    who = f"unknown of the machine: {uncertainty.fastest_on(rows)}; {best['policy']}: {uncertainty.rates(best)}"
    texts = (who, uncertainty.two_errors(best), uncertainty.first_to_measure(best))
    return [f"{text[0].upper()}{text[1:]}." for text in texts if text]


def _verdict(setting: Setting, best: Point, found: Lead, ratios: Sequence[float]) -> str:
    """One sentence: policies, speed, lead, distance from the bounds."""
    where = setting.told()
    rate = three_digits(best.tokens_per_second)
    text = f"{where}: " if where else ""
    text += f"{found.verdict}, {ms(best.latency_ns)} a step ({rate} tokens/s)"
    if found.level:
        text += f", {found.why_level}"
    elif found.ahead is not None and found.behind is not None:
        text += f", {percent(found.ahead)} less than {found.behind.policy}"
    known = [(ratio, name) for ratio, name in zip(ratios, ("oracle", "floor"), strict=True) if not math.isnan(ratio)]
    return text + "".join(f"; {times(ratio)} the {name}" for ratio, name in known) + "."


def _advice(levers: Sequence[Lever]) -> list[str]:
    """What can be bought or chosen, the best first; and what predictions could give, which nobody sells."""
    first, *others = [lever.sentence for lever in levers if lever.name not in (PREDICTOR, FEWER)] or [""]
    helps = any(lever.gain > 0 for lever in levers if lever.name not in (PREDICTOR, FEWER))
    what = (
        "Of the next steps in the table, which differ in size and price, most is saved by" if others else "What helps"
    )
    bought = [f"{what if helps else 'Nothing that was tried helps'}: {first}"] if first else []
    bound = [lever.sentence for name in (FEWER, PREDICTOR) for lever in levers if lever.name == name]
    return [*bought, *(f"{text[0].upper()}{text[1:]}" for text in (*others, *bound))]
