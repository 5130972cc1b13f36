"""The interface of a predictor: from known routing to guesses of later routing.

A predictor guesses experts for every token (`Guess`). Guesses of the tokens of an event are pooled into candidates of
the event (`PredictionTable`), since tokens of a batch share their experts.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.workload import Workload, one_step

Candidates = tuple[NDArray[np.int16], NDArray[np.float32]]
WIDTH = 8  # default number of candidates in a guess
EXPERT_BITS = 16  # that an expert's number takes


class Predictor(ABC):
    """Guesses `depth` layers ahead. Keywords of a constructor are a predictor's whole configuration.

    No peeking: a guess at (row, layer) may rest on the token ids and positions of that step and of earlier ones, on
    all routing of earlier steps, and on this step's up to and including that layer; `peeks` marks those that know more.
    `fit` is given the train split where there is one; `guess` does not change what was learnt.
    """

    peeks: ClassVar[bool] = False
    of_the_step: ClassVar[bool] = False  # guesses about a row rest on this row alone
    source: ClassVar[str] = ""  # the paper or program it comes from

    def __init__(self, depth: int = 1) -> None:
        if depth < 1:
            raise InputError(f"depth {depth}: at least 1 layer expected")
        self.depth = depth

    def fit(self, train: "Routed") -> None:  # noqa: B027  # learning is optional
        """Learn from the train split; many learn nothing."""

    @abstractmethod
    def guess(self, routed: "Routed") -> "Guess":
        """Guesses for every row and layer."""

    def predict(self, routed: "Routed") -> "PredictionTable":
        """The guesses of an event's tokens, pooled."""
        return PredictionTable(*pool(routed.workload, *self.guess(routed)), peeks=self.peeks)

    def asked(self, meta: TraceMeta) -> "OnEvents | None":
        """Something that can be asked event by event, with what was learnt so far; None if this predictor cannot."""
        return OfTheStep(self, meta) if self.of_the_step else None

    @property
    def state_bytes(self) -> int:
        """Memory that a runtime needs for what was learnt."""
        return 0

    def event_seconds(self, routed: "Routed") -> float:
        """Seconds that it takes for one (step, layer), measured here and now, one step after the other."""
        start = perf_counter()
        self.guess(routed)
        return (perf_counter() - start) / routed.workload.num_events


class Routed(NamedTuple):
    """A workload and the trace rows it is made of."""

    workload: Workload
    block: Block


class OnEvents(Protocol):
    """A predictor that is asked while a model runs.

    A step's `block` holds its rows; of layers that have not routed yet its experts are -1.
    """

    def at(self, layer: int, block: Block) -> "Guess":
        """Guesses [T, D, C] once a layer has routed."""

    def end_step(self, block: Block) -> None:
        """Take in a whole step."""


class OfTheStep:
    """Asks a predictor whose guesses rest on the step alone."""

    def __init__(self, predictor: Predictor, meta: TraceMeta) -> None:
        self._predictor, self._meta = predictor, meta

    def at(self, layer: int, block: Block) -> "Guess":
        """The guesses of one step, of one layer."""
        guess = self._predictor.guess(Routed(one_step(self._meta, block), block))
        return Guess(guess.experts[:, layer], guess.confidence[:, layer])

    def end_step(self, block: Block) -> None:
        """Nothing is learnt."""


class Guess(NamedTuple):
    """Candidates for every one of a workload's n rows (in the order of `Workload.rows`), at every layer.

    Place [i, l, d - 1] is known once layer l has routed row i, and is about layer l + d of the same row; where
    l + d >= L, about layer l + d - L in the next step: of the sequence's next token, or, encoding, of any token of the
    next sequences. (Deeper than L layers, steps after that.) Best first, -1 behind the last.
    """

    experts: NDArray[np.int16]  # [n, L, D, C]
    confidence: NDArray[np.float32]  # [n, L, D, C], probability that the expert is used; 0 where there is none


@dataclass(frozen=True)
class PredictionTable:
    """Predictions known at event e (after its routing, before its experts run) about the events e + 1 ... e + D.

    Depth d = 1..D is in `experts[e, d - 1]`: candidates, best first, -1 from where there are no more. The target is
    layer (l + d) mod L, in the next step where that wraps. `confidence` is the predicted probability that the target
    event demands the expert; 0 where there is no candidate.
    """

    experts: NDArray[np.int16]  # [events, D, C]
    confidence: NDArray[np.float32]  # [events, D, C]
    peeks: bool = False

    @property
    def depth(self) -> int:
        """D, in layers."""
        return int(self.experts.shape[1])

    @cached_property
    def is_empty(self) -> bool:
        """Whether nothing is predicted at all."""
        return bool((self.experts < 0).all())


def no_predictions(events: int) -> PredictionTable:
    """The table of a predictor that says nothing."""
    return PredictionTable(np.full((events, 1, 0), -1, np.int16), np.zeros((events, 1, 0), np.float32))


def pool(workload: Workload, experts: NDArray[np.int16], confidence: NDArray[np.floating[Any]]) -> Candidates:
    """Candidates [n, L, D, C] of the workload's rows to candidates [events, D, W] of its events, best first.

    An expert that tokens want independently with probabilities p is demanded with probability 1 - prod(1 - p). Ties go
    to the lower id. Candidates of -1 count for nothing. W is as wide as the most that an event could have.
    """
    most = min(workload.meta.num_experts, experts.shape[3] * int(workload.step_tokens.max()))
    depths = [_pool(workload, experts[:, :, d], confidence[:, :, d], most) for d in range(experts.shape[2])]
    best, sure = zip(*depths, strict=True)
    return np.stack(best, axis=1), np.stack(sure, axis=1)


def _pool(
    workload: Workload, experts: NDArray[np.int16], confidence: NDArray[np.floating[Any]], width: int
) -> Candidates:
    """One depth, [n, L, C] to [events, width]."""
    layers, count = workload.meta.num_layers, workload.meta.num_experts
    event = workload.step_of_row[:, None, None] * layers + np.arange(layers)[:, None]
    there = experts >= 0
    return _pooled((event * count + experts)[there], confidence[there], workload.num_events, count, width)


def pool_event(guess: "Guess", count: int) -> Candidates:
    """Candidates [T, D, C] of one event's rows among `count` experts, as `pool` gives them: [D, W]."""
    width = min(count, guess.experts.shape[2] * len(guess.experts))
    parts = []
    for depth in range(guess.experts.shape[1]):
        experts, confidence = guess.experts[:, depth], guess.confidence[:, depth]
        there = experts >= 0
        parts.append(_pooled(experts[there].astype(np.int64), confidence[there], 1, count, width))
    best, sure = zip(*parts, strict=True)
    return np.concatenate(best), np.concatenate(sure)


def _pooled(
    key: NDArray[np.int64], confidence: NDArray[np.floating[Any]], events: int, count: int, width: int
) -> Candidates:
    """Keys `event * count + expert` with the probability of each, to the best `width` of each event."""
    doubt = np.log1p(-np.minimum(confidence.astype(np.float64), 1 - 1e-9))
    distinct, place = np.unique(key, return_inverse=True)
    sure = -np.expm1(np.bincount(place, doubt, minlength=len(distinct)))
    return _widen(distinct, sure, events, count, width)


def _widen(keys: NDArray[np.int64], confidence: NDArray[np.float64], events: int, count: int, width: int) -> Candidates:
    """Sorted keys `event * count + expert` to the best `width` of each event."""
    order = np.lexsort((keys, -confidence, keys // count))
    event = keys[order] // count
    rank = np.arange(len(order)) - np.searchsorted(event, event)
    kept = rank < width
    experts = np.full((events, width), -1, np.int16)
    sure = np.zeros((events, width), np.float32)
    experts[event[kept], rank[kept]] = keys[order][kept] % count
    sure[event[kept], rank[kept]] = confidence[order][kept]
    return experts, sure


def no_guess(n: int, layers: int, depth: int, width: int = WIDTH) -> Guess:
    """Room for guesses, with none in it."""
    shape = (n, layers, depth, width)
    return Guess(np.full(shape, -1, np.int16), np.zeros(shape, np.float32))


def targets(layers: int, depth: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Layer that place [l, d - 1] is about, and how many steps later that is; both [L, D]."""
    ahead = np.add.outer(np.arange(layers), np.arange(1, depth + 1))
    return ahead % layers, ahead // layers


def best_of(scores: NDArray[np.floating[Any]], width: int = WIDTH) -> Guess:
    """The best `width` of [..., E] scores, each the probability of an expert; 0 is no candidate, ties go to the lower.

    The result's arrays are [..., min(width, E)]. Scores are compared as float32.
    """
    count = scores.shape[-1]
    sure = np.clip(scores, 0, 1).astype(np.float32)
    keys = (sure.view(np.int32).astype(np.int64) << EXPERT_BITS) + np.arange(count - 1, -1, -1)  # floats >= 0 sort so
    if width < count:
        keys = np.partition(keys, count - width, axis=-1)[..., count - width :]
    keys = np.sort(keys, axis=-1)[..., ::-1]
    best = (keys >> EXPERT_BITS).astype(np.int32).view(np.float32)
    experts = (count - 1 - (keys & (1 << EXPERT_BITS) - 1)).astype(np.int16)
    return Guess(np.where(best > 0, experts, np.int16(-1)), best)
