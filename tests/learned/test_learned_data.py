"""What a network is shown, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learned_cases import LEARNABLE, learnable

torch = pytest.importorskip("torch")

from specmoe.errors import InputError  # noqa: E402
from specmoe.sim.speculate.learned.config import config_for  # noqa: E402
from specmoe.sim.speculate.learned.data import columns_of, neighbours, rows_of, spans_of, split, vocabulary_of, words_of  # noqa: E402  # noqa: E402
from specmoe.sim.speculate.learned.inputs import Tables, before_at, inputs_at, targets_at  # noqa: E402


def test_neighbours_stay_within_the_sequence() -> None:
    found = neighbours(np.array([4, 4, 4, 9, 9], np.int32), (-1, 1, -2))
    assert found.tolist() == [[5, 1, 5], [0, 2, 5], [1, 5, 0], [5, 4, 5], [3, 5, 5], [5, 5, 5]]


def test_rare_words_share_one_place() -> None:
    vocabulary = vocabulary_of(np.array([7, 3, 7, 3, 3, 5], np.int32), seen=True)
    assert vocabulary.tolist() == [3, 7]
    assert words_of(np.array([3, 5, 7, 9], np.int32), vocabulary).tolist() == [0, 2, 1, 2]
    assert words_of(np.array([3], np.int32), vocabulary_of(np.array([3, 3], np.int32), seen=False)).tolist() == [0]


def tables(phase: str, depth: int) -> tuple[Tables, object]:
    meta = dataclasses.replace(LEARNABLE, phase=phase)
    config = config_for(meta, "contextual", depth, None, {})
    block, _ = learnable(4, phase=phase)
    experts = np.arange(12).reshape(4, 3, 1).repeat(3, 2) % 8
    block = block._replace(sequence=np.int32([0, 0, 0, 1]), experts=experts.astype(np.int16))
    return Tables.of(columns_of(block, config, np.zeros(0, np.int32)), torch.device("cpu")), config


def test_targets_wrap_into_the_sequences_next_token() -> None:
    held, config = tables("decode", 2)
    found = targets_at(held, torch.arange(4), config)[..., 0]
    assert found[0].tolist() == [[1, 2], [2, 3], [3, 4]]
    assert found[2].tolist() == [[7, 0], [0, 8], [8, 8]]  # the last of its sequence: experts 6, 7, 0, and none after
    held, config = tables("encode", 2)
    assert targets_at(held, torch.arange(1), config)[0, ..., 0].tolist() == [[1, 2], [2, 8], [8, 8]]


def test_the_token_before_at_the_target_layer() -> None:
    held, config = tables("decode", 2)
    found = before_at(inputs_at(held, torch.arange(4)), config)
    assert found[1].tolist() == [[1, 2], [2, 3], [3, 4]]  # token 0's layers 1 and 2, then token 1's own 0 and 1
    assert found[3].tolist()[0] == [8, 8]
    held, config = tables("encode", 2)
    assert (before_at(inputs_at(held, torch.arange(4)), config) == 8).all()


@given(st.integers(2, 30), st.floats(0.05, 0.95), st.integers(0, 100))
def test_splits_are_whole_sequences_each_once(count: int, share: float, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 9, count)
    spans = spans_of(np.repeat(np.arange(count), lengths).astype(np.int32))
    if not 0 < round(share * count) < count:
        with pytest.raises(InputError, match="at least one to train and one to validate"):
            split(spans, share, seed)
        return
    both = split(spans, share, seed)
    rows = [rows_of(part) for part in both]
    assert sorted(np.concatenate(rows).tolist()) == list(range(lengths.sum()))
    assert len(both[1].first) == round(share * count)


def test_there_are_no_more_clusters_than_experts_unless_one_asks_for_them() -> None:
    assert config_for(LEARNABLE, "hierarchical", 1, None, {}).clusters == LEARNABLE.num_experts == 8
    assert config_for(LEARNABLE, "hierarchical", 1, None, {"clusters": 3}).clusters == 3
