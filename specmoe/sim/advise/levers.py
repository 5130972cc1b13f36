"""Levers: what changing one thing would give (VRAM, link, host memory, format, batch, predictor), and what reaches a
target.

Kinds are compared by doubling (or halving) one thing at a time, from the mildest change on. A perfect predictor on the
same slots bounds what any predictor can give.

An answer on routing that is not the model's own is judged on gpt-oss-20b, whose own routing is known. `misses.csv`
says how often policies miss, on a share of all experts in slots: on that model's own routing, on that of
decoder-mini-64, which stands in for decoder-only models of its experts and top-k, and on a drawn one. So an answer has
a range: its waits for experts are also those of gpt-oss-20b's misses. docs/build_decoder.py measures the table.
"""

import csv
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from specmoe.errors import InputError
from specmoe.hwprofiles.shape import BITS, FORMATS, Format, can_fill
from specmoe.sim.advise.search import (
    BASE,
    EVERYTHING,
    LEVEL,
    LINK,
    MEMORY,
    Found,
    Trial,
    Trials,
    best_of,
    chosen,
    placed,
)
from specmoe.sim.advise.setting import LIKELY, RANGE, Setting, gib
from specmoe.sim.config import AT_HOME, Home, RunConfig

Kind = Literal["vram", "link", "memory", "predictor", "format", "batch"]
TWICE = 2
VRAM_FACTORS = (1.25, 1.5, TWICE, 3, 4)
LINK_FACTORS = (1.5, TWICE, 4, 8)
BATCH_FACTORS = (TWICE, 4, 8, 16)
MOST_SEQUENCES = 64  # largest batch that is tried
HALF = ("fp32", "fp16", "int8", "int4")  # each takes half the bytes of the one before
ALL = float("inf")  # factor of the VRAM that stands for the whole model


class Change(NamedTuple):
    """One change in words, and the configurations that are tried with it."""

    kind: Kind
    what: str
    configs: tuple[RunConfig, ...]
    caveat: str = ""  # condition under which the change is possible


class Lever(NamedTuple):
    """A change and what it gives; `best` is the best configuration with it, None for a perfect predictor."""

    kind: Kind
    what: str
    caveat: str
    rate: float  # tokens/s
    step_ms: float
    gain: float  # relative to the rate of the answer
    ceiling: float  # the rate with every expert in VRAM
    best: RunConfig | None


class Reach(NamedTuple):
    """How to reach a target in tokens/s: `ways` reach it, each the mildest of its kind; `most` is the best one tried.

    `ceiling` is the rate with every expert in VRAM, which no VRAM, link or predictor can exceed.
    """

    target: float
    reached: bool
    ways: tuple[Lever, ...]
    most: Lever | None
    ceiling: float


def levers(trials: Trials, setting: Setting, found: Found) -> list[Lever]:
    """Levers that give more than `LEVEL`, the largest gain first."""
    changes = list(doubled(setting, found))
    with suppress(InputError):  # no change can be simulated: no lever
        trials.run(one for change in changes for one in change.configs)  # together, so that they share decisions
    every = [lever for lever in (tried(trials, change, found) for change in changes) if lever is not None]
    every += foreseen(found)
    return sorted((lever for lever in every if lever.gain > LEVEL), key=lambda lever: (-lever.gain, lever.kind))


def doubled(setting: Setting, found: Found) -> Iterator[Change]:
    """A factor of two of each kind; VRAM, link and host memory only where not every expert is resident."""
    contenders = [trial.config for trial in found.contenders]
    if found.best.config.policy != EVERYTHING:
        yield from more_vram(setting, contenders, [TWICE])
        yield from faster_link(contenders, [TWICE])
        yield from faster_memory(setting, contenders)
    yield from islice(fewer_bytes(setting, contenders), 1)
    yield from larger_batch(setting, contenders, [TWICE])


def tried(trials: Trials, change: Change, found: Found) -> Lever | None:
    """What a change gives; None if nothing fits or can be simulated with it, e.g. a batch larger than the trace."""
    if not change.configs:
        return None
    try:
        best = best_of(trials.run(change.configs))
    except InputError:
        return None
    return Lever(
        kind=change.kind,
        what=_worded(change, best.config),
        caveat=change.caveat,
        rate=best.rate,
        step_ms=best.step_ms,
        gain=best.rate / found.best.rate - 1,
        ceiling=best.rate_at("floor_ns"),
        best=best.config,
    )


def _worded(change: Change, best: RunConfig) -> str:
    return f"{change.what} at home only" if change.kind == "format" and best.home.format else change.what


def foreseen(found: Found) -> Sequence[Lever]:
    """The lever of a perfect predictor on the same slots; empty where every expert is resident."""
    if found.best.config.policy == EVERYTHING:
        return ()
    rate, step_ms = found.best.rate_at("oracle_ns"), float(found.best.row["oracle_ns"]) / 1e6
    gain, ceiling = rate / found.best.rate - 1, found.best.rate_at("floor_ns")
    what, caveat = "a perfect predictor on the same slots", "the most that any can give"
    return (Lever("predictor", what, caveat, rate, step_ms, gain, ceiling, None),)


def reach(trials: Trials, setting: Setting, found: Found, target: float) -> Reach:
    """Find what reaches a target: one change at a time, else ever smaller formats with each of the other changes."""
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
    """Levers that were tried on a ladder: its top and, if that reaches the target, the lowest rung that does.

    The rungs are bisected, since more of a thing mostly gives more. The last lever reaches the target, if any does.
    """
    climbed: list[Lever] = []

    def reaches(rung: int) -> bool:
        lever = tried(trials, ladder[rung], found)
        if lever is not None:
            climbed.append(lever)
        return lever is not None and lever.rate >= target

    if ladder and reaches(len(ladder) - 1):
        bisect_left(range(len(ladder) - 1), True, key=reaches)
    good = [lever for lever in climbed if lever.rate >= target]
    return [*(lever for lever in climbed if lever.rate < target), *good[-1:]]


def ladders(setting: Setting, found: Found, below_ceiling: bool) -> Iterator[Iterator[Change]]:
    """The ladder of each kind; VRAM and link only where the target is below the ceiling."""
    few = _few(found)
    if below_ceiling and found.best.config.policy != EVERYTHING:
        yield more_vram(setting, few, (*VRAM_FACTORS, ALL))
        yield faster_link(few, LINK_FACTORS)
    yield fewer_bytes(setting, few)
    yield larger_batch(setting, few, BATCH_FACTORS)


def tried_with(trials: Trials, setting: Setting, found: Found, smaller: Change, target: float) -> list[Lever]:
    """Levers of a smaller format together with each of the other kinds."""
    lever = tried(trials, smaller, found)
    if lever is None or lever.best is None:
        return []
    few = [lever.best]
    ladders = [larger_batch(setting, few, BATCH_FACTORS)]
    if target <= lever.ceiling and lever.best.policy != EVERYTHING:
        ladders += [more_vram(setting, few, (*VRAM_FACTORS, ALL)), faster_link(few, LINK_FACTORS)]
    both = ([_both(smaller, change) for change in ladder] for ladder in ladders)
    return [one for ladder in both for one in climbed(trials, ladder, found, target)]


def _both(one: Change, other: Change) -> Change:
    caveat = ", ".join(part for part in (one.caveat, other.caveat) if part)
    return other._replace(what=f"{one.what} and {other.what}", caveat=caveat)


def _few(found: Found) -> Sequence[RunConfig]:
    """The few configurations that are tried on each rung."""
    return [trial.config for trial in found.few]


def more_vram(setting: Setting, contenders: Sequence[RunConfig], factors: Iterable[float]) -> Iterator[Change]:
    """Changes to more VRAM, at most as much as the whole model needs."""
    now, own = setting.budget(contenders[0]), setting.held(contenders[0])
    whole, has = setting.whole_bytes(own), int(setting.profile["device.vram"])
    for vram in sorted({int(min(whole, now * factor)) for factor in factors}):
        if vram <= now:
            continue
        contents = "every expert" if vram == whole else f"{setting.slots(own, vram)} slots"
        caveat = f"{setting.profile.name} has {gib(has)}" if vram > has else ""
        wanted = [replace(one, vram=vram) for one in contenders]
        yield Change("vram", f"{gib(vram)} of VRAM for {contents}", _placed(setting, wanted), caveat)


def faster_link(contenders: Sequence[RunConfig], factors: Iterable[float]) -> Iterator[Change]:
    """Changes to a link of more bandwidth, with the same decisions."""
    for factor in factors:
        wanted = tuple(replace(one, scales=((LINK, factor),)) for one in contenders)
        yield Change("link", f"a link {times(factor)} as fast", wanted)


def faster_memory(setting: Setting, contenders: Sequence[RunConfig]) -> Iterator[Change]:
    """The change to host memory that the CPU reads twice as fast, where its rate is known as a number."""
    wanted = tuple(replace(one, scales=((MEMORY, TWICE),)) for one in contenders if chosen(one).uses_cpu)
    if wanted and MEMORY in setting.profile:
        yield Change("memory", f"host memory {times(TWICE)} as fast", wanted)


def fewer_bytes(setting: Setting, contenders: Sequence[RunConfig]) -> Iterator[Change]:
    """Changes to formats of fewer bits that the question does not allow: in the slots, or at home and on the link."""
    own = setting.held(contenders[0])
    for held in lower(own):
        if held not in setting.formats:
            wanted = [replace(one, format=held, home=AT_HOME) for one in contenders]
            if can_fill(held, own):
                wanted += [replace(one, home=Home(format=held)) for one in contenders]
            yield Change("format", f"experts in {held}", _placed(setting, wanted), "if its quality is acceptable")


def lower(held: Format) -> list[Format]:
    """Formats of fewer bits than `held`, one of each size, the largest first."""
    return [name for name in FORMATS if name in HALF and BITS[name] < BITS[held]]


def larger_batch(setting: Setting, contenders: Sequence[RunConfig], factors: Iterable[int]) -> Iterator[Change]:
    """Changes to a larger batch; the rate is summed over all sequences."""
    for batch in (contenders[0].batch * factor for factor in factors):
        if batch <= MOST_SEQUENCES:
            wanted = [replace(one, batch=batch) for one in contenders]
            yield Change("batch", f"a batch of {batch}", _placed(setting, wanted), "all sequences together")


def times(factor: float) -> str:
    """A factor in words, e.g. twice."""
    return "twice" if factor == TWICE else f"{factor:g} times"


def _placed(setting: Setting, wanted: Iterable[RunConfig]) -> tuple[RunConfig, ...]:
    return tuple(dict.fromkeys(placed(setting, wanted)))


JUDGE = "gpt-oss-20b"
Routing = Literal["borrowed", "drawn"]


class Judged(NamedTuple):
    """Shares of demanded experts that a policy misses on gpt-oss-20b's own routing, and on the other one."""

    policy: str
    own: float
    other: float

    @property
    def ratio(self) -> float:
        """Misses on the own routing for each on the other one."""
        return self.own / self.other


def judged(policy: str, slots: float, kind: Routing) -> Judged:
    """What was found of a policy with slots for a share of all experts; of one that was not judged, as of an LRU."""
    name = policy if policy in _table() else BASE
    shares, own, *others = _table()[name]
    other = others[("borrowed", "drawn").index(kind)]
    return Judged(name, float(np.interp(slots, shares, own)), float(np.interp(slots, shares, other)))


def rate_with(trial: Trial, ratio: float) -> float:
    """Rate of a configuration, tokens/s, if its waits for experts change as its misses do."""
    waits = trial.stall_ms + trial.cpu_stall_ms
    return trial.rate * trial.step_ms / (trial.step_ms + (ratio - 1) * waits)


def judged_of(setting: Setting, best: Trial) -> Judged | None:
    """What routing that is not the model's own costs; None for its own, and where every expert is resident."""
    if best.config.policy == EVERYTHING or not (setting.routings.drawn or setting.routings.borrowed):
        return None
    kind: Routing = "drawn" if setting.routings.drawn else "borrowed"
    return judged(best.config.policy, (best.config.slots or 0) / setting.keys, kind)


def words_of(found: Judged | None, other: str) -> str:
    """What the range of an answer rests on; empty for the model's own routing."""
    if found is None:
        return ""
    return (
        f"; its range rests on {JUDGE}: with slots for as large a share of the experts, {found.policy} misses "
        f"{found.own:.0%} of those demanded on its own routing and {found.other:.0%} on {other}"
    )


def drawn_words(setting: Setting) -> str:
    """Why routing is drawn, and how."""
    (low, high), experts, batch = RANGE, setting.shape.experts, setting.question.batch
    return (
        f"no trace of {setting.shape.name} is at hand, nor one of {experts.number} experts, top-{experts.top_k}, for a "
        f"batch of {batch}, so it is drawn: experts alike, each used again by the next token with probability {LIKELY} "
        f"({low:g} .. {high:g}), which no predictor is judged on (--trace gives a real one)"
    )


@cache
def _table() -> dict[str, list[list[float]]]:
    """Columns of the table for each policy, but for its name."""
    with (Path(__file__).parent / "misses.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    names = dict.fromkeys(name for name, *_ in rows)
    return {name: [list(map(float, column)) for column in zip(*_of(rows, name), strict=True)] for name in names}


def _of(rows: list[list[str]], name: str) -> list[list[str]]:
    return [cells for own, *cells in rows if own == name]
