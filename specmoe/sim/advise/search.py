"""What is searched: every policy that a runtime could have, then the best of them with more and deeper prefetching.

Configurations, simulated once each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.formats import Format, is_home
from specmoe.sim.advise.setting import Setting
from specmoe.sim.claims import is_yardstick
from specmoe.sim.decide.policy import POLICIES, Policy, policy
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.cell import Cell, Contents, Pairs
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.sim.sweep.rows import Row
from specmoe.sim.timing.charge import charged
from specmoe.sim.timing.durations import Home

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
        if not is_home(held, home):
            continue
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


LINK = "host_to_device.pinned.bandwidth"
LEVEL = 0.01  # rates that differ by less are level: a prediction's error is no smaller


class Configuration(NamedTuple):
    """What may be chosen (policy, its settings, formats), and what is given (VRAM, batch, the link's speed)."""

    policy: str
    format: Format
    slots: int
    vram: int
    batch: int
    settings: Pairs = ()
    home: Format | None = None
    link: float = 1.0  # times the profile's bandwidth

    @property
    def chosen(self) -> Policy:
        """The policy with its settings."""
        return policy(self.policy, dict(self.settings))

    @property
    def effort(self) -> tuple[bool, int, int, int]:
        """What it takes to build it: a predictor, how much of what it says is fetched, and its place in the table."""
        chosen = self.chosen
        rule = chosen.prefetch
        guesses = (rule.depth, rule.limit) if rule else (0, 0)
        return (chosen.predictor != "none", *guesses, list(POLICIES).index(self.policy))


class Trial(NamedTuple):
    """A configuration and its row of `specmoe.sweep_table`."""

    configuration: Configuration
    row: Row

    @property
    def rate(self) -> float:
        """Tokens a second, of all sequences."""
        return float(self.row["tokens_per_second"])

    @property
    def step_ms(self) -> float:
        """Mean."""
        return float(self.row["latency_mean_ns"]) / 1e6

    @property
    def stall_ms(self) -> float:
        """Of a step, compute waits for loads."""
        return float(self.row["stall_ns"]) / float(self.row["steps"]) / 1e6

    def rate_at(self, bound: str) -> float:
        """Tokens a second if a step took as long as one of the row's bounds."""
        return float(self.row["tokens"]) / float(self.row["steps"]) / (float(self.row[bound]) / 1e9)


class Trials:
    """Runs configurations of one setting and keeps what came out."""

    def __init__(self, setting: Setting, directory: Path, on_run: Callable[[int], None] = lambda runs: None) -> None:
        self._setting, self._directory, self._on_run = setting, directory, on_run
        self._known: dict[Configuration, Row] = {}

    def run(self, configurations: Iterable[Configuration]) -> list[Trial]:
        """Those that can be simulated, in their order; raises InputError, with the first reason, if none can."""
        wanted = list(dict.fromkeys(configurations))
        self._evaluate([one for one in wanted if one not in self._known])
        good = [Trial(one, self._known[one]) for one in wanted if not self._known[one]["error"]]
        if wanted and not good:
            raise InputError(str(self._known[wanted[0]]["error"]))
        return good

    def elsewhere(self, trace: str, configuration: Configuration) -> float:
        """Tokens a second of a configuration on another trace; raises InputError if it cannot be simulated."""
        scenario = Scenario(Contents().spec(self._cell(configuration, trace), self._directory))
        chosen = scenario.policy(configuration.policy)
        decisions = scenario.decide(chosen, scenario.slots)
        timing = scenario.time(decisions, charged(scenario.durations(decisions), scenario.charge(chosen)))
        return int(scenario.routed.workload.step_tokens.sum()) / (int(timing.step_end[-1]) / 1e9)

    @property
    def runs(self) -> int:
        """Configurations that were simulated."""
        return sum(not row["error"] for row in self._known.values())

    @property
    def failures(self) -> dict[str, str]:
        """Why policies could not be simulated that never were, by their names."""
        good = {one.policy for one, row in self._known.items() if not row["error"]}
        bad = {one.policy: str(row["error"]) for one, row in self._known.items() if row["error"]}
        return {name: why for name, why in bad.items() if name not in good}

    def _evaluate(self, fresh: Sequence[Configuration]) -> None:
        done = len(self._known)
        cells = [self._cell(one, self._setting.routings.trace) for one in fresh]
        rows = evaluate(cells, self._directory, lambda count: self._on_run(done + count))
        self._known |= dict(zip(fresh, rows, strict=True))

    def _cell(self, one: Configuration, trace: str) -> Cell:
        question = self._setting.question
        return Cell(
            trace=trace,
            policy=one.policy,
            profile=question.profile,
            shape=question.shape,
            format=one.format,
            slots=one.slots,
            batch=one.batch,
            steps=self._setting.steps_of(one.batch),
            home=Home(format=one.home),
            train=question.train,
            settings=one.settings,
            scales=() if one.link == 1 else ((LINK, one.link),),
        )


def best_of(trials: Sequence[Trial]) -> Trial:
    """The one of the least effort among those that are level with the fastest; raises ValueError of none."""
    fastest = max(trial.rate for trial in trials)
    level = [trial for trial in trials if trial.rate >= fastest * (1 - LEVEL)]
    return min(level, key=lambda trial: (trial.configuration.effort, -trial.rate))


def by_policy(trials: Sequence[Trial]) -> list[Trial]:
    """The best of each policy, the fastest first; equally fast ones by name."""
    names = dict.fromkeys(trial.configuration.policy for trial in trials)
    best = [best_of([trial for trial in trials if trial.configuration.policy == name]) for name in names]
    return sorted(best, key=lambda trial: (-trial.rate, trial.configuration.policy))
