"""What `specmoe generate` does: texts with experts offloaded, beside the resident model's if that is asked for."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import replacing
from specmoe.hwprofiles.measure.machine import host_facts, machine_facts
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.provenance import library_versions
from specmoe.sim.decide.policy import policy as policy_named
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.event_table import spans
from specmoe.sim.foretold import Foretold
from specmoe.timeline import Span, write_spans
from specmoe.traces.collect_model import Checkpoint, load_checkpoint, pick_device
from specmoe.validate.live import Generated, Offloaded, depth_of
from specmoe.validate.rehearsal import LEAST_TOKENS, WARM_UP, Cell, Rehearsal, Rehearsed, parts_of, step_ns
from specmoe.validate.slots import enough_vram
from specmoe.validate.writing import Ask, Written, write


class Job(NamedTuple):
    """What to generate: a text by each policy with each number of slots, `rounds` times in turn.

    `compare` also generates with every expert resident and foretells the steps; `machine` is the profile that has the
    link (None: it is timed). `timed` keeps when each thing happened, for `write_timeline`. With `random_init` weights
    are drawn.
    """

    model: str
    ask: Ask
    policies: Sequence[str]
    slots: Sequence[int]
    device: str = "cpu"
    compare: bool = False
    timed: bool = False
    rounds: int = 1
    machine: HardwareProfile | None = None
    random_init: bool = False


class Row(NamedTuple):
    """Figures of one generated text, of a repeated one the medians of its times; what does not apply is empty.

    Steps are decode steps after the warm-up.
    """

    policy: str
    slots: int | None
    text: str
    tokens: int
    seconds: float
    tokens_per_second: float
    uses: int | None = None
    hits: int | None = None
    demand_loads: int | None = None
    prefetches: int | None = None
    stall_ms: float | None = None  # for which computing waited for loads, in all
    peak_bytes: int = 0  # of the device's memory, by its allocator; 0 on a CPU
    step_ms: float | None = None
    step_ms_of: tuple[float, ...] = ()  # [rounds]
    foretold_ms: float | None = None
    error: float | None = None  # of the foretold step, a share of the measured one; the median of the rounds'
    error_of: tuple[float, ...] = ()  # [rounds]
    parts_ms: dict[str, tuple[float, float]] | None = None  # of a step, measured and foretold; waits are in `code`
    host_ms: float | None = None  # of a foretold step, the host's own, with every expert resident and nothing to decide
    as_foretold: bool | None = None  # whether decisions are those that were foretold
    same_text: bool | None = None


class Comparison(NamedTuple):
    """What `specmoe generate` prints: the first policy's text, a row a cell; no verdict without a comparison."""

    made: Generated
    rows: list[Row]
    costs: Sequence[dict[str, Any]] = ()  # of each rehearsal
    verdict: str = ""
    differs: bool = False


class _Run(NamedTuple):
    """A cell's texts, and what foretold them; one of each a round."""

    cell: Cell
    texts: list[Generated]
    foretold: list[tuple[Rehearsed, int]]  # a rehearsal, and the cell's place in it

    @property
    def depth(self) -> int:
        return depth_of(self.cell.policy)


class _Session:
    """Texts of all cells, round by round, and the resident model's."""

    def __init__(self, job: Job) -> None:
        target = pick_device(job.device)
        self.job, self.ask = job, job.ask._replace(on_text=None)
        self.runs = [_Run(Cell(policy_named(name), slots), [], []) for name in job.policies for slots in job.slots]
        self.checkpoint = _loaded(job, target)
        self.resident = _resident(self.checkpoint, job.ask, target) if job.compare else None
        self.checkpoint.model.to("cpu")
        self.model = Offloaded(self.checkpoint, str(target), "fp16" if target.type == "cuda" else "fp32")
        self.costs: list[dict[str, Any]] = []  # of each rehearsal

    def texts(self) -> Iterator[Generated]:
        """Write all texts, in another order in each round, two by two with the rehearsal of both between them."""
        foretells, first = self.resident is not None and len(self.resident.ids) >= LEAST_TOKENS, self.runs[0].cell
        rehearsal = Rehearsal(self.model, self.ask, self.job.machine)
        if self.resident:  # a process's first texts take longer, and neither foretell nor count
            self.model.generate(self.ask._replace(tokens=min(self.ask.tokens, LEAST_TOKENS)), *first)
        for number in range(self.job.rounds):
            for pair in _pairs(self.runs, number):
                for place, run in enumerate(pair):
                    streamed = self.resident is None and number == 0 and run is self.runs[0]
                    run.texts.append(self.model.generate(self.job.ask if streamed else self.ask, *run.cell))
                    if foretells and place == 0 and not run.texts[-1].interrupted:
                        self._rehearse(rehearsal, number, pair)
                    yield run.texts[-1]

    def _rehearse(self, rehearsal: Rehearsal, number: int, pair: Sequence[_Run]) -> None:
        """Foretell two cells whose policies need the same look-ahead."""
        seen = rehearsal.of([run.cell for run in pair], pair[0].depth)
        for place, run in enumerate(pair):
            run.foretold.append((seen, place))
        names = [f"{run.cell.policy.name} {run.cell.slots}" for run in pair]
        decide = dict(zip(names, seen.decide_ns, strict=True))
        self.costs.append({"round": number, "depth": pair[0].depth, **seen.costs._asdict(), "decide": decide})

    def compared(self) -> Comparison:
        """What there is so far."""
        written = [run for run in self.runs if run.texts]
        rows, resident = [_row(run, self.resident) for run in written], self.resident
        made = written[0].texts[0]
        if resident is None:
            return Comparison(made, rows)
        text = self.checkpoint.tokenizer.decode(resident.ids, skip_special_tokens=True)
        row = Row("all resident", None, text, *_speed(resident.ids, resident.seconds), peak_bytes=resident.peak_bytes)
        whole = [(run.cell.policy.name, one.ids) for run in written for one in run.texts if not one.interrupted]
        others = [(name, ids) for name, ids in whole if ids != resident.ids]
        name, ids = others[0] if others else ("", resident.ids)
        verdict = f"{name}: {verdict_of(ids, resident.ids)}" if others else verdict_of(ids, ids)
        return Comparison(made, [*rows, row], self.costs, verdict, differs=bool(others))


def generated(job: Job, on_cell: Callable[[Comparison], object] | None = None) -> Comparison:
    """Load a model into host memory and generate with its experts offloaded; to compare, also with all resident.

    `on_cell` is called with what there is after each text. Raises InputError for no token, no slot, no policy, and a
    policy that cannot be asked while a model runs.
    """
    numbers = {"--max-new-tokens": job.ask.tokens, "--policy": len(job.policies), "--rounds": job.rounds}
    for what, number in (numbers | {"--slots": min(job.slots, default=0)}).items():
        if number < 1:
            raise InputError(f"{what}: at least one expected")
    session = _Session(job)
    for text in session.texts():
        if on_cell:
            on_cell(session.compared())
        if text.interrupted:
            break
    result = session.compared()
    if job.timed and not result.made.interrupted:
        result = result._replace(made=session.model.generate(session.ask, *session.runs[0].cell, traced=True))
    return result


def _pairs(runs: Sequence[_Run], number: int) -> Iterator[Sequence[_Run]]:
    """Two by two, runs of the same look-ahead, beginning with another one in each round."""
    for depth in sorted({run.depth for run in runs}):
        alike = [run for run in runs if run.depth == depth]
        first = number % len(alike)
        turned = alike[first:] + alike[:first]
        yield from (turned[place : place + 2] for place in range(0, len(turned), 2))


def _resident(checkpoint: Checkpoint, ask: Ask, target: torch.device) -> Written:
    """The text of the model as it is."""
    with enough_vram():
        checkpoint.model.to(target)
        return write(checkpoint, ask)


def recorder(path: Path, job: Job) -> Callable[[Comparison], None]:
    """What writes all figures so far with the costs that foretold them, and what they were made with, as JSON."""
    target = pick_device(job.device)
    facts = machine_facts(target) if target.type == "cuda" else host_facts()
    manifest = {"machine": facts, "versions": library_versions("torch", "transformers")}

    def write(result: Comparison) -> None:
        options = {
            "model": job.model,
            "weights": "random" if job.random_init else "the checkpoint's",
            "tokens": job.ask.tokens,
            "rounds": job.rounds,
            "link": job.machine.name if job.machine else "timed",
            "warm_up_steps": WARM_UP,
            "expert_bytes": result.made.slots.size,
            "layers": {phase: run.meta.num_layers for phase, run in result.made.runs.items()},
        }
        rows = [row._asdict() for row in result.rows]
        record = {"manifest": manifest | {"options": options}, "verdict": result.verdict, "rows": rows}
        with replacing(path) as fresh:
            fresh.write_text(json.dumps(record | {"costs_ns": result.costs}, indent=1) + "\n")

    return write


def write_timeline(made: Generated, path: Path) -> None:
    """Write when loads, experts and decisions happened, a process a phase, as a Chrome trace."""
    processes: dict[str, list[Span]] = {}
    for phase, run in made.runs.items():
        table = made.tables[phase]
        processes[phase] = spans(table, run.happened(table), table.num_steps * table.num_layers)
    write_spans(path, processes)


def verdict_of(offloaded: list[int], resident: list[int]) -> str:
    """Whether two texts are the same, token for token, and else where they part."""
    if offloaded == resident:
        return f"The texts are the same: {len(resident)} tokens."
    pairs = enumerate(zip(offloaded, resident, strict=False))
    shortest = min(len(offloaded), len(resident))
    place = next((place for place, (one, other) in pairs if one != other), shortest)
    return f"The texts differ from token {place + 1} on."


def _loaded(job: Job, target: torch.device) -> Checkpoint:
    """The checkpoint in host memory, whose experts are computed one by one, as transformers' plain code does."""
    dtype = "float16" if target.type == "cuda" else "float32"
    where = str(target) if job.random_init else "cpu"  # large models are drawn by a GPU only in time
    checkpoint = load_checkpoint(
        job.model, device=where, dtype=dtype, capacity=None, random_init=job.random_init, seed=0, draw_on=where
    )
    checkpoint.model.config._experts_implementation = "eager"
    return checkpoint


def _row(run: _Run, resident: Written | None) -> Row:
    made, policy = run.texts[0], run.cell.policy.name
    tables = made.tables.values()
    row = Row(
        policy,
        run.cell.slots,
        made.text,
        *_speed(made.ids, median(one.seconds for one in run.texts)),
        uses=sum(len(table.uses.key) for table in tables),
        hits=sum(table.hits for table in tables),
        demand_loads=sum(table.demand_loads for table in tables),
        prefetches=sum(table.prefetch_loads for table in tables),
        stall_ms=median(one.slots.link.stalled_ns() for one in run.texts) / 1e6,
        peak_bytes=max(one.peak_bytes for one in run.texts),
        same_text=None if resident is None else all(one.ids == resident.ids for one in run.texts),
    )
    if not run.foretold or "decode" not in made.runs:
        return row
    steps = [step_ns(one) / 1e6 for one in run.texts]
    seen = [(rehearsed, rehearsed.foretold[place], rehearsed.tables[place]) for rehearsed, place in run.foretold]
    foretold = [one.step_ns / 1e6 for _, one, _ in seen]
    errors = tuple(early / late - 1 for early, late in zip(foretold, steps, strict=False))
    return row._replace(
        step_ms=median(steps),
        step_ms_of=tuple(steps),
        foretold_ms=median(foretold),
        error=median(errors),
        error_of=errors,
        parts_ms=_parts([one for _, one, _ in seen], run.texts),
        host_ms=mean(sum(rehearsed.costs.lead) + rehearsed.costs.head for rehearsed, _, _ in seen) / 1e6,
        as_foretold=all(_equal(one.tables["decode"], table) for one in run.texts for _, _, table in seen),
    )


def _parts(foretold: Sequence[Foretold], texts: Sequence[Generated]) -> dict[str, tuple[float, float]]:
    """Parts of a step, ms, medians of the rounds, measured and foretold."""
    spent = [parts_of(one) for one in texts]
    shown = {
        "code": ([one.lead.sum(1) + one.head for one in spent], [one.code_ns for one in foretold]),
        "decide": ([one.decided.sum(1) for one in spent], [one.decide_ns for one in foretold]),
        "issue": ([one.issued.sum(1) for one in spent], [one.issue_ns for one in foretold]),
        "launch": ([one.launched.sum(1) for one in spent], [one.launch_ns for one in foretold]),
    }
    return {
        name: (median(float(one.mean()) for one in measured) / 1e6, median(early) / 1e6)
        for name, (measured, early) in shown.items()
    }


def _equal(one: DecisionTable, other: DecisionTable) -> bool:
    mine: list[NDArray[Any]] = [*one.uses, *one.loads]
    yours: list[NDArray[Any]] = [*other.uses, *other.loads]
    return all(map(np.array_equal, mine, yours))


def _speed(ids: list[int], seconds: float) -> tuple[int, float, float]:
    return len(ids), seconds, len(ids) / seconds
