"""The truth, spoilt to an assumed precision: what would prefetching gain if a predictor were so good?"""

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.speculate.predictor import Guess, PredictionTable, Predictor, Routed, no_guess, targets
from specmoe.traces.workload import Workload, demands


class NoisyOracle(Predictor):
    """Predicts as many experts as an event demands, each right with `assumed_precision`: for what-ifs only.

    Each candidate is true or not independently of the others; an untrue one is drawn evenly from the experts that the
    event doesn't demand (and left out where it demands all). What is said of an event is the same at every depth, and
    with one seed a higher precision only turns wrong candidates into right ones. A token's own guesses are those of
    its experts' places in the event; encoding, they don't reach across a step's end.
    """

    source = "what-if"

    peeks = True

    def __init__(self, depth: int = 1, assumed_precision: float = 0.5, seed: int = 0) -> None:
        super().__init__(depth)
        if not 0 <= assumed_precision <= 1:
            raise InputError(f"assumed_precision {assumed_precision}: 0 to 1 expected")
        self.assumed_precision, self.seed = assumed_precision, seed

    def predict(self, routed: Routed) -> PredictionTable:
        """What is said of each of the next events."""
        workload = routed.workload
        said = self._table(workload)
        event = np.add.outer(np.arange(workload.num_events), np.arange(1, self.depth + 1))
        experts = said[np.minimum(event, workload.num_events)]
        return PredictionTable(experts, self._sure(experts), peeks=True)

    def guess(self, routed: Routed) -> Guess:
        """What is said of the token's own experts at the target layer."""
        workload, meta = routed.workload, routed.workload.meta
        used = routed.block.experts[workload.rows, :, : meta.top_k]
        own = self._said_of(used, workload)
        target, wraps = targets(meta.num_layers, self.depth)
        made = no_guess(len(workload.rows), meta.num_layers, self.depth, meta.top_k)
        later = _later_rows(routed, int(wraps.max()))  # [W + 1, n]
        row = later[wraps].transpose(2, 0, 1)  # [n, L, D]
        made.experts[:] = _closed_up(np.where(row[..., None] >= 0, own[row, target], np.int16(-1)))
        return made._replace(confidence=self._sure(made.experts))

    def _sure(self, experts: NDArray[np.int16]) -> NDArray[np.float32]:
        return np.where(experts >= 0, np.float32(self.assumed_precision), np.float32(0))

    def _proposed(self, workload: Workload) -> NDArray[np.int16]:
        """What is proposed in place of each demanded expert, [U]; -1: nothing."""
        rng = np.random.default_rng(self.seed)
        true = rng.random(len(workload.experts)) < self.assumed_precision
        return np.where(true, workload.experts, _wrong(workload, rng)).astype(np.int16)

    def _table(self, workload: Workload) -> NDArray[np.int16]:
        """What is said of each event, [events + 1, most]; of the one behind the last nothing."""
        rank = np.arange(len(workload.experts)) - workload.offsets[workload.events]
        said = np.full((workload.num_events + 1, int(rank.max(initial=0)) + 1), -1, np.int16)
        said[workload.events, rank] = self._proposed(workload)
        return _closed_up(said)

    def _said_of(self, used: NDArray[np.int16], workload: Workload) -> NDArray[np.int16]:
        """What is proposed in place of the experts used, [n, L, k]; -1 where a token was dropped."""
        count = workload.meta.num_experts
        event = workload.step_of_row[:, None] * workload.meta.num_layers + np.arange(workload.meta.num_layers)
        place = np.searchsorted(workload.events * count + workload.experts, event[..., None] * count + used)
        proposed = np.append(self._proposed(workload), np.int16(-1))
        return np.where(used >= 0, proposed[place], np.int16(-1))


def _wrong(workload: Workload, rng: np.random.Generator) -> NDArray[np.int64]:
    """An undemanded expert for each demanded one, [U]: evenly drawn, distinct in an event; -1 where none is left."""
    layers, count = workload.meta.num_layers, workload.meta.num_experts
    rank = np.arange(len(workload.experts)) - workload.offsets[workload.events]
    found, first = np.full(len(rank), -1), 0
    for block in demands(workload):
        flat = block.reshape(-1, count)
        order = np.argsort(rng.random(flat.shape) + flat, axis=-1)  # those demanded come last
        here = slice(workload.offsets[first], workload.offsets[first + len(flat)])
        event = workload.events[here] - first
        there = rank[here] < count - flat.sum(axis=-1)[event]
        found[here] = np.where(there, order[event, rank[here]], -1)
        first += len(block) * layers
    return found


def _later_rows(routed: Routed, most: int) -> NDArray[np.int64]:
    """Place in the workload of the token 0 to `most` after each row's in its sequence, [most + 1, n]; -1: none."""
    workload, n = routed.workload, len(routed.workload.rows)
    follows = np.full(len(routed.block.sequence) + 1, -1)  # the last entry is that of -1
    if workload.meta.phase == "decode":
        same = np.flatnonzero(routed.block.sequence[1:] == routed.block.sequence[:-1])
        follows[same] = same + 1
    place = np.full(len(follows), -1)
    place[workload.rows] = np.arange(n)
    row, later = workload.rows, [np.arange(n)]
    for _ in range(most):
        row = follows[row]
        later.append(place[row])
    return np.stack(later)


def _closed_up(experts: NDArray[np.int16]) -> NDArray[np.int16]:
    """The same order with every -1 at the end."""
    order = np.argsort(experts < 0, axis=-1, kind="stable")
    return np.take_along_axis(experts, order, axis=-1)
