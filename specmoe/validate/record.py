"""What generated texts leave: rows of figures, a verdict, a record and a timeline."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from specmoe import files
from specmoe.files import replacing
from specmoe.hwprofiles.measure import machine
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.event_table import spans
from specmoe.sim.foretold import Foretold
from specmoe.sim.stream import depth_of
from specmoe.timeline import Span, write_spans
from specmoe.validate.live import Generated
from specmoe.validate.rehearsal import Cell, Rehearsed, parts_of, step_ns
from specmoe.validate.writing import Written


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
    notes: Sequence[str] = ()  # of the budget, and of layers that are computed in parts
    costs: Sequence[dict[str, Any]] = ()  # of each rehearsal
    verdict: str = ""
    differs: bool = False
    interrupted: bool = False


class Run(NamedTuple):
    """A cell's texts, and what foretold them; one of each a round."""

    cell: Cell
    texts: list[Generated]
    foretold: list[tuple[Rehearsed, int]]  # a rehearsal, and the cell's place in it

    @property
    def depth(self) -> int:
        """Layers of look-ahead that the cell's policy needs."""
        return depth_of(self.cell.policy)


def recorder(path: Path, device: torch.device, options: dict[str, Any]) -> Callable[[Comparison], None]:
    """What writes all figures so far with the costs that foretold them, and what they were made with, as JSON."""
    manifest = {
        "machine": machine.machine_facts(device) if device.type == "cuda" else machine.host_facts(),
        "versions": files.library_versions("torch", "transformers"),
        "commit": files.commit(),
    }

    def write(result: Comparison) -> None:
        made = {
            "expert_bytes": result.made.slots.size,
            "layers": {phase: run.meta.num_layers for phase, run in result.made.runs.items()},
        }
        rows = [row._asdict() for row in result.rows]
        record = {"manifest": manifest | {"options": options | made}, "verdict": result.verdict, "rows": rows}
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


def row_of(run: Run, resident: Written | None) -> Row:
    """Figures of a cell that has a text; an interrupted text has no time."""
    made, policy = run.texts[0], run.cell.policy.name
    texts = [one for one in run.texts if not one.interrupted]
    tables = made.tables.values()
    row = Row(
        policy,
        run.cell.slots,
        made.text,
        *speed(made.ids, median(one.seconds for one in run.texts)),
        uses=sum(len(table.uses.key) for table in tables),
        hits=sum(table.hits for table in tables),
        demand_loads=sum(table.demand_loads for table in tables),
        prefetches=sum(table.prefetch_loads for table in tables),
        stall_ms=median(one.slots.link.stalled_ns() for one in run.texts) / 1e6,
        peak_bytes=max(one.peak_bytes for one in run.texts),
        same_text=None if resident is None else all(one.ids == resident.ids for one in texts),
    )
    if not run.foretold or not texts or "decode" not in made.runs:
        return row
    steps = [step_ns(one) / 1e6 for one in texts]
    seen = [(rehearsed, rehearsed.foretold[place], rehearsed.tables[place]) for rehearsed, place in run.foretold]
    foretold = [one.step_ns / 1e6 for _, one, _ in seen]
    errors = tuple(early / late - 1 for early, late in zip(foretold, steps, strict=False))
    return row._replace(
        step_ms=median(steps),
        step_ms_of=tuple(steps),
        foretold_ms=median(foretold),
        error=median(errors),
        error_of=errors,
        parts_ms=_parts([one for _, one, _ in seen], texts),
        host_ms=mean(sum(rehearsed.costs.lead) + rehearsed.costs.head for rehearsed, _, _ in seen) / 1e6,
        as_foretold=all(_equal(one.tables["decode"], table) for one in texts for _, _, table in seen),
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


def speed(ids: list[int], seconds: float) -> tuple[int, float, float]:
    """Tokens, their time, and tokens a second."""
    return len(ids), seconds, len(ids) / seconds
