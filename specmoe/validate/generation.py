"""What `specmoe generate` does: texts with experts offloaded, beside the resident model's if that is asked for."""

import json
from collections.abc import Sequence
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
from specmoe.hwprofiles.shape import Format
from specmoe.provenance import library_versions
from specmoe.sim.decide.policy import policy as policy_named
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.event_table import spans
from specmoe.timeline import Span, write_spans
from specmoe.traces.collect_model import Checkpoint, load_checkpoint, pick_device
from specmoe.validate.live import Generated, Offloaded, depth_of
from specmoe.validate.rehearsal import LEAST_TOKENS, WARM_UP, Cell, Rehearsed, rehearse, step_ns
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
    error: float | None = None  # of the foretold step, a share of the measured one
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


def generated(job: Job) -> Comparison:
    """Load a model into host memory and generate with its experts offloaded; to compare, also with all resident.

    Raises InputError for no token, no slot, no policy, and a policy that cannot be asked while a model runs.
    """
    numbers = {"--max-new-tokens": job.ask.tokens, "--policy": len(job.policies), "--rounds": job.rounds}
    for what, number in (numbers | {"--slots": min(job.slots, default=0)}).items():
        if number < 1:
            raise InputError(f"{what}: at least one expected")
    target = pick_device(job.device)
    runs = [_Run(Cell(policy_named(name), slots), [], []) for name in job.policies for slots in job.slots]
    held: Format = "fp16" if target.type == "cuda" else "fp32"
    checkpoint = _loaded(job, target)
    resident = _resident(checkpoint, job.ask, target) if job.compare else None
    checkpoint.model.to("cpu")
    model, ask = Offloaded(checkpoint, str(target), held), job.ask._replace(on_text=None)
    costs: list[dict[str, Any]] = []
    if resident:  # a process's first texts take longer, and neither foretell nor count
        model.generate(ask._replace(tokens=min(ask.tokens, LEAST_TOKENS)), runs[0].cell.policy, runs[0].cell.slots)
    for number in range(job.rounds):
        if resident and len(resident.ids) >= LEAST_TOKENS:
            costs += [_foretell(model, ask, runs, depth, job.machine) for depth in sorted(_depths(runs))]
        for place, (cell, texts, _) in enumerate(runs):
            streamed = job.ask if resident is None and place == number == 0 else ask
            texts.append(model.generate(streamed, cell.policy, cell.slots, traced=job.timed and number == 0))
    rows = [_row(run, resident) for run in runs]
    made = runs[0].texts[0]
    if resident is None:
        return Comparison(made, rows)
    text = checkpoint.tokenizer.decode(resident.ids, skip_special_tokens=True)
    rows.append(
        Row("all resident", None, text, *_speed(resident.ids, resident.seconds), peak_bytes=resident.peak_bytes)
    )
    others = [(run.cell.policy.name, one.ids) for run in runs for one in run.texts if one.ids != resident.ids]
    name, ids = others[0] if others else ("", resident.ids)
    verdict = f"{name}: {verdict_of(ids, resident.ids)}" if others else verdict_of(ids, ids)
    return Comparison(made, rows, costs, verdict, differs=bool(others))


def _depths(runs: Sequence[_Run]) -> set[int]:
    return {depth_of(run.cell.policy) for run in runs}


def _foretell(
    model: Offloaded, ask: Ask, runs: Sequence[_Run], depth: int, machine: HardwareProfile | None
) -> dict[str, Any]:
    """Foretell the runs whose policies need a look-ahead of this depth, and give the costs."""
    alike = [run for run in runs if depth_of(run.cell.policy) == depth]
    seen = rehearse(model, ask, [run.cell for run in alike], depth, machine)
    for place, run in enumerate(alike):
        run.foretold.append((seen, place))
    named = [f"{run.cell.policy.name} {run.cell.slots}" for run in alike]
    return {"depth": depth, **seen.costs._asdict(), "decide": dict(zip(named, seen.decide_ns, strict=True))}


def _resident(checkpoint: Checkpoint, ask: Ask, target: torch.device) -> Written:
    """The text of the model as it is."""
    with enough_vram():
        checkpoint.model.to(target)
        return write(checkpoint, ask)


def write_record(path: Path, job: Job, result: Comparison) -> None:
    """Write all figures with the costs that foretold them, and what they were made with, as JSON."""
    target, made = pick_device(job.device), result.made
    facts = machine_facts(target) if target.type == "cuda" else host_facts()
    asked = {
        "model": job.model,
        "weights": "random" if job.random_init else "the checkpoint's",
        "tokens": job.ask.tokens,
        "rounds": job.rounds,
        "link": job.machine.name if job.machine else "timed",
        "warm_up_steps": WARM_UP,
        "expert_bytes": made.slots.size,
        "layers": {phase: run.meta.num_layers for phase, run in made.runs.items()},
    }
    manifest = {"machine": facts, "versions": library_versions("torch", "transformers"), "options": asked}
    rows = [row._asdict() for row in result.rows]
    record = {"manifest": manifest, "verdict": result.verdict, "rows": rows, "costs_ns": result.costs}
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(record, indent=1) + "\n")


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
    step, foretold = median(steps), median(seen.foretold[place].step_ns for seen, place in run.foretold) / 1e6
    decided = [(one.tables["decode"], seen.tables[place]) for one in run.texts for seen, place in run.foretold]
    return row._replace(
        step_ms=step,
        step_ms_of=tuple(steps),
        foretold_ms=foretold,
        error=foretold / step - 1,
        host_ms=mean(sum(seen.costs.lead) + seen.costs.head for seen, _ in run.foretold) / 1e6,
        as_foretold=all(_equal(one, other) for one, other in decided),
    )


def _equal(one: DecisionTable, other: DecisionTable) -> bool:
    mine: list[NDArray[Any]] = [*one.uses, *one.loads]
    yours: list[NDArray[Any]] = [*other.uses, *other.loads]
    return all(map(np.array_equal, mine, yours))


def _speed(ids: list[int], seconds: float) -> tuple[int, float, float]:
    return len(ids), seconds, len(ids) / seconds
