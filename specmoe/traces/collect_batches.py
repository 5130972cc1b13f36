"""Turning text into what a model reads: its input ids and, for an encoder-decoder, the target ids of its decoder."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, ModelError
from specmoe.traces.collect_model import Checkpoint
from specmoe.traces.pretrain_data import corrupt, raw_length, span_counts
from specmoe.traces.text import Document, Prompted, windows
from specmoe.traces.tokenizer import sentinel_ids

Ids = NDArray[np.int32]
SHORTEST_WINDOW = 8
EMPTY = np.empty(0, np.int32)


class TokenText(NamedTuple):
    """One sequence of tokens; `answer` is None for plain text."""

    source: str
    ids: Ids
    answer: Ids | None


class Example(NamedTuple):
    """Ids that one sequence feeds to a model; `targets` is empty for a decoder-only model."""

    source: str
    inputs: Ids
    targets: Ids


@dataclass(frozen=True)
class Encoding:
    """Conversion of text into the ids that one model reads.

    `window` is the longest input in tokens, start and end tokens included. `begin` holds the ids that start every text;
    `sentinels` is None for a decoder-only model.
    """

    encode: Callable[[list[str]], list[list[int]]]
    window: int
    seed: int
    eos: int
    begin: Ids
    sentinels: Ids | None

    def texts(self, corpus: Iterable[Document | Prompted], limit: int | None) -> list[TokenText]:
        """At most `limit` sequences, domains in turn; raises InputError if the text has no token.

        All of them stay in memory: ids take less room than their text, which is in memory anyway.
        """
        texts = list(islice(self._texts(list(corpus)), limit))
        if not texts:
            raise InputError("the text has no token")
        return texts

    def example(self, text: TokenText, sequence: int) -> Example:
        """Example number `sequence`; for an encoder-decoder, plain text is span-corrupted."""
        if self.sentinels is None:
            return Example(text.source, np.append(self.begin, text.ids), EMPTY)
        if text.answer is not None:
            return Example(text.source, *(np.append(ids, np.int32(self.eos)) for ids in (text.ids, text.answer)))
        rng = np.random.default_rng([self.seed, sequence])
        return Example(text.source, *corrupt(text.ids, self.sentinels, self.eos, rng))

    def _texts(self, corpus: list[Document | Prompted]) -> Iterator[TokenText]:
        shortest = 1 if self.sentinels is None else 2
        raw = self.window - len(self.begin) if self.sentinels is None else raw_length(self.window)
        for window in windows([text for text in corpus if isinstance(text, Document)], self.encode, raw):
            if len(window.ids) >= shortest:
                yield TokenText(window.source, window.ids, None)
        for text in corpus:
            if isinstance(text, Prompted):
                yield self._prompted(text)

    def _prompted(self, text: Prompted) -> TokenText:
        """A decoder-only model reads prompt and answer as one text."""
        if self.sentinels is None:
            (ids,) = self.encode([f"{text.prompt} {text.answer}"])
            return TokenText(text.source, np.array(ids[: self.window - len(self.begin)], np.int32), None)
        prompt, answer = (np.array(ids[: self.window - 1], np.int32) for ids in self.encode([text.prompt, text.answer]))
        return TokenText(text.source, prompt, answer)


def encoding_for(checkpoint: Checkpoint, window: int, seed: int) -> Encoding:
    """Encoding for a checkpoint; raises InputError for a window that is too short or has more spans than sentinels."""
    tokenizer = checkpoint.tokenizer
    if window < SHORTEST_WINDOW:
        raise InputError(f"--window {window}: at least {SHORTEST_WINDOW} tokens expected")
    sentinels = sentinel_ids(tokenizer) if checkpoint.is_encoder_decoder else None
    if sentinels is not None and (spans := span_counts(raw_length(window))[1]) > len(sentinels):
        raise InputError(
            f"--window {window}: {spans} spans to corrupt, but the vocabulary has {len(sentinels)} sentinels"
        )

    def encode(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    begin = EMPTY if checkpoint.is_encoder_decoder else _begin(tokenizer)
    return Encoding(encode, window, seed, _end(checkpoint), begin, sentinels)


def digest(texts: Sequence[TokenText]) -> str:
    """Hash of the sequences in order: 12 hexadecimal digits."""
    state = hashlib.sha256()
    for text in texts:
        state.update(f"{text.source}\0{len(text.ids)}\0".encode())
        state.update(text.ids.tobytes())
        state.update(b"" if text.answer is None else text.answer.tobytes())
    return state.hexdigest()[:12]


def _begin(tokenizer: Any) -> Ids:
    """Ids that the tokenizer puts before a text, e.g. <s>."""
    (bare,), (whole,) = (tokenizer(["a"], add_special_tokens=special)["input_ids"] for special in (False, True))
    return np.array(whole[: whole.index(bare[0])] if bare else [], np.int32)


def _end(checkpoint: Checkpoint) -> int:
    eos = checkpoint.tokenizer.eos_token_id
    if eos is None and checkpoint.is_encoder_decoder:
        raise ModelError(f"{checkpoint.name}: the tokenizer has no end token")
    return -1 if eos is None else int(eos)
