"""What may be changed about a question, one thing at a time, the mildest first: VRAM, link, format, batch.

Kinds are compared by a factor of two of each.

What would reach a rate.

What doubling (or halving) one thing gives, and what perfect foresight would: the levers, compared.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Literal, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.formats import BITS, FORMATS, Format, can_fill
from specmoe.sim.advise.search import EVERYTHING, LEVEL, LINK, Found, Trials, best_of, placed
from specmoe.sim.advise.setting import Setting, gib
from specmoe.sim.config import AT_HOME, Home, RunConfig

Kind = Literal["vram", "link", "predictor", "format", "batch"]
TWICE = 2
VRAM_FACTORS = (1.25, 1.5, TWICE, 3, 4)
LINK_FACTORS = (1.5, TWICE, 4, 8)
BATCH_FACTORS = (TWICE, 4, 8, 16)
MOST_SEQUENCES = 64  # in a batch
HALF = ("fp32", "fp16", "int8", "int4")  # each of half the bytes of the one before
ALL = float("inf")  # times the VRAM: what holds everything


class Change(NamedTuple):
    """One thing changed, in words, and the configs that are tried then."""

    kind: Kind
    what: str
    configs: tuple[RunConfig, ...]
    caveat: str = ""  # what must be borne in mind


class Lever(NamedTuple):
    """A change and what it gives; `best` is how it is used, None where no policy is."""

    kind: Kind
    what: str
    caveat: str
    rate: float  # tokens a second
    step_ms: float
    gain: float  # in the rate, as a share
    ceiling: float  # the rate with every expert in VRAM
    best: RunConfig | None


class Reach(NamedTuple):
    """Of a target in tokens a second: `ways` reach it, each the mildest of its kind; `most` is the best that was tried.

    `ceiling` is the rate with every expert in VRAM, which no VRAM, link or predictor can pass.
    """

    target: float
    reached: bool
    ways: tuple[Lever, ...]
    most: Lever | None
    ceiling: float


def levers(trials: Trials, setting: Setting, found: Found) -> list[Lever]:
    """Those that give something, what gives most first."""
    changes = list(doubled(setting, found))
    with suppress(InputError):  # none of them can be simulated: no lever
        trials.run(one for change in changes for one in change.configs)  # together, so that they share decisions
    every = [lever for lever in (tried(trials, change, found) for change in changes) if lever is not None]
    every += foreseen(found)
    return sorted((lever for lever in every if lever.gain > LEVEL), key=lambda lever: (-lever.gain, lever.kind))


def doubled(setting: Setting, found: Found) -> Iterator[Change]:
    """Each kind's factor of two; where all is resident, neither VRAM nor the link is a lever."""
    contenders = [trial.config for trial in found.contenders]
    if found.best.config.policy != EVERYTHING:
        yield from more_vram(setting, contenders, [TWICE])
        yield from faster_link(contenders, [TWICE])
    yield from islice(fewer_bytes(setting, contenders), 1)
    yield from larger_batch(contenders, [TWICE])


def tried(trials: Trials, change: Change, found: Found) -> Lever | None:
    """What a change gives; None if nothing fits then, or nothing can be simulated, as with a batch beyond the trace."""
    if not change.configs:
        return None
    try:
        best = best_of(trials.run(change.configs))
    except InputError:
        return None
    return Lever(
        kind=change.kind,
        what=_told(change, best.config),
        caveat=change.caveat,
        rate=best.rate,
        step_ms=best.step_ms,
        gain=best.rate / found.best.rate - 1,
        ceiling=best.rate_at("floor_ns"),
        best=best.config,
    )


def _told(change: Change, best: RunConfig) -> str:
    return f"{change.what} at home only" if change.kind == "format" and best.home.format else change.what


def foreseen(found: Found) -> Sequence[Lever]:
    """Perfect knowledge on the same slots: no predictor can give more."""
    if found.best.config.policy == EVERYTHING:
        return ()
    rate, step_ms = found.best.rate_at("oracle_ns"), float(found.best.row["oracle_ns"]) / 1e6
    gain, ceiling = rate / found.best.rate - 1, found.best.rate_at("floor_ns")
    what, caveat = "a perfect predictor on the same slots", "the most that any can give"
    return (Lever("predictor", what, caveat, rate, step_ms, gain, ceiling, None),)


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
    if below_ceiling and found.best.config.policy != EVERYTHING:
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


def _few(found: Found) -> Sequence[RunConfig]:
    """What a ladder is climbed with."""
    return [trial.config for trial in found.few]


def more_vram(setting: Setting, contenders: Sequence[RunConfig], factors: Iterable[float]) -> Iterator[Change]:
    """Up to what holds the whole model, and no further."""
    now, own = setting.budget(contenders[0]), setting.held(contenders[0])
    whole, has = setting.whole_bytes(own), int(setting.profile["device.vram"])
    for vram in sorted({int(min(whole, now * factor)) for factor in factors}):
        if vram <= now:
            continue
        held = "every expert" if vram == whole else f"{setting.slots(own, vram)} slots"
        caveat = f"{setting.profile.name} has {gib(has)}" if vram > has else ""
        wanted = [replace(one, vram=vram) for one in contenders]
        yield Change("vram", f"{gib(vram)} of VRAM for {held}", _placed(setting, wanted), caveat)


def faster_link(contenders: Sequence[RunConfig], factors: Iterable[float]) -> Iterator[Change]:
    """The same decisions on a link of more bandwidth."""
    for factor in factors:
        wanted = tuple(replace(one, scales=((LINK, factor),)) for one in contenders)
        yield Change("link", f"a link {times(factor)} as fast", wanted)


def fewer_bytes(setting: Setting, contenders: Sequence[RunConfig]) -> Iterator[Change]:
    """Formats of fewer bits than the best has, and was not allowed: in the slots, or at home and on the link only."""
    own = setting.held(contenders[0])
    for held in lower(own):
        if held not in setting.formats:
            wanted = [replace(one, format=held, home=AT_HOME) for one in contenders]
            if can_fill(held, own):
                wanted += [replace(one, home=Home(format=held)) for one in contenders]
            yield Change("format", f"experts in {held}", _placed(setting, wanted), "if its quality is acceptable")


def lower(held: Format) -> list[Format]:
    """Formats of fewer bits, one of each size, the largest first."""
    return [name for name in FORMATS if name in HALF and BITS[name] < BITS[held]]


def larger_batch(contenders: Sequence[RunConfig], factors: Iterable[int]) -> Iterator[Change]:
    """More sequences at once; the rate is of all together."""
    for batch in (contenders[0].batch * factor for factor in factors):
        if batch <= MOST_SEQUENCES:
            wanted = tuple(replace(one, batch=batch) for one in contenders)
            yield Change("batch", f"a batch of {batch}", wanted, "all sequences together")


def times(factor: float) -> str:
    """A factor in words."""
    return "twice" if factor == TWICE else f"{factor:g} times"


def _placed(setting: Setting, wanted: Iterable[RunConfig]) -> tuple[RunConfig, ...]:
    return tuple(dict.fromkeys(placed(setting, wanted)))
