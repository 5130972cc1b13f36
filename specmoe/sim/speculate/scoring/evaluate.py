"""Scores of predictors on a held-out trace, and the cost of predicting: time on CPU and GPU, bytes, and prefetches."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import specmoe.traces
from specmoe.errors import InputError, SpecmoeError
from specmoe.files import parsing, read_json
from specmoe.sim.decide.policy import POLICIES, Prefetch
from specmoe.sim.speculate.predictor import Guess, PredictionTable, Predictor, Routed, pool
from specmoe.sim.speculate.predictors import PREDICTORS, is_extrapolated, keywords, make_predictor, running_time
from specmoe.sim.speculate.scoring import ceilings as bounds
from specmoe.sim.speculate.scoring.accuracy import Tally, accuracy, calibration, interval, tally
from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.store import Trace, learnt_domains, open_train, train_beside
from specmoe.traces.validation import read_valid
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


DEPTH = 3  # default number of layers ahead, if the model has them


class Examination:
    """A trace, its train split and what is known of both, prepared once; predictors are scored on it one by one.

    `source` are the text domains that are scored (default: all), `train_source` those that are learnt from (default:
    the same; `("all",)`: every one). Guesses are at most `depth` layers ahead (default: 3, or fewer if the model has
    fewer); batch 1. Raises InputError for a depth that the model does not have, and for a train split of another model.
    """

    def __init__(
        self,
        trace: str,
        train: str | None = None,
        depth: int | None = None,
        seed: int = 0,
        source: Sequence[str] = (),
        train_source: Sequence[str] = (),
    ) -> None:
        self.name, self.train_name = trace, train or train_beside(trace)
        opened = specmoe.traces.open(trace, source)
        self.meta = opened.meta
        self.depth, self.seed = min(DEPTH, self.meta.num_layers) if depth is None else depth, seed
        if not 1 <= self.depth <= self.meta.num_layers:
            raise InputError(f"depth {depth}: 1 to {self.meta.num_layers} layers expected")
        self.test = _routed(opened)
        learnt = learnt_domains(source, train_source)
        self._train = None if self.train_name is None else open_train(self.train_name, self.meta, learnt)
        self.train = None if self._train is None else _routed(self._train)
        self._timed = sample(self.test)

    @cached_property
    def ceilings(self) -> dict[str, dict[str, Any]]:
        """See `scoring.ceilings`; empty without a train split."""
        return {} if self.train is None else bounds.ceilings(self.test, self.train)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What every answer says of where it comes from."""
        meta = self.meta
        same = ("learnt from the very trace that is scored",) if self.train_name == self.name else ()
        means = {name: {k: v for k, v in row.items() if k != "per_layer"} for name, row in self.ceilings.items()}
        return {
            "trace": self.name,
            "train": self.train_name,
            "domains": list(meta.domains(self.test.block.source)),
            "train_domains": [] if self._train is None else list(self._train.meta.domains(self._train.source)),
            "trace_kind": meta.kind,
            "phase": meta.phase,
            "layers": meta.num_layers,
            "experts": meta.num_experts,
            "top_k": meta.top_k,
            "batch": 1,
            "sequences": len(np.unique(self.test.block.sequence)),
            "tokens": len(self.test.block.sequence),
            "chance": bounds.chance(meta.num_experts),
            "ceilings": means,
            "warnings": [*meta.warnings, *same],
        }

    def score(self, asked: Asked) -> dict[str, Any]:
        """One predictor, as deep as it can; raises InputError if it cannot run on this trace.

        `milliseconds_cpu` is measured here and now, and the only field in which two runs differ.
        """
        if asked.name == "oracle":
            raise InputError("predictor oracle: it acts on the demand itself and guesses nothing that could be scored")
        predictor, guess = self._guess(asked)
        return {
            "predictor": asked.name,
            "label": asked.label,
            **_accuracies(tally(guess, self.test), self.seed),
            **self._prefetching(asked.name, predictor, guess),
            **_calibration(guess, self.test),
            "state_bytes": predictor.state_bytes,
            "milliseconds_cpu": milliseconds_cpu(predictor, self._timed),
            "milliseconds_gpu": milliseconds_gpu(asked, self.test),
            "peeks": predictor.peeks,
            "parameters": asked.parameters,
            "depth": guess.experts.shape[2],
            **self.facts,
        }

    def score_or_say(self, asked: Asked) -> dict[str, Any]:
        """The same, or an object whose `error` says in a line why not."""
        try:
            return self.score(asked)
        except SpecmoeError as error:
            names = {"predictor": asked.name, "label": asked.label}
            return {**names, "error": str(error), "parameters": asked.parameters, **self.facts}

    def _guess(self, asked: Asked) -> tuple[Predictor, Guess]:
        """The deepest guess: one that looks only so far ahead, or was recorded so, is asked for less."""
        for depth in range(self.depth, 0, -1):
            try:
                predictor = make_predictor(asked.name, {"depth": depth, **asked.parameters})
                if self.train is not None:
                    predictor.fit(self.train)
                return predictor, predictor.guess(self.test)
            except InputError:
                if depth == 1:
                    raise
        raise AssertionError  # a depth is at least 1

    def _prefetching(self, name: str, predictor: Predictor, guess: Guess) -> dict[str, Any]:
        rule, size = rule_of(name, self.meta.num_experts), expert_bytes(self.meta)
        table = table_of(predictor, guess, self.test)
        prefetches = prefetching(table, self.test.workload, rule.limit, rule.threshold)
        return {
            "limit": rule.limit,
            "threshold": rule.threshold,
            "precision_at_limit": prefetches.precision,
            "recall_at_limit": prefetches.recall,
            "prefetch_experts_per_event": prefetches.per_event,
            "prefetch_bytes_per_event": None if size is None else prefetches.per_event * size,
        }


def evaluate(
    trace: str,
    train: str | None = None,
    names: Sequence[str] = (),
    depth: int | None = None,
    parameters: dict[str, Any] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Score predictors, by default all; one object each, best top-1 first.

    A predictor that cannot run on this trace becomes an object with an `error`; if it was named, InputError is raised.
    """
    return run(Examination(trace, train, depth, seed), asked_for(names, parameters), bool(names))


def run(
    exam: Examination, asked: Sequence[Asked], strict: bool, scored: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Score one after the other, calling `scored` after each; `strict` raises InputError where one cannot run."""
    rows = []
    for one in asked:
        rows.append(exam.score(one) if strict else exam.score_or_say(one))
        scored()
    return sorted(rows, key=lambda row: (row.get("top1") is None, -(row.get("top1") or 0), row["predictor"]))


def _routed(trace: Trace) -> Routed:
    block = read_valid(trace)
    return Routed(build(block, trace.meta), block)


def _accuracies(counted: Tally, seed: int) -> dict[str, Any]:
    """The headline (one layer ahead, within the step), and by layer, by depth and across the end of a step."""
    wrapped = counted.wrapped
    layers, depths = wrapped.shape
    at = [np.arange(depths) == depth for depth in range(depths)]
    within = ~wrapped & at[0]
    cells = [at[0] & (np.arange(layers) == layer)[:, None] for layer in range(layers)]
    return {
        **accuracy(counted, within),
        "top1_interval": _interval(counted, within, seed),
        "per_layer": [_unless_empty(accuracy(counted, cell)) for cell in cells],
        "per_depth": {str(depth + 1): accuracy(counted, ~wrapped & at[depth]) for depth in range(depths)},
        "wrapped": accuracy(counted, wrapped & at[0]),
        "wrapped_per_depth": {str(depth + 1): accuracy(counted, wrapped & at[depth]) for depth in range(depths)},
    }


def _unless_empty(scores: dict[str, Any]) -> dict[str, Any] | None:
    return scores if scores["targets"] else None


def _interval(counted: Tally, where: Any, seed: int) -> list[float] | None:
    hits, targets = counted.hits[:, where, 0].sum(axis=1), counted.targets[:, where].sum(axis=1)
    return interval(hits, targets, np.random.default_rng(seed))


def _calibration(guess: Guess, routed: Routed) -> dict[str, Any]:
    fit = calibration(guess, routed)
    return {"ece": fit and fit.ece, "reliability": fit and fit.reliability}
