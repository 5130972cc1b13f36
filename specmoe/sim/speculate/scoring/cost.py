"""Cost of predictions (time on CPU and GPU, bytes) and of prefetching by them, and which predictors are scored."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from specmoe.errors import InputError
from specmoe.files import parsing, read_json
from specmoe.sim.decide.policy import POLICIES, Prefetch
from specmoe.sim.speculate.predictor import Guess, PredictionTable, Predictor, Routed, pool
from specmoe.sim.speculate.predictors import PREDICTORS, keywords
from specmoe.sim.speculate.running_time import is_extrapolated, running_time
from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.workload import Workload, build

YARDSTICKS = ("none", "oracle", "all")  # they foretell nothing, so nobody scores them unless asked to
CARD = "predictor.json"  # of a checkpoint; its `config` tells the `architecture`
TIMED_ROWS = {"decode": 600, "encode": 2000}
TIMINGS = 3
MATRICES = 2  # of an expert: in and out
WIDTH = 2  # bytes of a weight in fp16


class Asked(NamedTuple):
    """A predictor and its keywords but for the depth."""

    name: str
    parameters: dict[str, Any]

    @property
    def label(self) -> str:
        """The name, and of a checkpoint that was named its directory."""
        checkpoint = self.parameters.get("checkpoint")
        return f"{self.name} {Path(checkpoint).name}" if checkpoint else self.name


def asked_for(
    names: Sequence[str] = (), parameters: dict[str, Any] | None = None, checkpoints: Sequence[Path] = ()
) -> list[Asked]:
    """The predictors named and those of the checkpoints, or all but the yardsticks, each with what it knows of the
    parameters.

    Raises InputError for an unknown name, for a parameter that none of them knows, and for what is no checkpoint.
    """
    chosen = [Asked(name, {}) for name in dict.fromkeys(names)] + [_of_checkpoint(path) for path in checkpoints]
    chosen = chosen or [Asked(name, {}) for name in PREDICTORS if name not in YARDSTICKS]
    given = parameters or {}
    _require_known(given, {one.name for one in chosen})
    return [Asked(name, _known(name, given) | own) for name, own in chosen]


def _known(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {keyword: value for keyword, value in given.items() if keyword in keywords(name)}


def _require_known(given: dict[str, Any], names: set[str]) -> None:
    known = {keyword for name in names for keyword in keywords(name)} - {"depth"}
    for keyword in given:
        if keyword not in known:
            said = ", ".join(sorted(known)) or "none, for these have no keywords,"
            raise InputError(f"predictor.{keyword}: one of {said} expected")


def _of_checkpoint(path: Path) -> Asked:
    with parsing(path, f"a directory with a trained predictor: {CARD} is wrong"):
        architecture = str(read_json(path / CARD, "the card of a trained predictor")["config"]["architecture"])
    for name in (architecture, f"learned-{architecture}"):
        if name in PREDICTORS and "checkpoint" in keywords(name):
            return Asked(name, {"checkpoint": str(path)})
    raise InputError(f"{path}: architecture {architecture!r}, of which there is no predictor")


class Prefetching(NamedTuple):
    """Experts that an event would fetch for the next one, without regard to what is cached already."""

    precision: float | None  # share of the fetched that the next event demands; None if nothing is fetched
    recall: float | None  # share of the demand that was fetched; None if nothing is demanded
    per_event: float  # fetched, on average


def rule_of(name: str, experts: int) -> Prefetch:
    """How the first policy with this predictor prefetches, its limit at most all experts; without one, 1 an event."""
    rules = (row.prefetch for row in POLICIES.values() if row.predictor == name)
    rule = next((rule for rule in rules if rule is not None), Prefetch())
    return Prefetch(min(rule.limit, experts), rule.threshold, rule.depth, rule.backlog)


def table_of(predictor: Predictor, guess: Guess, routed: Routed) -> PredictionTable:
    """What `predict` would say, one layer ahead, without guessing again if it only pools."""
    if type(predictor).predict is not Predictor.predict:
        return predictor.predict(routed)
    return PredictionTable(*pool(routed.workload, guess.experts[:, :, :1], guess.confidence[:, :, :1]))


def prefetching(table: PredictionTable, workload: Workload, limit: int, threshold: float = 0.0) -> Prefetching:
    """Each event's first `limit` candidates of at least `threshold` confidence against the demand of the next event.

    The next event of the last layer is the next step's first: all demand counts but the very first event's.
    """
    experts = table.experts[:-1, 0, :limit]
    fetched = (experts >= 0) & (table.confidence[:-1, 0, :limit] >= threshold)
    event = np.arange(1, workload.num_events)[:, None]
    count = workload.meta.num_experts
    useful = np.isin((event * count + experts)[fetched], workload.events * count + workload.experts).sum()
    demanded = len(workload.experts) - int(workload.offsets[1])
    return Prefetching(
        precision=float(useful / fetched.sum()) if fetched.any() else None,
        recall=float(useful / demanded) if demanded else None,
        per_event=float(fetched.sum() / max(1, workload.num_events)),
    )


def sample(routed: Routed) -> Routed:
    """The first few hundred rows, one sequence at a time, as a trace of their own."""
    meta = routed.workload.meta
    block = Block._make(column[: TIMED_ROWS[meta.phase]] for column in routed.block)
    return Routed(build(block, meta), block)


def milliseconds_cpu(predictor: Predictor, timed: Routed) -> float:
    """Of one (step, layer), the median of `TIMINGS` passes over a sample; learning from the train split not counted."""
    return 1e3 * median(predictor.event_seconds(timed) for _ in range(TIMINGS))


def milliseconds_gpu(asked: Asked, routed: Routed) -> float | None:
    """Of one (step, layer) on a GPU, as its checkpoint or `running_time.toml` has it; None: not measured, for one
    because more tokens run at once than when it was."""
    found = running_time(asked.name, {**asked.parameters, "device": "cuda"})
    tokens = round(float(routed.workload.step_tokens.mean()))
    return None if found is None or is_extrapolated(asked.parameters, tokens) else found.ns(tokens) / 1e6


def expert_bytes(meta: TraceMeta) -> int | None:
    """One expert in fp16; None where the trace does not tell the model's dimensions."""
    if meta.d_model is None or meta.d_ff is None:
        return None
    return MATRICES * meta.d_model * meta.d_ff * WIDTH
