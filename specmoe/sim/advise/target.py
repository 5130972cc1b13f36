"""What would reach a rate."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from specmoe.sim.advise.changes import (
    BATCH_FACTORS,
    LINK_FACTORS,
    VRAM_FACTORS,
    Change,
    faster_link,
    fewer_bytes,
    larger_batch,
    more_vram,
)
from specmoe.sim.advise.levers import Lever, foreseen, tried
from specmoe.sim.advise.setting import Setting
from specmoe.sim.advise.space import EVERYTHING, Found
from specmoe.sim.advise.trials import Configuration, Trials

ALL = float("inf")  # times the VRAM: what holds everything


class Reach(NamedTuple):
    """Of a target in tokens a second: `ways` reach it, each the mildest of its kind; `most` is the best that was tried.

    `ceiling` is the rate with every expert in VRAM, which no VRAM, link or predictor can pass.
    """

    target: float
    reached: bool
    ways: tuple[Lever, ...]
    most: Lever | None
    ceiling: float


def reach(trials: Trials, setting: Setting, found: Found, target: float) -> Reach:
    """One change at a time, and where none does, fewer and fewer bytes with each of the others."""
    ceiling = found.best.rate_at("floor_ns")
    if found.best.rate >= target:
        return Reach(target, True, (), None, ceiling)
    alone = [climbed(trials, list(ladder), found, target) for ladder in ladders(setting, found, target <= ceiling)]
    every = [lever for levers in (*alone, foreseen(found)) for lever in levers]
    for smaller in fewer_bytes(setting, _few(found)):
        if any(lever.rate >= target for lever in every):
            break
        every += tried_with(trials, setting, found, smaller, target)
    ways = tuple(lever for lever in every if lever.rate >= target)
    return Reach(target, False, ways, max(every, key=lambda lever: lever.rate, default=None), ceiling)


def climbed(trials: Trials, ladder: Sequence[Change], found: Found, target: float) -> list[Lever]:
    """What was tried of a ladder: its top, and if that reaches the target, the lowest rung that does.

    Rungs are halved, as more of a thing mostly gives more; the last of the answer is what reaches the target, or most.
    """
    known: list[Lever] = []

    def reaches(rung: int) -> bool:
        lever = tried(trials, ladder[rung], found)
        if lever is not None:
            known.append(lever)
        return lever is not None and lever.rate >= target

    if ladder and reaches(len(ladder) - 1):
        bisect_left(range(len(ladder) - 1), True, key=reaches)
    good = [lever for lever in known if lever.rate >= target]
    return [*(lever for lever in known if lever.rate < target), *good[-1:]]


def ladders(setting: Setting, found: Found, below_ceiling: bool) -> Iterator[Iterator[Change]]:
    """One kind each; VRAM and link only where the target is not beyond what they can give."""
    few = _few(found)
    if below_ceiling and found.best.configuration.policy != EVERYTHING:
        yield more_vram(setting, few, (*VRAM_FACTORS, ALL))
        yield faster_link(few, LINK_FACTORS)
    yield fewer_bytes(setting, few)
    yield larger_batch(few, BATCH_FACTORS)


def tried_with(trials: Trials, setting: Setting, found: Found, smaller: Change, target: float) -> list[Lever]:
    """A format with each of the other kinds beside it."""
    lever = tried(trials, smaller, found)
    if lever is None or lever.best is None:
        return []
    few = [lever.best]
    ladders = [larger_batch(few, BATCH_FACTORS)]
    if target <= lever.ceiling and lever.best.policy != EVERYTHING:
        ladders += [more_vram(setting, few, (*VRAM_FACTORS, ALL)), faster_link(few, LINK_FACTORS)]
    both = ([_both(smaller, change) for change in ladder] for ladder in ladders)
    return [one for ladder in both for one in climbed(trials, ladder, found, target)]


def _both(one: Change, other: Change) -> Change:
    caveat = ", ".join(part for part in (one.caveat, other.caveat) if part)
    return other._replace(what=f"{one.what} and {other.what}", caveat=caveat)


def _few(found: Found) -> Sequence[Configuration]:
    """What a ladder is climbed with."""
    return [trial.configuration for trial in found.few]
