"""Configurations, simulated once each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.formats import Format
from specmoe.sim.advise.setting import Setting
from specmoe.sim.decide.policies import POLICIES, policy
from specmoe.sim.decide.policy import Policy
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.cell import Cell, Pairs
from specmoe.sim.sweep.contents import Contents
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.sim.sweep.rows import Row
from specmoe.sim.timing.durations import Home
from specmoe.sim.timing.prediction import charged

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
