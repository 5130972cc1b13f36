"""Staggered batches, repeated layers, and the default warm-up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from decide_cases import workload_of
from hypothesis import given
from hypothesis import strategies as st
from random_traces import META, random_block

from specmoe.traces.arranged import repeated, staggered, verified
from specmoe.traces.schema import Block
from specmoe.traces.workload import WarmUp, build, warm_up_of


def rows(lengths: list[int]) -> Block:
    """Sequences of these lengths."""
    block = random_block(sum(lengths), META)
    return block._replace(
        sequence=np.repeat(np.arange(len(lengths)), lengths).astype(np.int32),
        position=np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
    )


# By hand


def test_places_start_at_spread_positions_and_heads_come_last() -> None:
    """Lengths 4, 4, 4, 2 at batch 2: the second place starts at position 2, and its head is a sequence at the end."""
    block = staggered(rows([4, 4, 4, 2]), 2)
    assert block.sequence.tolist() == [0] * 4 + [1] * 2 + [2] * 4 + [3] * 2 + [4] * 2
    assert block.position.tolist() == [0, 1, 2, 3, 2, 3, 0, 1, 2, 3, 0, 1, 0, 1]
    workload = build(block, META, batch=2)
    steps = np.split(block.position[workload.rows], workload.row_offsets[1:-1])
    assert [step.tolist() for step in steps] == [[0, 2], [1, 3], [2, 0], [3, 1], [2, 0], [3, 1], [0], [1]]


def test_a_window_is_a_token_and_the_drafted_ones_after_it() -> None:
    """Lengths 7 and 4, 2 drafted: all accepted, windows follow each other; none accepted, each begins a row later."""
    block = rows([7, 4])
    every, none = (verified(block, 2, [chance]) for chance in (1.0, 0.0))
    assert every.block.position.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2] and every.kept.all()
    assert none.block.position.tolist() == [0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6, 0, 1, 2, 1, 2, 3]
    assert none.kept.tolist() == [True, False, False] * 7
    steps = build(every.block, META, batch=2, window=3)
    assert steps.step_tokens.tolist() == [6, 3]
    assert build(none.block, META, window=3).step_tokens.tolist() == [3] * 7


def test_tokens_that_are_kept_are_the_trace_and_rejected_ones_are_of_its_sequence() -> None:
    block = rows([40, 23])
    arranged, kept = verified(block, 3, [0.9, 0.5, 0.2])
    for number, length in enumerate((40, 23)):
        mine, own = block.sequence == number, arranged.sequence == number
        there = own & kept
        assert length - 4 < there.sum() <= length
        for name, column in block._asdict().items():
            same = getattr(arranged, name)[there], column[mine][: there.sum()]
            assert np.array_equal(*same, equal_nan=name == "probs"), name
        recorded = {row.tobytes() for row in block.experts[mine]}
        assert all(row.tobytes() in recorded for row in arranged.experts[own & ~kept])


def test_the_share_of_kept_tokens_is_the_assumed_one() -> None:
    kept = verified(rows([20_000]), 3, [0.9, 0.5, 0.2]).kept
    windows = len(kept) / 4
    assert kept.sum() / windows == pytest.approx(1 + 0.9 + 0.9 * 0.5 + 0.9 * 0.5 * 0.2, rel=0.01)


def test_as_many_sequences_as_places_keep_every_place_busy() -> None:
    block = staggered(rows([4] * 4), 4)
    workload = build(block, META, batch=4)
    assert workload.step_tokens.tolist() == [4] * 4
    assert sorted(block.position[workload.rows[:4]].tolist()) == [0, 1, 2, 3]


def test_the_warm_up_ends_when_demand_could_have_filled_every_slot() -> None:
    workload = workload_of([[[0]], [[0]], [[1]], [[0]], [[2]], [[0]]])
    assert warm_up_of(workload, 1) == WarmUp(1, 1)
    assert warm_up_of(workload, 2) == WarmUp(3, 2)
    assert warm_up_of(workload, 3) == WarmUp(3, 2)  # half of the steps: the third expert comes later
    assert warm_up_of(workload, 9) == WarmUp(3, 2)
    assert warm_up_of(workload_of([[[0, 1]]]), 2) == WarmUp(0, 0)


def test_a_repeated_layer_has_its_layers_routing_with_other_numbers() -> None:
    block = random_block(30, META)
    deeper, meta = repeated(block, META, 8)
    assert meta == dataclasses.replace(META, num_layers=8)
    np.testing.assert_array_equal(deeper.experts[:, :3], block.experts)
    np.testing.assert_array_equal(deeper.probs[:, 3:6], block.probs)
    names = {}
    for own, other in zip(block.experts[:, 1].reshape(-1), deeper.experts[:, 4].reshape(-1), strict=True):
        assert names.setdefault(int(own), int(other)) == other
    assert len(set(names.values())) == len(names)
    assert any(own != other for own, other in names.items())


def test_no_lookahead_across_the_seam() -> None:
    meta = dataclasses.replace(META, has_lookahead=True, lookahead_depth=2)
    block = random_block(30, meta)
    deeper, _ = repeated(block, meta, 7)
    ahead = (deeper.lookahead >= 0).any(axis=(0, 3))  # [L, D]
    assert ahead.tolist() == [[True, True], [True, False], [False, False]] * 2 + [[False, False]]
    hits = block.lookahead[:, 0, 0, :1] == block.experts[:, 1]
    np.testing.assert_array_equal(deeper.lookahead[:, 3, 0, :1] == deeper.experts[:, 4], hits)


# Properties


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9), batch=st.integers(1, 9), seed=st.integers(0, 3))
def test_staggering_loses_and_doubles_no_token(lengths: list[int], batch: int, seed: int) -> None:
    block = rows(lengths)._replace(token=np.arange(sum(lengths), dtype=np.int32))
    arranged = staggered(block, batch)
    assert sorted(arranged.token.tolist()) == block.token.tolist()
    np.testing.assert_array_equal(arranged.experts, block.experts[arranged.token])
    assert (np.diff(arranged.sequence) >= 0).all()
    same = np.diff(arranged.sequence) == 0
    assert (np.diff(arranged.position)[same] == 1).all()
    if batch == 1:
        np.testing.assert_array_equal(arranged.sequence, block.sequence)


@given(layers=st.integers(3, 12), seed=st.integers(0, 9))
def test_repetition_keeps_demand_sizes_and_is_the_same_in_every_call(layers: int, seed: int) -> None:
    block = random_block(20, META, seed)
    deeper, meta = repeated(block, META, layers)
    again, _ = repeated(block, META, layers)
    np.testing.assert_array_equal(deeper.experts, again.experts)
    sizes = np.diff(build(deeper, meta, 4).offsets).reshape(-1, layers)
    own = np.diff(build(block, META, 4).offsets).reshape(-1, META.num_layers)
    np.testing.assert_array_equal(sizes, own[:, np.arange(layers) % META.num_layers])


@pytest.mark.parametrize("slots", [1, 2, 5, 40])
def test_the_warm_up_leaves_half_of_the_steps(slots: int) -> None:
    workload = build(rows([9, 9]), META)
    found = warm_up_of(workload, slots)
    demanded = len(np.unique(workload.keys[: workload.offsets[found.steps * META.num_layers]]))
    assert (found.steps <= workload.num_steps // 2, found.demanded) == (True, demanded)
    assert demanded >= slots or found.steps == workload.num_steps // 2
