"""Batches of windows of text: corrupted spans for a Switch Transformer, the next token for a decoder.

Span corruption is the training objective of T5 (Raffel et al. 2020, section 3.1.4). 15 % of the tokens are noise, in
spans of 3 on average. The encoder reads one sentinel in place of each span; the decoder must produce each sentinel
followed by the tokens it hides. Both sequences end with `eos`. Kept and noise runs alternate, starting with a kept run;
their lengths are drawn uniformly among all ways to cut the counts into runs (as in T5's `random_spans_noise_mask`).
Every epoch corrupts the windows anew.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.traces.text import Document, Encode, windows

NOISE_DENSITY = 0.15
MEAN_SPAN = 3.0

Ids = NDArray[np.int32]


def span_counts(length: int) -> tuple[int, int]:
    """Numbers of noise tokens and of spans in a window of `length` >= 2 tokens."""
    noise = min(max(round(length * NOISE_DENSITY), 1), length - 1)
    spans = min(max(round(noise / MEAN_SPAN), 1), length - noise)
    return noise, spans


def raw_length(inputs: int) -> int:
    """Largest number of raw tokens that become at most `inputs` >= 3 encoder tokens, `eos` included."""

    def encoder_length(raw: int) -> int:
        noise, spans = span_counts(raw)
        return raw - noise + spans + 1

    raw = inputs - 1  # few enough in any case: there are at least as many noise tokens as spans
    while encoder_length(raw + 1) <= inputs:
        raw += 1
    return raw


def corrupt(ids: Ids, sentinels: Ids, eos: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Corrupt windows `ids` [..., n], n >= 2; returns encoder ids [..., i] and target ids [..., t].

    `sentinels` holds the ids of <extra_id_0>, <extra_id_1>, ... Raises InputError for shorter windows and for more
    spans than sentinels.
    """
    length = ids.shape[-1]
    if length < 2:
        raise InputError(f"a window of {length} token(s) cannot be corrupted: at least 2 expected")
    if (spans := span_counts(length)[1]) > len(sentinels):
        raise InputError(f"a window of {length} tokens has {spans} spans, but there are {len(sentinels)} sentinels")
    rows = ids.reshape(-1, length)
    noise = noise_mask(len(rows), length, rng)
    shape = (*ids.shape[:-1], -1)
    return (
        _replace_runs(rows, noise, sentinels, eos).reshape(shape),
        _replace_runs(rows, ~noise, sentinels, eos).reshape(shape),
    )


def noise_mask(rows: int, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mask of the noise tokens, [rows, length]; every row has the same number of noise tokens and spans."""
    noise, spans = span_counts(length)
    runs = np.stack([_cut(rows, length - noise, spans, rng), _cut(rows, noise, spans, rng)], axis=-1)
    ends = runs.reshape(rows, -1).cumsum(axis=-1)
    run_of = (np.arange(length)[None, :, None] >= ends[:, None, :]).sum(axis=-1)
    mask: NDArray[np.bool_] = run_of % 2 == 1
    return mask


def _cut(rows: int, total: int, parts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cut `total` into `parts` positive lengths, uniformly among all ways to do so; [rows, parts]."""
    cuts = np.argsort(rng.random((rows, total - 1)), axis=-1)[:, : parts - 1]
    edges = np.pad(np.sort(cuts, axis=-1) + 1, ((0, 0), (1, 1)), constant_values=((0, 0), (0, total)))
    return np.diff(edges, axis=-1)


def _replace_runs(rows: Ids, mask: NDArray[np.bool_], sentinels: Ids, eos: int) -> Ids:
    """Replace each run of `mask` by the next sentinel and append `eos`; [rows, n] to [rows, m]."""
    starts = mask & ~np.pad(mask[:, :-1], ((0, 0), (1, 0)))
    replaced = np.where(starts, sentinels[np.maximum(starts.cumsum(axis=-1) - 1, 0)], rows)
    kept = replaced[starts | ~mask].reshape(len(rows), -1)
    return np.pad(kept, ((0, 0), (0, 1)), constant_values=eos).astype(np.int32)


class Batch(NamedTuple):
    """Ids that a model reads [batch, i] and its targets [batch, t]; all windows are full, so there is no padding.

    For a Switch Transformer they are those of its encoder and its decoder.
    """

    inputs: Ids
    targets: Ids

    @property
    def tokens(self) -> int:
        """Number of tokens read and to be produced."""
        return self.inputs.size + self.targets.size


class Windows:
    """Full windows of a split [windows, n], in batches of `_examples`; a batch is a pure function of (seed, step)."""

    def __init__(self, full: Sequence[Ids], seed: int) -> None:
        self.windows: Ids = np.stack(full)
        self._seed = seed

    def digest(self) -> str:
        """Hash of the windows: 12 hexadecimal digits."""
        return hashlib.sha256(self.windows.tobytes()).hexdigest()[:12]

    def batch(self, step: int, size: int) -> Batch:
        """Batch of a step; each epoch is a permutation of all windows."""
        epoch, place = divmod(np.arange(step * size, (step + 1) * size), len(self.windows))
        rows = [self._order(int(e))[place[epoch == e]] for e in np.unique(epoch)]
        return self._examples(self.windows[np.concatenate(rows)], step)

    def all_batches(self, size: int, limit: int) -> list[Batch]:
        """Batches of the first `limit` windows, always the same, for measuring."""
        rows = self.windows[:limit]
        return [self._examples(rows[i : i + size], i) for i in range(0, len(rows), size)]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self.windows))

    def _examples(self, rows: Ids, salt: int) -> Batch:
        """Batch of some windows; `salt` sets its random numbers."""
        raise NotImplementedError


class Corpus(Windows):
    """Windows of documents, corrupted anew in each batch."""

    def __init__(
        self, documents: Sequence[Document], encode: Encode, encoder_length: int, sentinels: Ids, eos: int, seed: int
    ) -> None:
        length = raw_length(encoder_length)
        full = [
            window.ids for window in windows(documents, encode, length, shortest=length) if len(window.ids) == length
        ]
        if not full:
            raise InputError(f"none of {len(documents)} documents has {length} tokens: longer documents expected")
        super().__init__(full, seed)
        self._sentinels, self._eos = sentinels, eos

    def _examples(self, rows: Ids, salt: int) -> Batch:
        return Batch(*corrupt(rows, self._sentinels, self._eos, np.random.default_rng([self._seed, 1, salt])))


class CausalCorpus(Windows):
    """Windows of `length` tokens and the one after, cut from the documents of each domain, joined by `eos`.

    Domains alternate, so the first windows cover all of them; a domain's last, shorter window is dropped.
    """

    def __init__(self, documents: Sequence[Document], encode: Encode, length: int, eos: int, seed: int) -> None:
        streams = [
            np.concatenate([np.append(np.array(ids, np.int32), np.int32(eos)) for ids in encode(list(texts))])
            for texts in _texts_by_domain(documents)
        ]
        cut = [stream[: len(stream) // (length + 1) * (length + 1)].reshape(-1, length + 1) for stream in streams]
        full = [rows[turn] for turn in range(max(map(len, cut))) for rows in cut if turn < len(rows)]
        if not full:
            raise InputError(f"none of {len(streams)} domains has {length + 1} tokens: more text expected")
        super().__init__(full, seed)

    def _examples(self, rows: Ids, salt: int) -> Batch:
        return Batch(rows[:, :-1], rows[:, 1:])


def _texts_by_domain(documents: Sequence[Document]) -> list[list[str]]:
    texts: dict[str, list[str]] = {}
    for document in documents:
        texts.setdefault(document.source, []).append(document.text)
    return list(texts.values())


def unigram_loss(train: Windows, held_out: Sequence[Batch], vocabulary: int) -> float:
    """Cross-entropy in nats per target token of a unigram model fitted on the training targets (add-one smoothing)."""
    targets = np.concatenate([batch.targets.ravel() for batch in train.all_batches(256, len(train.windows))])
    counts = np.bincount(targets, minlength=vocabulary) + 1
    measured = np.concatenate([batch.targets.ravel() for batch in held_out])
    return float(-np.log(counts / counts.sum())[measured].mean())
