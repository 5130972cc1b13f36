"""Predictors without training: none, all, pre-gated, gate look-ahead, last step, and the heuristics of specMoE.

They read one event or the event before it; `by_rank` and `within_step` turn router candidates into guesses.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.speculate.online import Memory, Online, Step
from specmoe.sim.speculate.predictor import (
    WIDTH,
    Guess,
    OfTheStep,
    OnEvents,
    PredictionTable,
    Predictor,
    Routed,
    best_of,
    no_guess,
)
from specmoe.traces.schema import TraceMeta


class Nobody(Predictor):
    """Predicts nothing."""

    source = "none"
    of_the_step = True

    def guess(self, routed: Routed) -> Guess:
        """Nothing, at depth 1 whatever was asked."""
        return no_guess(len(routed.workload.rows), routed.workload.meta.num_layers, 1, 0)


class Oracle(Nobody):
    """Says nothing: the oracle's prefetches come from the demand itself (see `specmoe.sim.decide.director`)."""

    peeks = True
    of_the_step = False


class Everybody(Predictor):
    """Predicts every expert of the next layer, in the order of their numbers."""

    source = "SE-MoE (Shen et al. 2022)"
    of_the_step = True

    def guess(self, routed: Routed) -> Guess:
        """The same for every row."""
        meta = routed.workload.meta
        everybody = self._of_a_step(meta.num_layers, meta.num_experts)
        shape = (len(routed.workload.rows), *everybody.shape)
        return Guess(np.broadcast_to(everybody, shape), np.broadcast_to((everybody >= 0).astype(np.float32), shape))

    def predict(self, routed: Routed) -> PredictionTable:
        """No need to pool what is all alike."""
        workload = routed.workload
        step = self._of_a_step(workload.meta.num_layers, workload.meta.num_experts)
        experts = np.tile(step, (workload.num_steps, 1, 1))
        return PredictionTable(experts, (experts >= 0).astype(np.float32))

    def _of_a_step(self, layers: int, experts: int) -> np.ndarray:
        found = np.broadcast_to(np.arange(experts, dtype=np.int16), (layers, 1, experts)).copy()
        found[-1] = -1
        return found


class PreGated(Predictor):
    """Knows the next layer's experts, as a model does that was trained to choose them one layer early.

    True of models trained that way; for any other it is a what-if. Nothing for the first layer, whose gate has no layer
    before it, and nothing further ahead than one layer.
    """

    source = "Pre-gated MoE (Hwang et al., ISCA 2024)"

    peeks = True

    def guess(self, routed: Routed) -> Guess:
        """The next layer's routing."""
        meta, rows = routed.workload.meta, routed.workload.rows
        guess = no_guess(len(rows), meta.num_layers, 1, meta.top_k)
        guess.experts[:, :-1, 0] = routed.block.experts[rows, 1:, : meta.top_k]
        guess.confidence[:] = guess.experts >= 0
        return guess


class LookAhead(Predictor):
    """Predicts what the next layer's router chooses for this layer's input, as the trace recorded it.

    The confidence of the candidate of rank r is how often the train split used it, in that layer and at that depth;
    without a train split, or deeper than that was recorded, 1 / (r + 1).
    """

    source = "gate look-ahead, Eliseev & Mazur 2023"
    of_the_step = True

    def __init__(self, depth: int = 1) -> None:
        super().__init__(depth)
        self._rates: NDArray[np.float32] | None = None  # [L, D, M]

    def fit(self, train: Routed) -> None:
        """How often the candidate of each rank is used."""
        if train.workload.meta.has_lookahead:
            self._rates = used_by_rank(train)

    def guess(self, routed: Routed) -> Guess:
        """Raises InputError for a trace whose look-ahead was not recorded so deep."""
        meta = routed.workload.meta
        recorded = meta.lookahead_depth if meta.has_lookahead else 0
        if recorded < self.depth:
            wanted = "1 layer" if self.depth == 1 else f"{self.depth} layers"
            raise InputError(
                f"lookahead: {wanted} ahead asked, and this trace has {recorded} recorded: "
                f"`specmoe collect --lookahead-depth {self.depth}` records it; imported traces have none"
            )
        experts = routed.block.lookahead[routed.workload.rows, :, : self.depth]
        confidence = by_rank(experts).copy()
        if self._rates is not None:
            known = self._rates[:, : self.depth, : experts.shape[3]]
            confidence[:, :, : known.shape[1], : known.shape[2]] = known
        return within_step(Guess(experts, confidence))


def used_by_rank(train: Routed) -> NDArray[np.float32]:
    """Share of tokens that use the look-ahead's candidate of each rank, [L, D, M]; 0 across the end of a step."""
    ahead, used = train.block.lookahead, train.block.experts[:, :, : train.workload.meta.top_k]
    rates = np.zeros(ahead.shape[1:], np.float32)
    for depth in range(1, ahead.shape[2] + 1):
        found = ahead[:, :-depth, depth - 1, :, None] == used[:, depth:, None, :]
        rates[:-depth, depth - 1] = found.any(axis=-1).mean(axis=0)
    return rates


def by_rank(candidates: NDArray[Any]) -> NDArray[np.float32]:
    """1, 1/2, 1/3, ... along the last axis."""
    ranks: NDArray[np.float32] = (1 / (1 + np.arange(candidates.shape[-1]))).astype(np.float32)
    return np.broadcast_to(ranks, candidates.shape)


def within_step(guess: Guess) -> Guess:
    """The same without guesses about the next step, candidates closed up: none behind a -1."""
    layers, depth = guess.experts.shape[1:3]
    reached = np.add.outer(np.arange(layers), np.arange(1, depth + 1)) < layers
    there = (guess.experts >= 0) & reached[..., None]
    order = np.argsort(np.where(there, -guess.confidence, 1), axis=-1, kind="stable")
    experts = np.where(there, guess.experts, -1).astype(np.int16)
    confidence = np.where(there, guess.confidence, 0).astype(np.float32)
    return Guess(np.take_along_axis(experts, order, axis=-1), np.take_along_axis(confidence, order, axis=-1))


class Repeats(Memory):
    """How often the expert of each rank was used again by the next token, [L, k]."""

    def __init__(self, layers: int, experts: int, depth: int) -> None:
        super().__init__(layers, experts, depth)
        self.hits = np.zeros((layers, 1))
        self.tries = np.zeros((layers, 1))

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """The precision so far, (hits + 1) / (tries + 2), at the experts used last where the layer's last is known.

        Layers up to this one have routed this token; of the others the token before is the last.
        """
        routed = self.target <= np.arange(self.layers)[:, None]
        last = np.where(routed[..., None], step.experts[:, self.target], step.before[:, self.target])
        sure = ((self.hits + 1) / (self.tries + 2))[self.target]
        scores = np.zeros((*last.shape[:3], self.experts + 1))
        np.put_along_axis(scores, last.astype(np.int64), np.broadcast_to(sure, last.shape), axis=-1)
        return scores[..., :-1]  # what was nobody (-1) is in the last place

    def learn(self, step: Step) -> None:
        """Which experts of the token before came again."""
        there = step.before >= 0
        again = there & (step.before[..., None] == step.experts[:, :, None]).any(axis=-1)
        self.hits = self.hits + again.sum(axis=0)
        self.tries = self.tries + there.sum(axis=0)


class PreviousStep(Online):
    """Predicts the experts that the sequence's last token used; nothing for `encode`, where no token came before."""

    source = "temporal locality, Eliseev & Mazur 2023"

    def memory(self, layers: int, experts: int) -> Memory:
        """No tries yet."""
        return Repeats(layers, experts, self.depth)

    def guess(self, routed: Routed) -> Guess:
        """The loop, where there are tokens before."""
        meta = routed.workload.meta
        if meta.phase == "encode":
            return no_guess(len(routed.workload.rows), meta.num_layers, self.depth, 0)
        return super().guess(routed)

    def asked(self, meta: TraceMeta) -> OnEvents | None:
        """Of the step alone where no token came before."""
        return OfTheStep(self, meta) if meta.phase == "encode" else super().asked(meta)


WEIGHTS = (0.4, 0.3, 0.2, 0.1)  # of layers L, L-1, L-2, L-3 for layer L+1, as in the original
ROWS_AT_ONCE = 2048


class LayerMinus1(Predictor):
    """Predicts the experts that this layer's router ranks highest, by expert number.

    Expert numbers of different layers have nothing to do with each other, so this is a baseline, not advice.
    """

    source = "specMoE"
    of_the_step = True

    def guess(self, routed: Routed) -> Guess:
        """The same for every depth within the step; nothing across its end."""
        rows = routed.workload.rows
        experts, probs = routed.block.experts[rows], routed.block.probs[rows].astype(np.float32)
        confidence = np.where(np.isnan(probs), by_rank(probs), probs)
        repeated = (np.repeat(values[:, :, None], self.depth, axis=2) for values in (experts, confidence))
        return within_step(Guess(*repeated))


class MultiLayer(Predictor):
    """Predicts by a weighted mean of the router probabilities of several layers, by expert number.

    The original averages a batch's tokens first, and scales all weights alike by a class of input that it takes from
    hidden states, which changes nothing; here each token votes for itself. Numbers of different layers have nothing to
    do with each other, so this is a baseline, not advice.
    """

    source = "specMoE"
    of_the_step = True

    def guess(self, routed: Routed) -> Guess:
        """The same for every depth within the step; nothing across its end."""
        meta, rows = routed.workload.meta, routed.workload.rows
        made = no_guess(len(rows), meta.num_layers, self.depth, min(WIDTH, meta.num_experts))
        for first in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[first : first + ROWS_AT_ONCE]
            found = best_of(votes(routed.block.experts[part], routed.block.probs[part], meta.num_experts))
            made.experts[first : first + len(part)] = found.experts[:, :, None]
            made.confidence[first : first + len(part)] = found.confidence[:, :, None]
        return within_step(made)


def votes(candidates: NDArray[np.int16], probs: NDArray[np.float16], experts: int) -> NDArray[np.float32]:
    """What the candidates and probabilities [n, L, M] of the layers up to each one say of every expert, [n, L, E].

    Where there are no probabilities the ranks (1, 1/2, 1/3, ...) vote.
    """
    known = np.where(np.isnan(probs), by_rank(probs), probs.astype(np.float32))
    own = np.zeros((*candidates.shape[:2], experts + 1), np.float32)
    np.put_along_axis(own, candidates.astype(np.int64), known, axis=-1)
    own = own[..., :-1]  # what was nobody (-1) is in the last place
    total, weights = np.zeros_like(own), np.zeros((own.shape[1], 1), np.float32)
    for back, weight in enumerate(WEIGHTS[: own.shape[1]]):
        total[:, back:] += np.float32(weight) * own[:, : own.shape[1] - back]
        weights[back:] += np.float32(weight)
    return np.divide(total, weights, dtype=np.float32)
