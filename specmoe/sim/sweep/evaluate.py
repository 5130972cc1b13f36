"""Rows of cells: everything that several cells share is computed once, and their machines are timed in one pass.

Cells of one routing share predictions. Of these, cells of one policy and number of slots share decisions, on whatever
machine, with whatever shape and format. The row of a cell (see `specmoe.sweep_table`) holds its configuration, its
figures, and how good the evidence is.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from specmoe.errors import SpecmoeError
from specmoe.hwprofiles.kernels import words_of
from specmoe.results import OF_MISSES, Manifest
from specmoe.sim.claims import is_yardstick
from specmoe.sim.config import RoutingKey, RunConfig
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.routing import Routing
from specmoe.sim.run import SEMANTICS, Scenario
from specmoe.sim.sweep.grid import Contents
from specmoe.sim.sweep.retiming import Draws, Timed, bounds_of, can_draw, compiled, timings
from specmoe.sim.timing.durations import Charge
from specmoe.summary import BOUNDS, FIGURES, KEYS, ORIGIN, SCALE, SET, Counts, Row, figures, row_of, summary
from specmoe.traces.workload import Workload
from specmoe.uncertainty import EMPTY


class Job(NamedTuple):
    """A cell that can run: its number in the sweep, its key, and the scenario and policy prepared for it."""

    number: int
    cell: RunConfig
    key: str
    scenario: Scenario
    chosen: Policy


class Outcome(NamedTuple):
    """The result of a job: figures of the run, the cost of its predictions, and warnings."""

    figures: dict[str, Any]
    cost: Charge
    warnings: tuple[str, ...]
    timed_by: Literal["engine", "re-timer"]


def good_row(job: Job, warm: DecisionTable, bounds: dict[str, int], outcome: Outcome) -> Row:
    """The row of a run; `warm` are its decisions after the warm-up, `bounds` those that were computed."""
    scenario, meta, costs = job.scenario, job.scenario.trace.meta, job.scenario.costs_of(job.chosen)
    expected = scenario.expected(job.chosen)
    row = {
        **_keys_of(job.cell),
        "profile": scenario.profile.name,
        "shape": scenario.shape.name,
        "format": scenario.format,
        "style": words_of(costs.style, scenario.format),
        "dense_format": scenario.dense_format,
        "slots": warm.slots,
        **dict.fromkeys(("break_even_precision", "first_token_ns", "decode_tokens_per_second")),
        **EMPTY,
        **outcome.figures,
        **dict.fromkeys(BOUNDS),
        **bounds,
        "vram_peak_bytes": scenario.room.with_slots(warm.slots),
        "expert_bytes": scenario.expert_bytes,
        **scenario.budget_lines(scenario.slots),
        "num_layers": scenario.num_layers,
        "cliff_slots": warm.cliff_slots,
        "yardstick": is_yardstick(job.chosen, scenario.fits(scenario.slots)),
        "fits": scenario.fits(scenario.slots),
        "cell": job.key,
        "trace_kind": meta.kind,
        "phase": meta.phase,
        "semantics": SEMANTICS,
        "domains": list(scenario.routing.domains),
        "staggered": job.cell.staggered,
        "evidence": costs.evidence,
        "expected_error": expected.error,
        "validated": expected.validated,
        "error_basis": expected.basis,
        "ratio_error": scenario.ratio_error(job.chosen),
        "assumed": list(scenario.assumed(job.chosen, outcome.cost)),
        "warnings": list(outcome.warnings),
        "timed_by": outcome.timed_by,
        "error": "",
    }
    return {name: row[name] for name in (*KEYS, *FIGURES, *ORIGIN)} | varied(job.cell)


def failed_row(cell: RunConfig, key: str, error: Exception) -> Row:
    """The row of a cell that failed, without figures."""
    nothing = dict.fromkeys((*KEYS, *FIGURES, *ORIGIN))
    origin = {"cell": key, "trace_kind": "", "phase": "", "semantics": SEMANTICS, "evidence": "", "timed_by": ""}
    origin |= {"error": _line(error)}
    return nothing | EMPTY | _keys_of(cell) | origin | {"domains": [], "assumed": [], "warnings": []} | varied(cell)


def counts_of(workload: Workload, warm: DecisionTable) -> Counts:
    """Counts of decisions on the last steps of a workload."""
    first = workload.num_steps - warm.num_steps
    return Counts(
        steps=warm.num_steps,
        events=warm.num_steps * warm.num_layers,
        tokens=workload.kept_since(first),
        demands=len(workload.experts) - int(workload.offsets[first * warm.num_layers]),
        hits=warm.hits,
        demand_loads=warm.demand_loads,
        prefetch_loads=warm.prefetch_loads,
        prefetch_useful=warm.prefetch_useful,
        **{name: getattr(warm, name) for name in OF_MISSES},
    )


def varied(cell: RunConfig) -> dict[str, Any]:
    """The columns `set.*` and `scale.*` of a cell."""
    return {f"{SET}{name}": value for name, value in cell.settings} | {f"{SCALE}{n}": f for n, f in cell.scales}


def _keys_of(cell: RunConfig) -> Row:
    """The columns `KEYS` that the cell itself has."""
    fields = cell.fields
    empty = ("format", "style", "dense_format", "home_format")
    return {name: fields[name] for name in KEYS} | {name: fields[name] or "" for name in empty}


def _line(error: Exception) -> str:
    """The first line of an error; an unexpected error's line begins with its type."""
    text = (str(error).splitlines() or [""])[0]
    return text if isinstance(error, SpecmoeError) else f"{type(error).__name__}: {text}"


Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
Numbered = tuple[int, Row]
Rows = Iterator[Numbered]
RoutingOf = Callable[[RoutingKey], Routing]
Timer = Callable[[Sequence[Job], DecisionTable], Rows]


def evaluate(
    cells: Sequence[RunConfig],
    predictions: Path | None = None,
    on_cell: Callable[[int], None] = lambda done: None,
    routings: RoutingOf | None = None,
    bounds: Sequence[str] = BOUNDS,
) -> list[Row]:
    """One row of `sweep_table` for each cell, in order; a cell that fails gives a row with its error.

    `predictions` is a directory that keeps predictions; `on_cell` is called with the number of finished cells.
    `routings` gives the routing of cells. Default: it is built anew. `bounds` are the columns of bounds that are
    computed; the others are None.
    """
    rows: dict[int, Row] = {}
    evaluation = Evaluation(cells, predictions, routings or (lambda key: Routing(*key, predictions)), bounds)
    for number, row in evaluation.rows():
        rows[number] = row
        on_cell(len(rows))
    return [rows[number] for number in range(len(cells))]


class Evaluation:
    """A list of cells, with the files and scenarios that they share."""

    def __init__(
        self, cells: Sequence[RunConfig], predictions: Path | None, routings: RoutingOf, bounds: Sequence[str]
    ) -> None:
        self._cells, self._predictions, self._routings, self._bounds = cells, predictions, routings, bounds
        self._contents, self._draws = Contents(), Draws()

    def rows(self) -> Rows:
        """Yield every cell's number and row, in the order in which they finish."""
        for key, numbers in grouped(range(len(self._cells)), lambda number: self._cells[number].routing):
            try:
                routing = self._routings(key)
            except Exception as error:
                yield from (self._failed(number, error) for number in numbers)
            else:
                yield from self._of_routing(routing, numbers)

    def _of_routing(self, routing: Routing, numbers: Iterable[int]) -> Rows:
        jobs: list[Job] = []
        scenarios: dict[RunConfig, Scenario | Exception] = {}
        for number in numbers:
            job = self._job(number, routing, scenarios)
            if isinstance(job, Job):
                jobs.append(job)
            else:
                yield self._failed(number, job)
        for _, alike in grouped(jobs, _pass):
            yield from self._of_slots(alike)

    def _job(self, number: int, routing: Routing, scenarios: dict[RunConfig, Scenario | Exception]) -> Job | Exception:
        """The job of a cell, or the error why it cannot run; `scenarios` are those of earlier cells."""
        cell = self._cells[number]
        machine = dataclasses.replace(cell, policy="")
        if machine not in scenarios:
            scenarios[machine] = self._scenario(machine, routing)
        scenario = scenarios[machine]
        if isinstance(scenario, Exception):
            return scenario
        try:
            return Job(number, cell, self._contents.key(cell), scenario, scenario.policy(cell.policy))
        except Exception as error:
            return error

    def _scenario(self, cell: RunConfig, routing: Routing) -> Scenario | Exception:
        try:
            return Scenario(self._contents.loaded(cell), self._predictions, routing)
        except Exception as error:
            return error

    def _of_slots(self, jobs: Sequence[Job]) -> Rows:
        """Rows of jobs that share routing, number of slots and context."""
        scenarios = list({id(job.scenario): job.scenario for job in jobs}.values())
        slots = scenarios[0].slots
        try:
            for scenario, bounds in zip(scenarios, bounds_of(scenarios, slots, self._bounds), strict=True):
                scenario.set_bounds(slots, bounds)
        except Exception as error:
            yield from self._apart(jobs, error, lambda job: id(job.scenario), self._of_slots)
            return
        for _, alike in grouped(jobs, lambda job: repr(job.chosen)):
            yield from self._of_decisions(alike)

    def _of_decisions(self, jobs: Sequence[Job]) -> Rows:
        """Rows of jobs that share their decisions."""
        try:
            decisions = jobs[0].scenario.decide(jobs[0].chosen, jobs[0].scenario.slots)
        except Exception as error:
            yield from (self._failed(job.number, error) for job in jobs)
            return
        for passes, alike in grouped(jobs, lambda job: compiled() and job.cell.link == "fifo"):
            yield from self._timed(alike, decisions, partial(_retimed, draws=self._draws) if passes else _simulated)

    def _timed(self, jobs: Sequence[Job], decisions: DecisionTable, how: Timer) -> Rows:
        try:
            yield from list(how(jobs, decisions))
        except Exception as error:
            yield from self._apart(jobs, error, lambda job: job.number, lambda one: self._timed(one, decisions, how))

    def _apart(
        self, jobs: Sequence[Job], error: Exception, key: Callable[[Job], int], again: Callable[[Sequence[Job]], Rows]
    ) -> Rows:
        """Try jobs that failed together in smaller groups, so that one bad job does not spoil the others."""
        parts = list(grouped(jobs, key))
        if len(parts) == 1:
            yield from (self._failed(job.number, error) for job in jobs)
            return
        for _, part in parts:
            yield from again(part)

    def _failed(self, number: int, error: Exception) -> Numbered:
        cell = self._cells[number]
        try:
            key = self._contents.key(cell)
        except Exception:
            key = ""  # a file cannot be read: `error` says so already
        return number, failed_row(cell, key, error)


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> Iterator[tuple[Key, list[Item]]]:
    """Groups of items with equal keys, in the order of each key's first item."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.items()


def _pass(job: Job) -> tuple[Hashable, ...]:
    """What scenarios that are timed in one pass have in common."""
    scenario, config = job.scenario, job.scenario.config
    launching = None if config.style is None else config.style.launch
    sizes = scenario.sizes, len(set(scenario.bytes_by_layer)) > 1
    return scenario.slots, config.warm_up, config.home.compressed_slots, scenario.attends_across, launching, sizes


def _retimed(jobs: Sequence[Job], decisions: DecisionTable, draws: Draws) -> Rows:
    """Time all jobs in one pass, by the re-timer."""
    scenario = jobs[0].scenario
    warm = decisions.since(scenario.warm_up())
    counts = counts_of(scenario.routed.workload, warm)
    for job, (run, spread) in zip(jobs, _spread(jobs, decisions, draws), strict=True):
        scenario = job.scenario
        warnings = scenario.warnings(job.chosen, warm.counted, scenario.slots, run.prefetching_ns, run.run_ns)
        told = figures(counts, run.sums) | spread
        outcome = Outcome(told, run.cost, warnings, "re-timer")
        yield job.number, good_row(job, warm, scenario.bounds(scenario.slots), outcome)


def _spread(jobs: Sequence[Job], decisions: DecisionTable, draws: Draws) -> Iterator[tuple[Timed, Row]]:
    """The run of each job, and its `spread` where machines are drawn, which are timed together with it."""
    if any(can_draw(job.cell, job.scenario.loaded) for job in jobs):
        yield from (draws.timed(job.scenario, job.chosen, decisions) for job in jobs)
    else:
        yield from ((run, EMPTY) for run in timings(decisions, [job.scenario for job in jobs], jobs[0].chosen))


def summed(scenario: Scenario, name: str, draws: Draws) -> tuple[Manifest, Row]:
    """The manifest and `summary` of a policy's run on the scenario's slots, which the re-timer times where it can."""
    chosen, slots = scenario.policy(name), scenario.slots
    if not (compiled() and scenario.config.link == "fifo"):
        result = scenario.run(name).result
        return result.manifest, summary(result)
    decisions = scenario.decide(chosen, slots)
    run, spread = draws.timed(scenario, chosen, decisions)
    warm = decisions.since(scenario.warm_up())
    warnings = scenario.warnings(chosen, warm.counted, slots, run.prefetching_ns, run.run_ns)
    manifest = scenario.manifest(chosen, run.cost, run.sums.predict_ns, decisions.slots, slots, warnings)
    manifest = dataclasses.replace(manifest, spread=spread)
    counts = counts_of(scenario.routed.workload, warm)
    return manifest, row_of(manifest, counts, run.sums, timed_by="re-timer")


def _simulated(jobs: Sequence[Job], decisions: DecisionTable) -> Rows:
    """Time jobs one after the other, by the engine."""
    for job in jobs:
        scenario = job.scenario
        result = scenario.run_decided(job.chosen, decisions, scenario.slots).result
        outcome = Outcome(summary(result), scenario.charge(job.chosen), result.manifest.warnings, "engine")
        yield job.number, good_row(job, decisions.since(scenario.warm_up()), scenario.bounds(scenario.slots), outcome)
