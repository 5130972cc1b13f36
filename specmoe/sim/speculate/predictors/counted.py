"""Predictors that count: popularity, transitions between layers of first and second order, specMoE's `adaptive`.

Counts of rare contexts are smoothed by those of wider contexts (Witten & Bell 1991). Opinions of the several experts
that a token uses are combined into one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.speculate.online import Memory, Online, Reset, Step
from specmoe.sim.speculate.predictor import Guess, best_of


class Counts(Memory):
    """Uses of every expert, [L, E], and tokens seen; both fade by half within `half_life` tokens."""

    def __init__(self, layers: int, experts: int, depth: int, half_life: float = float("inf")) -> None:
        super().__init__(layers, experts, depth)
        self.uses = np.zeros((layers, experts))
        self.tokens = 0.0
        self.fade = 0.5 ** (1 / half_life)

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of tokens that used each expert, [L, E]."""
        return self.uses / max(self.tokens, 1e-9)

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """The share of tokens that used it, at whatever layer comes then."""
        return self.share[self.target][np.newaxis]

    def learn(self, step: Step) -> None:
        """Count; of tokens in one step the later ones are the fresher ones."""
        count = len(step.token)
        fresh = self.fade ** np.arange(count - 1, -1, -1)
        there = step.experts >= 0
        key = np.arange(self.layers)[:, None] * self.experts + step.experts
        weight = np.broadcast_to(fresh[:, None, None], key.shape)
        self.uses *= self.fade**count
        np.add.at(self.uses.reshape(-1), key[there], weight[there])
        self.tokens = self.tokens * self.fade**count + float(fresh.sum())


class Frequency(Online):
    """Predicts the experts used most so far.

    With `reset="sequence"` and a cold start, within the sequence (HOBBIT, Tang et al. 2024); with a `half_life` in
    tokens, of late.
    """

    source = "popularity, e.g. MoE-Infinity (Xue et al. 2024)"

    def __init__(
        self,
        depth: int = 1,
        half_life: float = float("inf"),
        online: bool = True,
        warm: bool = True,
        reset: Reset = "never",
    ) -> None:
        super().__init__(depth, online, warm, reset)
        if not half_life > 0:
            raise InputError(f"half_life {half_life}: more than 0 tokens expected")
        self.half_life = half_life

    def memory(self, layers: int, experts: int) -> Memory:
        """No uses yet."""
        return Counts(layers, experts, self.depth, self.half_life)


NEVER = 1e-4  # least and, from 1, most probability of an opinion: counts are too few to rule anything out
ROUNDS = 3
Scores = NDArray[np.floating[Any]]


def interpolate(counts: NDArray[Any], wider: NDArray[Any], top_k: int) -> NDArray[Any]:
    """Probability that each expert is used, [..., E], from the uses in a context [..., E] and a wider one's estimate.

    Witten & Bell (1991): a context that has shown many different experts in few visits is likely to show a new one. A
    visit uses `top_k` experts. A context never seen says what the wider one says.
    """
    kinds = np.maximum(np.count_nonzero(counts, axis=-1, keepdims=True), 1).astype(counts.dtype)
    visits = counts.sum(axis=-1, keepdims=True) / counts.dtype.type(top_k)
    return np.asarray((counts + kinds * wider) / (visits + kinds))


def grown(rows: NDArray[Any], needed: int) -> NDArray[Any]:
    """The array with at least `needed` rows, new ones zero; its length doubles, so that growing stays cheap."""
    if needed <= len(rows):
        return rows
    larger = np.zeros((max(needed, 2 * len(rows)), *rows.shape[1:]), rows.dtype)
    larger[: len(rows)] = rows
    return larger


def combined(opinions: Sequence[Scores], popular: Scores) -> Scores:
    """Probability that each expert is used, [..., E], from k opinions of it and what is thought with none.

    Each opinion moves the log-odds from what is popular; were they independent the moves would add up (naive Bayes),
    were they all the same their mean would count. They are in between: the sum over sqrt(k). Experts nobody has seen
    stay at 0, and k experts are used in all.
    """
    k = len(opinions)
    if k == 1:
        return opinions[0]
    start, said = log_odds(popular), np.stack(opinions)
    moves = log_odds(said).sum(axis=0) - k * start
    likely = 1 / (1 + np.exp(-start - moves / np.float32(k**0.5)))
    return adding_up(np.where(said.any(axis=0), likely, np.float32(0)), k)


def log_odds(probability: Scores) -> Scores:
    """ln(p / (1 - p)), finite."""
    p = np.minimum(np.maximum(probability, NEVER), 1 - NEVER)
    return np.asarray(np.log(p / (1 - p)))


def adding_up(scores: Scores, total: int) -> Scores:
    """Scaled so that the last axis sums to the total, as far as none may be above 1."""
    for _ in range(ROUNDS):
        scores = np.minimum(1, scores * (total / np.maximum(scores.sum(axis=-1, keepdims=True), NEVER)))
    return scores


class Transitions(Memory):
    """Tokens that used expert a at layer l and b at layer l + d, [L, a, D, b]; across the end, their next tokens."""

    def __init__(self, layers: int, experts: int, depth: int) -> None:
        super().__init__(layers, experts, depth)
        self.popular = Counts(layers, experts, depth)
        self.seen = np.zeros((layers, experts, depth, experts), np.float32)

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """What follows the experts used, taken together."""
        top_k = step.experts.shape[2]
        wider = self.popular.share[self.target].astype(np.float32)
        return combined([self.following(step, rank, wider) for rank in range(top_k)], wider)

    def following(self, step: Step, rank: int, wider: NDArray[np.float32]) -> NDArray[np.float32]:
        """What follows the used expert of a rank, [T, L, D, E]; where it is new or dropped, what is popular."""
        used = step.experts[:, :, rank]
        found = self.seen[np.arange(self.layers), used]
        found[used < 0] = 0
        return interpolate(found, wider, step.experts.shape[2])

    def learn(self, step: Step) -> None:
        """Count pairs within the tokens, and from the tokens before to these."""
        self.popular.learn(step)
        row = np.arange(self.layers)[:, None] * self.experts
        add_pairs(self, self.seen, placed(step.experts, row), placed(step.before, row), step)


def placed(experts: NDArray[np.int16], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of a table of pairs, -1 where there is no expert."""
    return np.where(experts >= 0, row + experts, -1)


def add_pairs(
    memory: Memory, table: NDArray[np.float32], now: NDArray[np.int64], before: NDArray[np.int64], step: Step
) -> None:
    """Count into a table [rows..., D, E] what followed its rows `now` of these tokens and `before` of those before."""
    sources = np.where((memory.wraps == 0)[..., None], now[:, :, None], before[:, :, None])  # [T, L, D, k]
    sources[:, memory.wraps > 1] = -1
    targets = step.experts[:, memory.target].astype(np.int64)  # [T, L, D, k]
    place = sources * memory.depth + np.arange(memory.depth)[:, None]
    there = (sources >= 0)[..., None] & (targets >= 0)[..., None, :]
    cells = place[..., None] * memory.experts + targets[..., None, :]
    np.add.at(table.reshape(-1), cells[there], table.dtype.type(1))  # of another type: forty times as slow


class Transition(Online):
    """Predicts what most often followed this layer's experts; unseen ones fall back to popularity."""

    source = "first-order Markov chain"

    def memory(self, layers: int, experts: int) -> Memory:
        """No pairs yet."""
        return Transitions(layers, experts, self.depth)


class PairTransitions(Transitions):
    """What followed each pair that was ever seen, [pairs, D, E]; row 0 stands for all the others and stays empty.

    A pair is the layer before's first choice with one of this layer's experts. Before the first layer comes the last
    one of the token before.
    """

    def __init__(self, layers: int, experts: int, depth: int) -> None:
        super().__init__(layers, experts, depth)
        self.row_of = np.zeros(layers * experts * experts, np.int32)
        self.after = np.zeros((1, depth, experts), np.float32)
        self.pairs = 1

    def following(self, step: Step, rank: int, wider: NDArray[np.float32]) -> NDArray[np.float32]:
        """What follows the pair, filled in from what follows its second expert."""
        first_order = super().following(step, rank, wider)
        pair = self._pairs(step.experts[:, :, rank : rank + 1], step.experts, step.before[:, -1, 0])[:, :, 0]
        found = self.after[np.where(pair >= 0, self.row_of[pair], 0)]
        return interpolate(found, first_order, step.experts.shape[2])

    def learn(self, step: Step) -> None:
        """Count what followed pairs of these tokens, and of the tokens before."""
        super().learn(step)
        nobody = np.full(len(step.token), -1)
        now = self._pairs(step.experts, step.experts, step.before[:, -1, 0])
        before = self._pairs(step.before, step.before, nobody)
        self._make_rows(np.concatenate([now, before]))
        rows, rows_before = (np.where(pair >= 0, self.row_of[pair], -1) for pair in (now, before))
        add_pairs(self, self.after, rows, rows_before, step)

    def _pairs(
        self, used: NDArray[np.int16], experts: NDArray[np.int16], start: NDArray[np.integer]
    ) -> NDArray[np.int64]:
        """Number of the pairs that end in the experts `used`, [T, L, k]; -1 where a half is missing."""
        earlier = np.concatenate([start[:, None], experts[:, :-1, 0]], axis=1)[..., None]
        row = np.arange(self.layers)[:, None] * self.experts
        pair = (row + earlier) * self.experts + used
        return np.where((earlier >= 0) & (used >= 0), pair, -1)

    def _make_rows(self, pairs: NDArray[np.int64]) -> None:
        """Rows for pairs that have none."""
        new = np.unique(pairs[(pairs >= 0) & (self.row_of[pairs] == 0)])
        self.row_of[new] = np.arange(self.pairs, self.pairs + len(new))
        self.pairs += len(new)
        self.after = grown(self.after, self.pairs)


class Transition2(Online):
    """Predicts what most often followed the last two layers' experts; unseen pairs fall back to one layer."""

    source = "second-order Markov chain; Witten & Bell 1991 smoothing"

    def memory(self, layers: int, experts: int) -> Memory:
        """No pairs yet."""
        return PairTransitions(layers, experts, self.depth)


UNTRIED = 0.5  # precision of a guess never made, as in the original


class Watched(Transitions):
    """Transitions that remember how its best candidates fared in the last steps, [history, L, D]; NaN: no step yet."""

    def __init__(self, layers: int, experts: int, depth: int, threshold: float, history: int, top: int) -> None:
        super().__init__(layers, experts, depth)
        self.threshold, self.top = threshold, top
        self.fared = np.full((history, layers, depth), np.nan, np.float32)
        self.first_choice: NDArray[np.int16] | None = None  # [T, L, D], of the step that is not learnt yet

    @property
    def precision(self) -> NDArray[np.float32]:
        """Share of the best candidates of the last steps that were used, [L, D]."""
        tries = (~np.isnan(self.fared)).sum(axis=0)
        hits = np.nansum(self.fared, axis=0)
        return np.where(tries > 0, hits / np.maximum(tries, 1), UNTRIED).astype(np.float32)

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """Those of the candidates that it dares to name: `top`, one, or none; none across the end of a step."""
        scores = super().scores(step)
        best = best_of(scores, self.top)
        self.first_choice = best.experts[..., 0]
        return chosen(scores, best, np.where(self.wraps > 0, 0, self._daring()))

    def _daring(self) -> NDArray[np.int64]:
        """How many candidates, [L, D]."""
        precision = self.precision
        return np.where(precision >= self.threshold, self.top, np.where(precision > 0, 1, 0))

    def learn(self, step: Step) -> None:
        """How the guesses fared, then the transitions."""
        if self.first_choice is not None:
            self.fared = np.concatenate([self.fared[1:], self._judged(step, self.first_choice)])
            self.first_choice = None
        super().learn(step)

    def _judged(self, step: Step, named: NDArray[np.int16]) -> NDArray[np.float32]:
        """Share of the best candidates that were used, [1, L, D]; NaN where there was none."""
        right = (step.experts[:, self.target] == named[..., None]).any(axis=-1)
        tries, hits = (there.sum(axis=0, keepdims=True) for there in (named >= 0, right))
        return np.where(tries > 0, hits / np.maximum(tries, 1), np.nan).astype(np.float32)


def chosen(scores: NDArray[Any], best: Guess, count: NDArray[np.int64]) -> NDArray[Any]:
    """Scores [T, L, D, E] with all but the best `count` [L, D] of them put to 0."""
    kept = np.where(np.arange(best.experts.shape[-1]) < count[..., None], best.confidence, 0)
    only = np.zeros((*scores.shape[:3], scores.shape[3] + 1), np.float32)
    np.put_along_axis(only, best.experts.astype(np.int64), kept.astype(np.float32), axis=-1)
    return only[..., :-1]


class Adaptive(Online):
    """Predicts `top` experts while the best ones of the last `history` steps were right to `threshold`, else fewer.

    Below it only the best candidate, and none once all of them were wrong; guesses not named are judged too, so that it
    takes heart again. The original speculates or not, by router sharpness mixed with its accuracy, and mixes
    `multi_layer`'s votes in, whose expert numbers mean nothing across layers.
    """

    source = "specMoE"

    def __init__(
        self,
        depth: int = 1,
        threshold: float = 0.7,
        history: int = 4,
        top: int = 2,
        online: bool = True,
        warm: bool = True,
        reset: Reset = "never",
    ) -> None:
        super().__init__(depth, online, warm, reset)
        if not 0 <= threshold <= 1 or history < 1 or top < 1:
            raise InputError(
                f"threshold {threshold}, history {history}, top {top}: 0 to 1, at least 1 and at least 1 expected"
            )
        self.threshold, self.history, self.top = threshold, history, top

    def memory(self, layers: int, experts: int) -> Memory:
        """No pairs and no guesses yet."""
        return Watched(layers, experts, self.depth, self.threshold, self.history, self.top)
