"""What doubling (or halving) one thing gives, and what perfect foresight would: the levers, compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from specmoe.sim.advise.changes import TWICE, Change, Kind, faster_link, fewer_bytes, larger_batch, more_vram
from specmoe.sim.advise.setting import Setting
from specmoe.sim.advise.space import EVERYTHING, Found
from specmoe.sim.advise.trials import LEVEL, Configuration, Trials, best_of


class Lever(NamedTuple):
    """A change and what it gives; `best` is how it is used, None where no policy is."""

    kind: Kind
    what: str
    caveat: str
    rate: float  # tokens a second
    step_ms: float
    gain: float  # in the rate, as a share
    ceiling: float  # the rate with every expert in VRAM
    best: Configuration | None


def levers(trials: Trials, setting: Setting, found: Found) -> list[Lever]:
    """Those that give something, what gives most first."""
    changes = list(doubled(setting, found))
    trials.run(one for change in changes for one in change.configurations)  # together, so that they share decisions
    every = [lever for lever in (tried(trials, change, found) for change in changes) if lever is not None]
    every += foreseen(found)
    return sorted((lever for lever in every if lever.gain > LEVEL), key=lambda lever: (-lever.gain, lever.kind))


def doubled(setting: Setting, found: Found) -> Iterator[Change]:
    """Each kind's factor of two; where all is resident, neither VRAM nor the link is a lever."""
    contenders = [trial.configuration for trial in found.contenders]
    if found.best.configuration.policy != EVERYTHING:
        yield from more_vram(setting, contenders, [TWICE])
        yield from faster_link(contenders, [TWICE])
    yield from islice(fewer_bytes(setting, contenders), 1)
    yield from larger_batch(contenders, [TWICE])


def tried(trials: Trials, change: Change, found: Found) -> Lever | None:
    """What a change gives; None if nothing fits then."""
    if not change.configurations:
        return None
    best = best_of(trials.run(change.configurations))
    return Lever(
        kind=change.kind,
        what=_told(change, best.configuration),
        caveat=change.caveat,
        rate=best.rate,
        step_ms=best.step_ms,
        gain=best.rate / found.best.rate - 1,
        ceiling=best.rate_at("floor_ns"),
        best=best.configuration,
    )


def _told(change: Change, best: Configuration) -> str:
    return f"{change.what} at home only" if change.kind == "format" and best.home else change.what


def foreseen(found: Found) -> Sequence[Lever]:
    """Perfect knowledge on the same slots: no predictor can give more."""
    if found.best.configuration.policy == EVERYTHING:
        return ()
    rate, step_ms = found.best.rate_at("oracle_ns"), float(found.best.row["oracle_ns"]) / 1e6
    gain, ceiling = rate / found.best.rate - 1, found.best.rate_at("floor_ns")
    what, caveat = "a perfect predictor on the same slots", "the most that any can give"
    return (Lever("predictor", what, caveat, rate, step_ms, gain, ceiling, None),)
