"""The answer first: which policy, how fast, how far from the best possible, and what would help most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from specmoe.analysis.comparison import bounds_of, ranked, three_digits, winner
from specmoe.analysis.figures.setting import Setting, settings_of
from specmoe.analysis.figures.words import ms, percent, times
from specmoe.analysis.levers import PREDICTOR, Lever, levers_of
from specmoe.analysis.point import Point
from specmoe.sweep_table import SweepTable


@dataclass(frozen=True)
class SettingAnswer:
    """Of one trace, machine and model at the main value of all else; latencies in ns."""

    where: str  # the slice in words; empty where nothing else varies
    policy: str
    latency_ns: float
    tokens_per_second: float
    vram_gib: float  # for experts
    runner_up: str | None
    ahead: float | None  # share of the runner-up's mean step that the policy saves
    of_oracle: float  # mean step in units of the oracle's in the same slots; nan if it is not known
    of_floor: float
    levers: tuple[Lever, ...]  # the one that helps most first
    trace_kind: str
    evidence: str
    semantics: str
    warnings: tuple[str, ...]
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
        said.append("There are yardsticks only: no policy that could be built.")
    if failed:
        errors = table.rows["error"][table.rows["error"] != ""]
        said.append(f"{failed} of {len(table.rows)} cells failed, the first with: {errors.iloc[0]}.")
    return Answer(tuple(found), len(table.rows), failed, tuple(said))


def _of(setting: Setting) -> SettingAnswer | None:
    points = [cell.point for cell in setting.along()]
    best = winner(points)
    if best is None:
        return None
    others = [point for point in ranked(points) if not point.yardstick and point is not best]
    bounds = bounds_of(points)
    levers = tuple(levers_of(setting, best))
    ratios = [best.latency_ns / bounds[name] for name in ("oracle", "floor")]
    return SettingAnswer(
        where=setting.told(),
        policy=best.about.policy,
        latency_ns=best.latency_ns,
        tokens_per_second=best.tokens_per_second,
        vram_gib=best.vram_gib,
        runner_up=others[0].about.policy if others else None,
        ahead=1 - best.latency_ns / others[0].latency_ns if others else None,
        of_oracle=ratios[0],
        of_floor=ratios[1],
        levers=levers,
        trace_kind=best.about.trace_kind,
        evidence=best.about.evidence,
        semantics=best.about.semantics,
        warnings=best.about.warnings,
        sentences=(_verdict(setting, best, others, ratios), *_advice(levers)),
    )


def _verdict(setting: Setting, best: Point, others: Sequence[Point], ratios: Sequence[float]) -> str:
    """One sentence: policy, speed, lead, distance from the bounds."""
    where = setting.told()
    rate = three_digits(best.tokens_per_second)
    text = f"{where}: " if where else ""
    text += f"{best.about.policy} is fastest, {ms(best.latency_ns)} a step ({rate} tokens/s)"
    if others:
        text += f", {percent(1 - best.latency_ns / others[0].latency_ns)} less than {others[0].about.policy}"
    known = [(ratio, name) for ratio, name in zip(ratios, ("oracle", "floor"), strict=True) if not math.isnan(ratio)]
    return text + "".join(f"; {times(ratio)} the {name}" for ratio, name in known) + "."


def _advice(levers: Sequence[Lever]) -> list[str]:
    """What can be bought or chosen, the best first; and what predictions could give, which nobody sells."""
    first, *others = [lever.sentence for lever in levers if lever.name != PREDICTOR] or [""]
    helps = any(lever.gain > 0 for lever in levers if lever.name != PREDICTOR)
    what = (
        "Of the next steps in the table, which differ in size and price, most is saved by" if others else "What helps"
    )
    bought = [f"{what if helps else 'Nothing that was tried helps'}: {first}"] if first else []
    bound = [lever.sentence for lever in levers if lever.name == PREDICTOR]
    return [*bought, *(f"{text[0].upper()}{text[1:]}" for text in (*others, *bound))]
