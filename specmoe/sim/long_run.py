"""Runs of any length in memory that their length does not change: decided, timed and summed up part by part.

What goes on from part to part is the compiled director with its slots, what a predictor has learnt, and the clocks of
the re-timer, so the figures are those of the whole run (`sim.run`). Only percentiles of steps come from a histogram:
each is within 1 in 2,048 of the exact one. Policies that know the future get it from an index on disk, made by a pass
from the end of the run to its begin; the oracle also reads the demand behind a part, as far as its prefetches look.
Bounds are left out: each is a run of its own, of gpu-only or the oracle.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property, lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import specmoe.traces
from specmoe.errors import InputError, MissingExtraError
from specmoe.sim import routing
from specmoe.sim.config import RunConfig
from specmoe.sim.decide import compiled
from specmoe.sim.decide.director import Director
from specmoe.sim.decide.eviction import NEVER, Context, FromPredictions, FromTheFuture, Proposals
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policy import POLICIES, Policy
from specmoe.sim.decide.table import Counted, DecisionTable, First
from specmoe.sim.run import Scenario, each_run
from specmoe.sim.speculate import store
from specmoe.sim.speculate.online import Online
from specmoe.sim.speculate.predictor import Predictor, Routed, no_predictions
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.sim.tally import Paid, StepsFile, Tally
from specmoe.sim.timing import durations, retimer
from specmoe.sim.timing.retimer import Actions, actions_of
from specmoe.sim.timing.variants import Variants, sample_of
from specmoe.summary import Row, cliff_slots, row_of
from specmoe.traces.parts import Part, Parts
from specmoe.traces.workload import Ints, WarmUp, Workload, no_steps, warm_up_from


class LongRouting(routing.Routing):
    """Routing of a trace that is read part by part, in parts of `at_once` steps.

    Its workload is a sample: one step with the fewest tokens, and one with the most.
    """

    def __init__(self, config: RunConfig, at_once: int | None = None, piece: tuple[int, int] = (0, 1)) -> None:
        key, steps = config.routing, config.steps if config.pieces else None
        others = {"source": key.source, "verify": key.verify, "prefill": key.prefill, "steps": steps}
        for name, given in others.items():
            if given:
                raise InputError(f"--{name}: not simulated with --summary-only: a run without it expected")
        self.trace, self.prefill = specmoe.traces.open(key.trace), None
        self._layers = self.trace.meta.num_layers if key.truncated else routing.layers_of(self.trace, key.shape)
        staggered = key.staggered and key.batch > 1 and self.trace.meta.phase == "decode"
        self._batching, self._directory = routing.Batching(key.batch, key.steps, staggered), None
        self._asked = key.batch, key.steps, staggered, self._layers
        self._at_once, self._piece = at_once, piece
        self._learn_from(key.trace, key.train, (), key.train_source)
        self._survey()

    def parts(self, columns: tuple[str, ...] = ()) -> Parts:
        """The steps that run; `columns` of the trace are read besides routing."""
        return Parts(self.trace, *self._asked, columns, self._at_once, self._piece)

    def _survey(self) -> None:
        """Read the trace once for what must be known before a run."""
        parts, sizes, sources = self.parts(), set[int](), set[int]()
        first, self._context, served = np.full(0, NEVER), 1, 1
        for part in parts:
            made, events = part.workload, compiled.first_events(part.workload)
            first = np.full(len(events), NEVER) if not len(first) else first
            first = np.minimum(first, np.where(events < NEVER, part.first + events // made.meta.num_layers, NEVER))
            sizes |= set(np.unique(made.step_tokens).tolist())
            sources |= set(np.unique(part.block.source).tolist())
            served = max(served, int(made.tokens.max(initial=1)))
            self._context = max(self._context, *durations.contexts(made, part.block.position, 1))
        self._first, self._sources = np.sort(first[first < NEVER]), np.array(sorted(sources))
        self.num_steps, self._longest = parts.num_steps, parts.longest
        few, most = min(sizes), max(sizes)
        rows, edges = np.arange(few + most), np.array([0, few, few + most])
        none, offsets = np.zeros(0, np.int32), np.zeros(2 * made.meta.num_layers + 1, np.int64)
        tokens = np.full(1, served, np.int32)
        self.routed = Routed(Workload(made.meta, rows, edges, offsets, none, tokens, made.batch), part.block)

    @cached_property
    def longest(self) -> int:
        """Number of tokens of the longest sequence."""
        return self._longest

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """Names of the text domains whose tokens run, by alphabet."""
        return self.trace.meta.domains(self._sources)

    def contexts(self, cross: int) -> list[int]:
        """The most positions that the tokens of a step attend to, at least `cross`; of both steps."""
        return [self._context if self.trace.meta.phase == "encode" else max(self._context, cross)] * 2

    def warm_up(self, slots: int, steps: int | None) -> WarmUp:
        """The first steps that figures leave out."""
        routing.require_steps(steps, self.num_steps)
        return warm_up_from(self._first, self.num_steps, slots, steps)


def long_scenario(config: RunConfig, at_once: int | None = None, piece: tuple[int, int] = (0, 1)) -> Scenario:
    """The scenario of a long run, decided in parts of `at_once` steps; raises InputError for what has no parts.

    `piece` (2, 5) restricts it to the third of five pieces of the trace's sequences.
    """
    if config.link != "fifo" or config.home.compressed_slots:
        other = config.home.compressed_slots and f"compressed-slots {config.home.compressed_slots}"
        raise InputError(f"--{other or f'link {config.link}'}: not simulated with --summary-only: the default expected")
    if find_spec("numba") is None:
        raise MissingExtraError("numba", "fast")
    scenario = Scenario(config, routing=LongRouting(config, at_once, piece))
    if scenario.sizes:
        raise InputError(f"{scenario.shape.name}: experts of several sizes: not simulated in parts")
    return scenario


def streams(policy: Policy) -> bool:
    """Whether a policy can be decided part by part."""
    known = EVICTIONS.get(policy.eviction) in compiled.CODES and not policy.approximate
    return known and (policy.prefetch is None or _is_asked_in_parts(policy.predictor))


def _is_asked_in_parts(name: str) -> bool:
    """Whether a predictor looks no further back than a step, or learns as it goes, and goes on from part to part."""
    predictor = make_predictor(name)
    return name == "oracle" or predictor.of_the_step or isinstance(predictor, Online)


def long_runs(
    config: RunConfig,
    names: Sequence[str],
    lenient: bool = False,
    on_policy: Callable[[str], object] | None = None,
    out: Path | None = None,
) -> Iterator[tuple[str, Row | None, str]]:
    """Yield each policy's name and row, or None and the reason why it cannot run; see `run.each_run`."""
    yield from each_run(long_scenario(config), partial(run_long, out=out), names, lenient, on_policy)


def run_long(scenario: Scenario, name: str, out: Path | None = None) -> Row:
    """The row of a policy; with a directory `out`, a row for each step is written there as it goes.

    Raises InputError for a policy that cannot be decided in parts.
    """
    return row_of_run(scenario, name, tally_of(scenario, name, out))


def tally_of(scenario: Scenario, name: str, out: Path | None = None) -> Tally:
    """Counts and sums of a policy's run; see `run_long`."""
    chosen = scenario.policy(name)
    if not streams(chosen):
        others = ", ".join(name for name, policy in POLICIES.items() if streams(policy))
        raise InputError(f"policy {name}: not simulated with --summary-only: one of {others} expected")
    with ExitStack() as exits:
        index = exits.enter_context(TemporaryDirectory(prefix="specmoe-"))
        steps = None if out is None else exits.enter_context(StepsFile(out, name))
        run = _LongRun(scenario, chosen, Path(index))
        for rows in run.parts():
            if steps is not None:
                steps.write(rows)
        return run.tally


def row_of_run(scenario: Scenario, name: str, tally: Tally, notes: tuple[str, ...] = ()) -> Row:
    """The row of a policy's run from its counts and sums; `notes` are further warnings."""
    chosen, layers, workload = scenario.policy(name), scenario.num_layers, scenario.routed.workload
    slots = scenario.num_keys if chosen.sharing == "all-resident" else scenario.slots
    cost = durations.charge(chosen, workload, scenario.costs, scenario.predict_ns, scenario.config.padded)
    counts, sums = tally.figures()
    scenario.set_bounds(scenario.slots, {})
    cliff = cliff_slots(counts.demands, counts.steps, layers)
    judged = Counted(slots, counts.steps, counts.demands, cliff, counts.prefetch_loads, counts.prefetch_useful)
    warnings = scenario.warnings(chosen, judged, scenario.slots, tally.prefetching_ns, sums.latencies.total)
    manifest = scenario.manifest(chosen, cost, sums.predict_ns, slots, scenario.slots, (*warnings, *notes))
    return row_of(manifest, counts, sums, timed_by="re-timer")


class _LongRun:
    """A policy's run; it goes on from part to part."""

    def __init__(self, scenario: Scenario, chosen: Policy, directory: Path) -> None:
        assert isinstance(scenario.routing, LongRouting)
        self._scenario, self._chosen, self._routing = scenario, chosen, scenario.routing
        self._layers, self._directory = scenario.num_layers, directory
        self._differ = len(set(scenario.bytes_by_layer)) > 1
        columns = ("probs", "lookahead", "token") if chosen.prefetch and chosen.predictor != "oracle" else ()
        self._parts = self._routing.parts(columns)
        self._part = lru_cache(2)(self._parts.part)
        start = self._start()
        self._peeks = start.evictions[0].peeks
        self._twin = compiled.Twin(start, _index(self._parts, directory) if self._peeks else None)
        self._proposals, self._slots = start.proposals, start.slots
        self._costs = scenario.costs_of(chosen)
        self._clocks = retimer.Clocks(self._slots, 1)
        self.tally = Tally(scenario.warm_up(), scenario.num_keys, np.array(scenario.bytes_by_layer))
        self._copies = durations.copies_ns(self._costs, scenario.config.home, self._layers)

    def _start(self) -> compiled.Start:
        meta, slots = self._routing.routed.workload.meta, self._scenario.slots
        empty = no_steps(meta)
        context = Context(slots, empty, lambda: self._routing.popularity)
        start = Director(empty, no_predictions(0), self._chosen, slots, context).start()
        if start is None or not compiled.knows(start):
            raise InputError(f"policy {self._chosen.name}: at least a slot for each pool expected")
        return start

    def parts(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Decide and time every part; yield the columns of its steps."""
        for number in range(len(self._parts)):
            part = self._part(number)
            uses, loads = self._twin.decided(part.workload, *self._foreseen(number, part))
            shape = part.workload.num_steps, self._layers, part.workload.meta.num_experts, self._slots
            after_launch = self._chosen.prefetch is not None and self._chosen.prefetch.after_launch
            all_resident = self._chosen.sharing == "all-resident"
            table = DecisionTable(uses, loads, *shape, after_launch, all_resident, part=True)
            yield self.tally.add(part, table, *self._timed(part, table))

    def _foreseen(self, number: int, part: Part) -> tuple[Proposals, Ints | None, NDArray[np.int32] | None]:
        """What the policy proposes, the next uses of a part's demand, and the keys that are demanded behind it."""
        following = None
        if self._peeks:
            following = np.load(_indexed(self._directory, number)).astype(np.int64)
            following[following < 0] = NEVER
        if isinstance(self._proposals, FromTheFuture):
            return self._proposals, following, self._behind(number, self._proposals.window)
        if self._chosen.prefetch is None:
            return self._proposals, following, None
        predicted = self._predictor.predict(Routed(part.workload, part.block))
        goes_on = number + 1 < len(self._parts)
        made = FromPredictions(self._chosen.prefetch, predicted, part.workload, goes_on)
        return made, following, None

    @cached_property
    def _predictor(self) -> Predictor:
        made = make_predictor(self._chosen.predictor, store.parameters_of(self._chosen))
        fitted = self._routing.predictions.fitted(made)
        return fitted.continued(self._routing.routed.workload.meta) if isinstance(fitted, Online) else fitted

    def _behind(self, number: int, window: int) -> NDArray[np.int32]:
        """Keys behind a part, until as many distinct ones are there as the oracle looks ahead."""
        found = np.zeros(0, np.int32)
        for later in range(number + 1, len(self._parts)):
            found = np.concatenate([found, self._part(later).workload.keys])
            if len(np.unique(found)) >= window:
                break
        return found

    def _timed(self, part: Part, table: DecisionTable) -> tuple[retimer.Retimed, Paid, First]:
        """Time a part: a step of no uses before it issues the loads that earlier parts left unused."""
        scenario, layers, made = self._scenario, self._layers, part.workload
        home, pads = scenario.config.home, scenario.config.padded
        contexts = durations.contexts(made, part.block.position, scenario.least_context)
        sample = sample_of(
            _with_step(made), _behind_step(table), home, contexts[:1] + contexts, self._costs.style.launch, self._differ
        )
        cost = durations.charge(self._chosen, sample.workload, scenario.costs, scenario.predict_ns, pads)
        paid = durations.durations_of(sample.workload, sample.table, self._costs, home, sample.context, pads)
        variants = sample.variants([durations.charged(paid, cost)])
        actions = actions_of(_behind_step(table), bool(variants.predict.values.any()), variants.launching)
        first = table.first(min(max(0, scenario.warm_up() - part.first), made.num_steps))
        retimed = retimer.timed(*_without_step(actions, variants, layers), first, self._clocks)
        predicted = np.array(cost.ns, np.int64)[sample.codes["predict"][layers + first.event :]] if cost.ns else ()
        return retimed, Paid(self._copies, int(np.sum(predicted))), first


def _indexed(directory: Path, number: int) -> Path:
    return directory / f"{number}.npy"


def _index(parts: Parts, directory: Path) -> Ints:
    """Write the next use of every use, part by part from the last one on; the event of each key's first use."""
    later = np.full(0, NEVER)
    for number in reversed(range(len(parts))):
        part = parts.part(number)
        made, before = part.workload, part.first * part.workload.meta.num_layers
        following, first = compiled.next_uses(made), compiled.first_events(made)
        later = later if len(later) else np.full(len(first), NEVER)
        known = np.where(following < NEVER, following + before, later[made.keys])
        np.save(_indexed(directory, number), np.where(known < NEVER, known, -1).astype(np.int32))
        later = np.where(first < NEVER, first + before, later)
    return later


def _with_step(made: Workload) -> Workload:
    """Steps behind one as large as the first of them."""
    offsets = np.append(0, made.row_offsets + made.row_offsets[1])
    return dataclasses.replace(made, row_offsets=offsets)


def _behind_step(table: DecisionTable) -> DecisionTable:
    """Decisions behind a step without uses, in whose last event the loads of earlier parts are issued."""
    uses, loads, layers = table.uses, table.loads, table.num_layers
    return table._replace(
        uses=uses._replace(event=uses.event + layers),
        loads=loads._replace(event=loads.event + layers),
        num_steps=table.num_steps + 1,
    )


def _without_step(actions: Actions, variants: Variants, layers: int) -> tuple[Actions, Variants]:
    """The actions and durations behind the first step."""
    begin = int(actions.ends[layers - 1])
    columns = {name: getattr(actions, name)[begin:] for name in ("kind", "row", "slot", "predicted", "progress")}
    columns |= {name: getattr(actions, name)[layers:] for name in ("event_progress", "on_cpu")}
    rows: dict[str, int] = {"before": layers, "predict": layers, "after": 1, "to_host": 1, "to_device": 1}
    cut: dict[str, Any] = {name: getattr(variants, name) for name in rows}
    cut = {name: column._replace(codes=column.codes[rows[name] :]) for name, column in cut.items()}
    return actions._replace(ends=actions.ends[layers:] - begin, **columns), variants._replace(**cut)
