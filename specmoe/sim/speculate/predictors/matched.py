"""Predictors that look for what is like the current token or sequence, and go by how that was routed.

MoE-Infinity's activation matrices (Xue et al. 2024) find the past sequence that was routed most like the current one; a
collection keeps a few representative matrices of many, chosen by k-means. A token's id is ProMoE's baseline (Song et
al. 2024), and what SiDA (Du et al., MLSys'24) hashes from.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.sim.speculate.online import Memory, Online, Reset, Step, whole
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.predictors.counted import Counts, grown, interpolate

ROUNDS = 10
GRID = 1 << 20  # a multiple of 1 / GRID below 1 is exact in float32, and a product of two in float64
Matrices = NDArray[np.float32]


class ActivationMatch(Online):
    """Predicts the experts of the most similar of at most `capacity` activation matrices of earlier sequences.

    Every step is matched anew, with the running sequence's own counts. `online` collects sequences as they end. Across
    the end of an encoding step, the next sequences are taken to be like these.
    """

    source = "MoE-Infinity (Xue et al. 2024)"

    def __init__(
        self,
        depth: int = 1,
        capacity: int = 128,
        seed: int = 0,
        online: bool = True,
        warm: bool = True,
        reset: Reset = "never",
    ) -> None:
        super().__init__(depth, online, warm, reset)
        if capacity < 1:
            raise InputError(f"capacity {capacity}: at least 1 matrix expected")
        self.capacity, self.seed = capacity, seed

    def memory(self, layers: int, experts: int) -> "Collection":
        """An empty collection."""
        return Collection(layers, experts, self.depth, self.capacity)

    def fit(self, train: Routed) -> None:
        """Collect the train split's representatives."""
        if self.warm:
            meta, rows = train.workload.meta, whole(train)
            names, place = np.unique(rows.sequence, return_inverse=True)
            matrices = unit(uses_of(rows.experts, place, len(names), meta.num_experts))
            made = self.memory(meta.num_layers, meta.num_experts)
            made.past = matrices[representatives(matrices.reshape(len(names), -1), self.capacity, self.seed)]
            self._fitted = made


class Collection(Memory):
    """Matrices of past sequences, [N, L, E], each layer a unit vector, and those of the running ones so far."""

    def __init__(self, layers: int, experts: int, depth: int, capacity: int) -> None:
        super().__init__(layers, experts, depth)
        self.capacity = capacity
        self.past = np.zeros((0, layers, experts), np.float32)
        self.running: dict[int, Matrices] = {}
        self.ended: list[Matrices] = []

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """The nearest matrix's shares of the target layer. Also notes the step as part of its sequences."""
        names, place = np.unique(step.sequence, return_inverse=True)
        earlier = self._so_far(names.tolist())
        now = earlier + uses_of(step.experts, place, len(names), self.experts)
        self._note(names.tolist(), now)
        if not len(self.past):
            return np.zeros((1, self.layers, self.depth, self.experts), np.float32)
        nearest = self._nearest(earlier, now)  # [S, L]
        found = self.past[nearest[:, :, None], self.target]  # [S, L, D, E]
        shares = found / np.maximum(found.sum(axis=-1, keepdims=True), 1e-9) * step.experts.shape[2]
        return np.asarray(shares[place])

    def _nearest(self, earlier: Matrices, now: Matrices) -> NDArray[np.int64]:
        """Place of the matrix with the least mean cosine distance, for each sequence at each layer, [S, L].

        Layers up to that one have routed this step's tokens, the others only those of earlier steps.
        """
        both = self._cosines(np.concatenate([earlier, now]))
        old, new = both[:, : len(now)], both[:, len(now) :]  # [L, S, N]
        alike = old.sum(axis=0) + np.cumsum(new - old, axis=0)
        return np.asarray(alike.argmax(axis=-1).T)

    def _cosines(self, matrices: Matrices) -> NDArray[np.float64]:
        """Likeness to every past sequence, [L, S, N]."""
        return likeness(unit(matrices).transpose(1, 0, 2), self.past.transpose(1, 2, 0))

    def _so_far(self, names: list[int]) -> Matrices:
        nothing = np.zeros((self.layers, self.experts), np.float32)
        return np.stack([self.running.get(name, nothing) for name in names])

    def _note(self, names: list[int], now: Matrices) -> None:
        self.ended = [*self.ended, *(matrix for name, matrix in self.running.items() if name not in names)]
        self.running = dict(zip(names, now, strict=True))

    def learn(self, step: Step) -> None:
        """Put sequences that ended into the collection; a full one gives its nearest up for it."""
        for matrix in unit(np.stack(self.ended)) if self.ended else ():
            if len(self.past) < self.capacity:
                self.past = np.concatenate([self.past, matrix[None]])
            else:
                self.past[likeness(self.past.reshape(len(self.past), -1), matrix.reshape(-1)).argmax()] = matrix
        self.ended = []


def uses_of(experts: NDArray[np.int16], place: NDArray[np.integer], sequences: int, count: int) -> Matrices:
    """Uses of every expert by the tokens of each sequence, [S, L, E], from experts [T, L, k] and `place` [T]."""
    layers = experts.shape[1]
    key = (place[:, None, None] * layers + np.arange(layers)[:, None]) * count + experts
    uses = np.bincount(key[experts >= 0], minlength=sequences * layers * count)
    return uses.reshape(sequences, layers, count).astype(np.float32)


def unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Vectors along the last axis at length 1, to multiples of 1 / GRID; zero ones stay so.

    So their products add up to the same number on every machine, in whatever order it adds (see `likeness`).
    """
    exact = vectors.astype(np.float64)
    length = np.sqrt((exact * exact).sum(axis=-1, keepdims=True))
    return (np.rint(exact / np.where(length > 0, length, 1) * GRID) / GRID).astype(np.float32)


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Products of rows of unit vectors with columns of others, without rounding."""
    products: NDArray[np.float64] = np.matmul(one.astype(np.float64), other.astype(np.float64))
    return products


def representatives(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    """Indices, ascending, of at most `count` of the vectors [N, n]: the nearest to each centre of a spherical k-means.

    Deterministic: the seed chooses the first centres; a centre that loses all its vectors keeps its place.
    """
    if len(vectors) <= count:
        return np.arange(len(vectors))
    centres = vectors[np.random.default_rng(seed).choice(len(vectors), count, replace=False)]
    for _ in range(ROUNDS):
        owner = likeness(vectors, centres.T).argmax(axis=1)
        centres = _means(vectors, owner, centres)
    return np.unique(likeness(centres, vectors.T).argmax(axis=1))


def _means(vectors: NDArray[np.float32], owner: NDArray[Any], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Direction of the mean of each centre's vectors."""
    members = owner == np.arange(len(centres))[:, None]
    total = members.astype(np.float64) @ vectors.astype(np.float64)  # exact, as in `likeness`
    lonely = ~members.any(axis=1)
    total[lonely] = centres[lonely]
    return unit(total)


class ByToken(Memory):
    """Uses by token id: of the token itself and of the token after it, [ids, 2, L, E]; row 0 is of unseen ids."""

    def __init__(self, layers: int, experts: int, depth: int) -> None:
        super().__init__(layers, experts, depth)
        self.popular = Counts(layers, experts, depth)
        self.row_of = np.zeros(1, np.int32)
        self.uses = np.zeros((1, 2, layers, experts), np.float32)
        self.ids = 1

    def scores(self, step: Step) -> NDArray[np.floating[Any]]:
        """What the id says of this token's later layers and of the next token's (steps after that are taken for it)."""
        known = np.where(step.token < len(self.row_of), step.token, -1)
        row = np.where(known >= 0, self.row_of[known], 0)
        wider = self.popular.share.astype(np.float32)
        chances = interpolate(self.uses[row], wider, step.experts.shape[2])
        return chances[:, np.minimum(self.wraps, 1), self.target]

    def learn(self, step: Step) -> None:
        """Count."""
        self.popular.learn(step)
        self._make_rows(np.concatenate([step.token, step.token_before]))
        ids = np.stack([step.token, step.token_before], axis=1)  # [T, 2]
        row = np.where(ids >= 0, self.row_of[ids] * 2 + np.arange(2), -1)
        layer = row[:, :, None, None] * self.layers + np.arange(self.layers)[:, None]
        cells = layer * self.experts + step.experts[:, None]  # [T, 2, L, k]
        there = (row >= 0)[:, :, None, None] & (step.experts >= 0)[:, None]
        np.add.at(self.uses.reshape(-1), cells[there], np.float32(1))  # of another type: forty times as slow

    def _make_rows(self, ids: NDArray[np.int32]) -> None:
        """Rows for ids that have none."""
        ids = ids[ids >= 0]
        self.row_of = grown(self.row_of, int(ids.max(initial=0)) + 1)
        new = np.unique(ids[self.row_of[ids] == 0])
        self.row_of[new] = np.arange(self.ids, self.ids + len(new))
        self.ids += len(new)
        self.uses = grown(self.uses, self.ids)


class TokenIdentity(Online):
    """Predicts the expert that the token's id used most often; rare ids fall back to popularity."""

    source = "SiDA (Du et al. 2024)"

    def memory(self, layers: int, experts: int) -> Memory:
        """No ids yet."""
        return ByToken(layers, experts, self.depth)
