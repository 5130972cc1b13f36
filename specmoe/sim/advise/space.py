"""What is searched: every policy that a runtime could have, then the best of them with more and deeper prefetching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from specmoe.sim.advise.setting import Setting
from specmoe.sim.advise.trials import Configuration, Trial, Trials, best_of, by_policy
from specmoe.sim.brought import is_yardstick
from specmoe.sim.decide.policies import POLICIES, policy
from specmoe.sim.decide.policy import Policy
from specmoe.sim.sweep.cell import Pairs

EVERYTHING, BASE = "gpu-only", "on-demand-lru"
PER_LAYER = ("sharing", "per-layer")
LIMITS, DEPTHS = (1, 2, 4), (1, 2)  # of prefetching
TUNED = 3  # policies that are tried with all of these
RIVALS = 4  # that may win when something changes
LEARNED = "learned"  # begins the names of networks, which take longer to ask than an answer may take


def searched(drawn: bool) -> list[str]:
    """Names of the policies that are tried, plug-ins' too.

    Not those that no runtime could follow, that keep nothing, or that ask a network; on drawn routing none that
    predicts, as nothing in it can be predicted.
    """
    return [name for name, known in POLICIES.items() if _is_practical(known) and not (drawn and known.prefetch)]


def variants(one: Configuration) -> tuple[Configuration, ...]:
    """A policy as it is named and, if it is the simplest, with an LRU for each layer too, which has no cliff."""
    return (one, one._replace(settings=(PER_LAYER,))) if one.policy == BASE else (one,)


def _is_practical(known: Policy) -> bool:
    return known.keep and not is_yardstick(known) and not known.predictor.startswith(LEARNED)


def screened(setting: Setting) -> Iterator[Configuration]:
    """Every policy in every format that is allowed, with all slots that fit; everything resident where that fits."""
    question = setting.question
    for held, home in product(setting.formats, (None, *question.home_formats)):
        for name in searched(setting.routings.drawn):
            one = Configuration(name, held, 0, question.vram, question.batch, home=home)
            yield from placed(setting, variants(one))


def placed(setting: Setting, wanted: Iterable[Configuration]) -> Iterator[Configuration]:
    """With all slots that fit into their VRAM, everything resident where that fits; left out what does not fit."""
    for one in wanted:
        slots = setting.slots(one.format, one.vram)
        if setting.holds_all(one.format, one.vram):
            yield Configuration(EVERYTHING, one.format, setting.keys, one.vram, one.batch)
        elif slots:
            yield one._replace(slots=slots)


def tuned(trials: Sequence[Trial]) -> Iterator[Configuration]:
    """The best policies that prefetch, with every limit and depth, and with an LRU for each layer."""
    prefetching = [trial.configuration for trial in by_policy(trials) if trial.configuration.chosen.prefetch]
    rules = (zip(("prefetch.limit", "prefetch.depth"), pair, strict=True) for pair in product(LIMITS, DEPTHS))
    ways: list[Pairs] = [*map(tuple, rules), (PER_LAYER,)]
    for one in prefetching[:TUNED]:
        for wanted in ways:
            unlike = (pair for pair in wanted if policy(one.policy, dict([pair])) != one.chosen)
            yield one._replace(settings=tuple(unlike))


class Found(NamedTuple):
    """The best of a search, and the best of each policy, the fastest first."""

    best: Trial
    ranking: list[Trial]

    @property
    def contenders(self) -> list[Trial]:
        """Those that may win when something changes: the best, the fastest few, and the simplest of all."""
        every = (self.best, *self.ranking[:RIVALS], self.simplest)
        return list({trial.configuration: trial for trial in every}.values())

    @property
    def few(self) -> list[Trial]:
        """The best, the simplest and, of those that may win, the one that hits most: it gains most where copies do."""
        hits = max(self.contenders, key=lambda trial: float(trial.row["hit_rate"]))
        return list({trial.configuration: trial for trial in (self.best, self.simplest, hits)}.values())

    @property
    def simplest(self) -> Trial:
        """Loading on demand, into an LRU; the best where there is no such."""
        return next((trial for trial in self.ranking if trial.configuration.policy == BASE), self.best)


def search(trials: Trials, setting: Setting) -> Found:
    """Try everything; raises InputError if nothing can be simulated."""
    first = trials.run(screened(setting))
    every = [*first, *trials.run(tuned(first))]
    return Found(best_of(every), by_policy(every))
