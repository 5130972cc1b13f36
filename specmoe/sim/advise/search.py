"""The search of `advise`: every practical policy, then the best of them with more and deeper prefetching.

Each configuration is simulated once; configurations whose rates differ by less than `LEVEL` count as equal, and the one
that takes the least effort to build wins.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from specmoe.errors import InputError
from specmoe.hwprofiles.shape import can_fill
from specmoe.sim.advise.setting import LIKELY, Setting, draw
from specmoe.sim.claims import LEARNED, is_yardstick
from specmoe.sim.config import AT_HOME, Home, Pairs, RoutingKey, RunConfig
from specmoe.sim.decide.placement import Sizes
from specmoe.sim.decide.policy import POLICIES, Policy, policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.routing import Routing
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.sim.sweep.retiming import DRAWS, can_draw
from specmoe.summary import Row
from specmoe.traces.workload import Workload, warm_up_of
from specmoe.uncertainty import add_fastest_shares, is_drawn

EVERYTHING, BASE = "gpu-only", "on-demand-lru"
PER_LAYER = ("sharing", "per-layer")
LIMITS, DEPTHS = (1, 2, 4), (1, 2)  # experts and layers of prefetching that are tried
TUNED = 3  # policies that are tried with all limits and depths
RIVALS = 4  # policies that may win when something changes
LINK = "host_to_device.pinned.bandwidth"
MEMORY = "cpu.read.bandwidth"  # of the host
LLAMA_CPP = ("cpu-experts", "n-cpu-moe")  # policies that llama.cpp has
SHOWN = ("floor_ns", "oracle_ns")  # bounds that an answer names
LEVEL = 0.01  # rates that differ by less count as equal: the error of a prediction is no smaller


class Found(NamedTuple):
    """The best trial of a search, and the best trial of each policy and of each format, the fastest first."""

    best: "Trial"
    ranking: "list[Trial]"
    formats: "Sequence[Trial]" = ()

    @property
    def contenders(self) -> "list[Trial]":
        """Trials that may win when something changes: the best, the fastest few and the simplest."""
        every = (self.best, *self.ranking[:RIVALS], self.simplest)
        return list({trial.config: trial for trial in every}.values())

    @property
    def few(self) -> "list[Trial]":
        """The best, the simplest and the contender with the highest hit rate."""
        hits = max(self.contenders, key=lambda trial: float(trial.row["hit_rate"]))
        return list({trial.config: trial for trial in (self.best, self.simplest, hits)}.values())

    @property
    def simplest(self) -> "Trial":
        """The trial of loading on demand into an LRU; the best trial if there is none."""
        return next((trial for trial in self.ranking if trial.config.policy == BASE), self.best)


def search(trials: "Trials", setting: Setting) -> Found:
    """Try all policies, then tune the best; raises InputError if nothing can be simulated."""
    first = trials.run(screened(setting), SHOWN)
    every = [*first, *trials.run(tuned(first), SHOWN)]
    return Found(best_of(every), by_policy(every), by_format(every))


def screened(setting: Setting) -> Iterator[RunConfig]:
    """Every policy in every allowed format with all slots that fit; every expert resident where they all fit."""
    question = setting.question
    for held, home in product(setting.formats, (None, *question.home_formats)):
        if home is not None and not can_fill(home, held):
            continue
        for name in searched(setting.routings.drawn, "cpu.threads" in setting.profile):
            wanted = Home(format=home)
            one = replace(setting.config, policy=name, format=held, home=wanted)
            yield from placed(setting, variants(one))


def searched(drawn: bool, has_cpu: bool = False) -> list[str]:
    """Names of the policies that are tried, including those of plug-ins.

    Left out are policies that no runtime could follow, that have no cache, or that use a network, on drawn routing all
    that predict, since drawn routing cannot be predicted, and policies that compute experts on a CPU where the host
    `has_cpu` not.
    """
    return [
        name
        for name, known in POLICIES.items()
        if _is_practical(known) and not (drawn and known.prefetch) and (has_cpu or not known.uses_cpu)
    ]


def variants(one: RunConfig) -> tuple[RunConfig, ...]:
    """A configuration and, for the simplest policy, the same with an LRU for each layer, which has no cliff."""
    return (one, replace(one, settings=(PER_LAYER,))) if one.policy == BASE else (one,)


def _is_practical(known: Policy) -> bool:
    return (
        (known.keep or known.uses_cpu)
        and not known.approximate
        and not is_yardstick(known)
        and not known.predictor.startswith(LEARNED)
    )


def placed(setting: Setting, wanted: Iterable[RunConfig]) -> Iterator[RunConfig]:
    """Configurations with all slots that fit into their VRAM, or with every expert resident; those that fit at all."""
    for one in wanted:
        held, vram = setting.held(one), setting.budget(one)
        slots = setting.slots(held, vram, one.batch)
        if setting.holds_all(held, vram, one.batch):
            yield replace(one, policy=EVERYTHING, slots=setting.keys, settings=(), home=AT_HOME)
        elif slots and one.policy != EVERYTHING:
            yield replace(one, slots=slots)


def tuned(trials: "Sequence[Trial]") -> Iterator[RunConfig]:
    """The best prefetching policies with every limit and depth, and with an LRU for each layer."""
    prefetching = [trial.config for trial in by_policy(trials) if chosen(trial.config).prefetch]
    rules = (zip(("prefetch.limit", "prefetch.depth"), pair, strict=True) for pair in product(LIMITS, DEPTHS))
    ways: list[Pairs] = [*map(tuple, rules), (PER_LAYER,)]
    for one in prefetching[:TUNED]:
        for wanted in ways:
            unlike = (pair for pair in wanted if policy(one.policy, dict([pair])) != chosen(one))
            yield replace(one, settings=tuple(unlike))


class Trial(NamedTuple):
    """A configuration and its row of `specmoe.sweep_table`."""

    config: RunConfig
    row: Row

    @property
    def rate(self) -> float:
        """Throughput of all sequences, tokens/s."""
        return float(self.row["tokens_per_second"])

    @property
    def step_ms(self) -> float:
        """Mean time of a step, ms."""
        return float(self.row["latency_mean_ns"]) / 1e6

    @property
    def stall_ms(self) -> float:
        """Mean time of a step in which compute waits for loads, ms."""
        return float(self.row["stall_ns"]) / float(self.row["steps"]) / 1e6

    @property
    def cpu_stall_ms(self) -> float:
        """Mean time of a step in which compute waits for experts on the CPU, ms."""
        return float(self.row["cpu_stall_ns"] or 0) / float(self.row["steps"]) / 1e6

    def rate_at(self, bound: str) -> float:
        """Throughput, tokens/s, if a step took as long as one of the row's bounds, e.g. `oracle_ns`."""
        return float(self.row["tokens"]) / float(self.row["steps"]) / (float(self.row[bound]) / 1e9)


class Batched(NamedTuple):
    """A trace at a batch, and the number of steps that are simulated, the warm-up of the question's slots included."""

    routed: Routed
    steps: int

    def sequences(self, row: Row) -> int:
        """Number of sequences that run after the warm-up of a row."""
        workload, first = self.routed.workload, int(row["warm_up_steps"])
        rows = workload.rows[workload.row_offsets[first] : workload.row_offsets[first + int(row["steps"])]]
        return len(np.unique(self.routed.block.sequence[rows]))


class Remembered(Routing):
    """Routing that keeps the decisions made on it, which the machines of all levers are timed with."""

    @cached_property
    def _decisions(self) -> dict[tuple[str, int, Sizes | None], DecisionTable]:
        return {}

    def decide(self, chosen: Policy, slots: int, sizes: Sizes | None = None) -> DecisionTable:
        """The decisions of a policy, made once."""
        key = repr(chosen), self.num_keys if chosen.sharing == "all-resident" else slots, sizes
        if key not in self._decisions:
            self._decisions[key] = super().decide(chosen, slots, sizes)
        return self._decisions[key]


class Trials:
    """Runs configurations of one setting, each once, and keeps their rows."""

    def __init__(self, setting: Setting, directory: Path, on_run: Callable[[int], None] = lambda runs: None) -> None:
        self._setting, self._directory, self._on_run = setting, directory, on_run
        self._known: dict[RunConfig, Row] = {}
        self._batched: dict[tuple[str, int], Batched] = {}
        self._routings: dict[RoutingKey, Remembered] = {}
        self._is_whole = not setting.routings.drawn

    def run(self, configs: Iterable[RunConfig], bounds: Sequence[str] = ("floor_ns",)) -> list[Trial]:
        """Trials of the configurations that can be simulated, in order; raises InputError if none can.

        `bounds` are the bounds that rows of fresh configurations have.
        """
        wanted = list(dict.fromkeys(configs))
        self._evaluate([one for one in wanted if one not in self._known], bounds)
        good = [Trial(one, self._known[one]) for one in wanted if not self._known[one]["error"]]
        if wanted and not good:
            raise InputError(str(self._known[wanted[0]]["error"]))
        return good

    def elsewhere(self, trace: str, config: RunConfig) -> float:
        """Throughput of a configuration on another trace, tokens/s; raises InputError if it cannot be simulated."""
        (row,) = evaluate([self._cell(config, trace)], self._directory, bounds=())
        if row["error"]:
            raise InputError(str(row["error"]))
        return Trial(config, row).rate

    def drawn_with(self, stickiness: float, trial: Trial) -> float:
        """Throughput of a trial's configuration on routing that is drawn with another probability, tokens/s."""
        steps = self._batch(trial.config, self._setting.routings.trace).steps
        batch = self._setting.question.batch
        return self.elsewhere(
            str(draw(self._setting.shape, stickiness, batch, self._directory, 2 * steps)), trial.config
        )

    def drawn(self, found: Found) -> list[Row]:
        """Rows of the contenders with their spread over machines; empty where nothing of the machine is unknown.

        Those that failed are left out.
        """
        if not can_draw(replace(found.best.config, draws=DRAWS), self._setting.profile):
            return []
        cells = [self._cell(trial.config, self._setting.routings.trace) for trial in found.contenders]
        asked = [replace(one, draws=DRAWS) for one in cells]
        rows = [row for row in evaluate(asked, self._directory, routings=self._routing, bounds=()) if is_drawn(row)]
        add_fastest_shares(rows)
        return rows

    def sequences(self, trial: Trial) -> int:
        """Number of sequences that run after the warm-up of a trial."""
        return self._batch(trial.config, self._setting.routings.trace).sequences(trial.row)

    @property
    def runs(self) -> int:
        """Number of configurations that were simulated."""
        return sum(not row["error"] for row in self._known.values())

    @property
    def failures(self) -> dict[str, str]:
        """Errors of the policies that could never be simulated, by their names."""
        good = {one.policy for one, row in self._known.items() if not row["error"]}
        bad = {one.policy: str(row["error"]) for one, row in self._known.items() if row["error"]}
        return {name: why for name, why in bad.items() if name not in good}

    def _evaluate(self, fresh: Sequence[RunConfig], bounds: Sequence[str]) -> None:
        done = len(self._known)
        cells = [self._cell(one, self._setting.routings.trace) for one in fresh]
        rows = evaluate(cells, self._directory, lambda count: self._on_run(done + count), self._routing, bounds)
        self._known |= dict(zip(fresh, rows, strict=True))

    def _routing(self, key: RoutingKey) -> Routing:
        if key not in self._routings:
            self._routings[key] = Remembered(*key, self._directory)
        return self._routings[key]

    def _cell(self, one: RunConfig, trace: str) -> RunConfig:
        """The cell of a configuration; its slots replace the VRAM that they were derived from."""
        return replace(one, trace=trace, vram=None, steps=self._batch(one, trace).steps)

    def _batch(self, one: RunConfig, trace: str) -> Batched:
        """All cells of a batch have the same steps, so that they share decisions and predictions."""
        if (trace, one.batch) not in self._batched:
            may_grow = trace == self._setting.routings.trace
            if may_grow and one.batch > 2 * self._setting.question.batch:
                self._draw_all()
            batched = self._stepped(one, trace)
            if may_grow and 2 * batched.steps > batched.routed.workload.num_steps and self._draw_all():
                batched = self._stepped(one, trace)
            self._batched[trace, one.batch] = batched
        return self._batched[trace, one.batch]

    def _stepped(self, one: RunConfig, trace: str) -> Batched:
        routed = Routing(trace, one.batch, shape=one.shape, source=one.source).routed
        steps = self._steps(routed.workload, self._setting.steps_of(one.batch))
        return Batched(routed, min(steps, routed.workload.num_steps))

    def _draw_all(self) -> bool:
        """Draw all sequences, those that were drawn the same again; False if they are all there."""
        if self._is_whole:
            return False
        draw(self._setting.shape, LIKELY, self._setting.question.batch, self._directory)
        self._is_whole = True
        return True

    def _steps(self, workload: Workload, warm: int) -> int:
        """Number of steps with the warm-up before `warm` steps: that of the question, else until slots are filled."""
        given = self._setting.question.warm_up
        if given is not None:
            return given + warm
        filled = warm_up_of(workload, self._setting.most_slots).steps
        return max(filled + warm, 2 * filled)


def chosen(config: RunConfig) -> Policy:
    """The policy of a configuration with its settings."""
    return policy(config.policy, dict(config.settings))


def effort(config: RunConfig) -> tuple[bool, int, int, int]:
    """Effort to build a policy, for comparison: has a predictor, prefetch depth and limit, place in the table."""
    rule = chosen(config).prefetch
    guesses = (rule.depth, rule.limit) if rule else (0, 0)
    return (chosen(config).predictor != "none", *guesses, list(POLICIES).index(config.policy))


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial of least effort among those within `LEVEL` of the fastest; raises ValueError if there is none."""
    fastest = max(trial.rate for trial in trials)
    level = [trial for trial in trials if trial.rate >= fastest * (1 - LEVEL)]
    return min(level, key=lambda trial: (effort(trial.config), -trial.rate))


def by_policy(trials: Sequence[Trial]) -> list[Trial]:
    """The best trial of each policy, the fastest first, equally fast ones by name."""
    return _best_by(trials, lambda trial: trial.config.policy)


def by_format(trials: Sequence[Trial]) -> list[Trial]:
    """The best trial of each format of slots, the fastest first, equally fast ones by name."""
    return _best_by(trials, lambda trial: str(trial.config.format))


def _best_by(trials: Sequence[Trial], name: Callable[[Trial], str]) -> list[Trial]:
    names = dict.fromkeys(map(name, trials))
    best = [best_of([trial for trial in trials if name(trial) == one]) for one in names]
    return sorted(best, key=lambda trial: (-trial.rate, name(trial)))
