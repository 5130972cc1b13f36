"""Span corruption: by hand, against T5's published numbers, and as properties."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from specmoe.errors import InputError
from specmoe.traces import pretrain_data
from specmoe.traces.pretrain_data import Ids, corrupt, noise_mask, raw_length, span_counts

SENTINELS = np.arange(999, 899, -1, dtype=np.int32)
EOS = 1
LENGTH = st.integers(2, 600)
SEED = st.integers(0, 2**32)


def drawn(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def restore(inputs: Ids, targets: Ids) -> list[int]:
    """The text again: each sentinel of the inputs replaced by what the targets say after it."""
    hidden: dict[int, list[int]] = {}
    for token in targets[:-1].tolist():
        if token in SENTINELS:
            hidden[said := token] = []
        else:
            hidden[said].append(token)
    return [token for seen in inputs[:-1].tolist() for token in hidden.get(seen, [seen])]


def test_the_example_of_the_t5_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
    mask = [word in ("for", "inviting", "last") for word in words]
    monkeypatch.setattr(pretrain_data, "noise_mask", lambda rows, length, rng: np.array([mask]))
    ids = np.arange(10, 10 + len(words), dtype=np.int32)
    inputs, targets = corrupt(ids, SENTINELS, EOS, drawn(0))
    names = dict(zip(ids.tolist(), words, strict=True)) | {999: "<X>", 998: "<Y>", 997: "<Z>", EOS: "</s>"}
    assert " ".join(names[i] for i in inputs.tolist()) == "Thank you <X> me to your party <Y> week . </s>"
    assert " ".join(names[i] for i in targets.tolist()) == "<X> for inviting <Y> last <Z> </s>"


def test_the_shortest_window() -> None:
    inputs, targets = corrupt(np.array([7, 8], np.int32), SENTINELS, EOS, drawn(0))
    assert inputs.tolist() == [7, 999, EOS]
    assert targets.tolist() == [999, 8, EOS]


@pytest.mark.parametrize(("inputs", "raw", "targets"), [(512, 568, 114), (256, 284, 58), (8, 7, 3), (3, 2, 3)])
def test_lengths_by_hand(inputs: int, raw: int, targets: int) -> None:
    """512, 568 and 114 are the example in T5's `random_spans_helper`."""
    noise, count = span_counts(raw)
    assert raw_length(inputs) == raw
    assert noise + count + 1 == targets


def test_counts_by_hand() -> None:
    assert span_counts(284) == (43, 14)
    assert span_counts(2) == (1, 1)
    assert span_counts(20) == (3, 1)


@given(st.integers(3, 1200))
@example(9)
def test_raw_length_is_the_longest_that_fits(inputs: int) -> None:
    def encoder_length(raw: int) -> int:
        noise, count = span_counts(raw)
        return raw - noise + count + 1

    assert raw_length(inputs) == max(raw for raw in range(2, 2 * inputs) if encoder_length(raw) <= inputs)


@given(LENGTH)
def test_counts_leave_room_for_both_kinds_of_run(length: int) -> None:
    noise, count = span_counts(length)
    assert 1 <= count <= noise < length
    assert count <= length - noise
    assert abs(noise - 0.15 * length) <= 0.85


@given(LENGTH, st.integers(1, 4), SEED)
def test_masks_have_equal_counts_and_begin_with_a_kept_token(length: int, rows: int, seed: int) -> None:
    mask = noise_mask(rows, length, drawn(seed))
    noise, count = span_counts(length)
    assert mask.shape == (rows, length)
    assert (mask.sum(axis=1) == noise).all()
    assert not mask[:, 0].any()
    assert mask[:, -1].all()
    assert ((mask[:, 1:] & ~mask[:, :-1]).sum(axis=1) == count).all()


@given(LENGTH, st.integers(1, 4), SEED)
def test_the_text_can_be_restored(length: int, rows: int, seed: int) -> None:
    ids = drawn(seed).integers(2, 800, (rows, length), dtype=np.int32)
    inputs, targets = corrupt(ids, SENTINELS, EOS, drawn(seed))
    for row in range(rows):
        assert restore(inputs[row], targets[row]) == ids[row].tolist()


@given(LENGTH, SEED)
def test_lengths_ends_and_sentinels(length: int, seed: int) -> None:
    ids = drawn(seed).integers(2, 800, (3, length), dtype=np.int32)
    noise, count = span_counts(length)
    for found, width in zip(
        corrupt(ids, SENTINELS, EOS, drawn(seed)), (length - noise + count + 1, noise + count + 1), strict=True
    ):
        assert found.shape == (3, width)
        assert found.dtype == np.int32
        assert (found[:, -1] == EOS).all()
        for row in found:
            assert row[row > 800].tolist() == SENTINELS[:count].tolist()


@given(LENGTH, SEED)
def test_one_window_is_a_row_of_one(length: int, seed: int) -> None:
    ids = drawn(seed).integers(2, 800, length, dtype=np.int32)
    alone = corrupt(ids, SENTINELS, EOS, drawn(seed))
    in_batch = corrupt(ids[None, None], SENTINELS, EOS, drawn(seed))
    for one, rows in zip(alone, in_batch, strict=True):
        assert rows.shape[:2] == (1, 1)
        assert one.tolist() == rows[0, 0].tolist()


@pytest.mark.parametrize(("total", "parts"), [(5, 3), (6, 2), (4, 4), (3, 1), (1, 1), (7, 4)])
def test_cuts_are_uniform_over_all_ways_to_cut(total: int, parts: int) -> None:
    edges = [(0, *inner, total) for inner in combinations(range(1, total), parts - 1)]
    ways = {tuple(np.diff(edge).tolist()) for edge in edges}
    draws = 1000 * len(ways)
    found, counts = np.unique(pretrain_data._cut(draws, total, parts, drawn(3)), axis=0, return_counts=True)
    assert {tuple(way) for way in found.tolist()} == ways
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    freedom = len(ways) - 1
    assert chi_square <= freedom + 4 * np.sqrt(2 * freedom)  # four standard deviations


@pytest.mark.parametrize("length", [0, 1])
def test_a_window_too_short_is_one_line(length: int) -> None:
    with pytest.raises(InputError, match=rf"a window of {length} token\(s\) cannot be corrupted: at least 2"):
        corrupt(np.zeros(length, np.int32), SENTINELS, EOS, drawn(0))


@pytest.mark.parametrize(("length", "sentinels"), [(284, 13), (2, 0), (600, 29)])
def test_too_few_sentinels_are_one_line(length: int, sentinels: int) -> None:
    ids: Any = np.zeros(length, np.int32)
    needed = sentinels + 1
    with pytest.raises(InputError, match=f"{length} tokens has {needed} spans, but there are {sentinels} sentinels"):
        corrupt(ids, SENTINELS[:sentinels], EOS, drawn(0))
    assert len(corrupt(ids, SENTINELS[:needed], EOS, drawn(0))) == 2
