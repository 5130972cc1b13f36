"""Batches for pretraining: full windows of one split, corrupted afresh every time they are seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.traces.spans import corrupt, raw_length
from specmoe.traces.text import Document, Encode, windows

Ids = NDArray[np.int32]


class Batch(NamedTuple):
    """Encoder ids [batch, i] and decoder targets [batch, t]; no padding, every window is full."""

    inputs: Ids
    targets: Ids

    @property
    def tokens(self) -> int:
        """Encoder and decoder tokens."""
        return self.inputs.size + self.targets.size


class Corpus:
    """Full windows of a split and how to corrupt them; a batch is a pure function of (seed, step)."""

    def __init__(
        self, documents: Sequence[Document], encode: Encode, encoder_length: int, sentinels: Ids, eos: int, seed: int
    ) -> None:
        length = raw_length(encoder_length)
        full = [
            window.ids for window in windows(documents, encode, length, shortest=length) if len(window.ids) == length
        ]
        if not full:
            raise InputError(f"of {len(documents)} documents none has {length} tokens: longer ones expected")
        self.windows: Ids = np.stack(full)
        self._sentinels, self._eos, self._seed = sentinels, eos, seed

    def digest(self) -> str:
        """Hash of the windows, in 12 hexadecimal digits."""
        return hashlib.sha256(self.windows.tobytes()).hexdigest()[:12]

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a step: epochs are permutations of all windows."""
        epoch, place = divmod(np.arange(step * size, (step + 1) * size), len(self.windows))
        rows = [self._order(int(e))[place[epoch == e]] for e in np.unique(epoch)]
        return self._corrupt(self.windows[np.concatenate(rows)], step)

    def all_batches(self, size: int, limit: int) -> list[Batch]:
        """The first `limit` windows, always corrupted the same way: for measuring."""
        chosen = self.windows[:limit]
        return [self._corrupt(chosen[i : i + size], i) for i in range(0, len(chosen), size)]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self.windows))

    def _corrupt(self, rows: Ids, salt: int) -> Batch:
        return Batch(*corrupt(rows, self._sentinels, self._eos, np.random.default_rng([self._seed, 1, salt])))


def unigram_loss(train: Corpus, held_out: Sequence[Batch], vocabulary: int) -> float:
    """Cross-entropy, nats a target token, of always guessing by the training targets' frequencies (add-one)."""
    targets = np.concatenate([batch.targets.ravel() for batch in train.all_batches(256, len(train.windows))])
    counts = np.bincount(targets, minlength=vocabulary) + 1
    measured = np.concatenate([batch.targets.ravel() for batch in held_out])
    return float(-np.log(counts / counts.sum())[measured].mean())
