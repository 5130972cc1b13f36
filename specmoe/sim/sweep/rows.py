"""The row of a cell (see `specmoe.sweep_table`): its configuration, its figures, and how good the evidence is."""

from typing import Any, Literal, NamedTuple

from specmoe.errors import SpecmoeError
from specmoe.hwprofiles.style import words_of
from specmoe.results import OF_MISSES
from specmoe.sim.claims import is_yardstick
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.run import SEMANTICS, Scenario
from specmoe.sim.timing.charge import Charge
from specmoe.spread import EMPTY
from specmoe.summary import BOUNDS, FIGURES, KEYS, ORIGIN, SCALE, SET, Counts, Row
from specmoe.traces.workload import Workload


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
