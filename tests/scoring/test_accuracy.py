"""What counts as a hit: by hand, and what must hold of any guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_routed import tiny_routed

from specmoe.sim.speculate.predictor import Guess, Routed
from specmoe.sim.speculate.scoring.accuracy import TOPS, Tally, accuracy, tally, target_of
from specmoe.traces.workload import build


def routing(experts: Any, sequence: list[int], **changes: Any) -> Routed:
    """Experts [tokens][layers][k], in sequences that are given by a number a token."""
    used = np.array(experts, np.int16)
    shape = {"num_layers": used.shape[1], "candidates": used.shape[2], "top_k": used.shape[2], "num_experts": 8}
    routed = tiny_routed(len(used), **shape | changes)
    numbers = np.array(sequence, np.int32)
    position = np.array([sequence[:row].count(number) for row, number in enumerate(sequence)], np.int32)
    block = routed.block._replace(experts=used, sequence=numbers, position=position)
    return Routed(build(block, routed.workload.meta), block)


def guess_of(candidates: Any) -> Guess:
    """Candidates [n][L][D][C], none of them sure."""
    experts = np.array(candidates, np.int16)
    return Guess(experts, np.where(experts >= 0, 0.5, 0).astype(np.float32))


# Five tokens of two sequences, two layers, one expert each.
FIVE = routing([[[1], [2]], [[3], [4]], [[5], [6]], [[1], [7]], [[2], [3]]], [0, 0, 0, 1, 1])
GUESSED = guess_of(
    [
        [[[2, 0]], [[0, 3]]],  # right; next token's 3 second
        [[[0, 4]], [[5, 0]]],  # second; right
        [[[-1, -1]], [[1, 2]]],  # nobody: wrong; last of its sequence: no target
        [[[0, 1]], [[0, 1]]],  # wrong; wrong
        [[[3, 0]], [[-1, -1]]],  # right; no target
    ]
)


def test_five_rows_on_paper() -> None:
    counted = tally(GUESSED, FIVE)
    assert counted.wrapped.tolist() == [[True], [False]]
    assert accuracy(counted, ~counted.wrapped) == {
        "top1": 2 / 5, "top2": 3 / 5, "top4": 3 / 5, "top8": 3 / 5, "recall": 2 / 5, "targets": 5
    }  # fmt: skip
    assert accuracy(counted, counted.wrapped) == {
        "top1": 1 / 3, "top2": 2 / 3, "top4": 2 / 3, "top8": 2 / 3, "recall": 1 / 3, "targets": 3
    }  # fmt: skip


def test_counts_are_kept_by_sequence() -> None:
    counted = tally(GUESSED, FIVE)
    assert counted.targets[:, :, 0].tolist() == [[2, 3], [1, 2]]
    assert counted.hits[:, 1, 0, :2].tolist() == [[1, 2], [1, 1]]


def test_encoding_has_no_targets_in_another_token() -> None:
    encoded = routing(FIVE.block.experts, [0, 0, 0, 1, 1], phase="encode")
    counted = tally(GUESSED, encoded)
    assert accuracy(counted, counted.wrapped)["targets"] == 0
    assert accuracy(counted, counted.wrapped)["top1"] is None
    assert accuracy(counted, ~counted.wrapped)["top1"] == 2 / 5


def test_dropped_tokens_are_no_targets_and_never_hit() -> None:
    dropped = routing([[[1], [-1]], [[3], [4]]], [0, 0], dropless=False)
    counted = tally(guess_of([[[[-1]], [[3]]], [[[4]], [[-1]]]]), dropped)
    assert accuracy(counted, ~counted.wrapped)["targets"] == 1
    assert accuracy(counted, ~counted.wrapped)["top1"] == 1
    assert accuracy(counted, ~counted.wrapped)["recall"] == 1


def test_recall_counts_all_experts_used_and_top_1_the_first_only() -> None:
    routed = routing([[[0, 1], [2, 3]], [[0, 1], [4, 5]]], [0, 1])
    nobody = [[-1, -1, -1]]
    counted = tally(guess_of([[[[3, 2, 7]], nobody], [[[6, 5, 4]], nobody]]), routed)
    found = accuracy(counted, ~counted.wrapped)
    assert (found["top1"], found["top2"], found["top4"]) == (0, 1 / 2, 1)
    assert found["recall"] == 3 / 4  # 2 and 3, then 5; 4 is third, and top_k is 2


def test_targets_two_layers_ahead_wrap_sooner() -> None:
    used = [[[0], [1], [2]], [[3], [4], [5]]]
    routed = routing(used, [0, 0])
    assert target_of(routed, 0, 2)[:, 0].tolist() == [2, 5]
    assert target_of(routed, 1, 2)[:, 0].tolist() == [3, -1]
    assert target_of(routed, 2, 2)[:, 0].tolist() == [4, -1]
    counted = tally(guess_of(np.zeros((2, 3, 2, 1))), routed)
    assert counted.wrapped.tolist() == [[True, True], [False, True], [False, False]]
    assert counted.targets[0].tolist() == [[1, 1], [2, 1], [2, 2]]


def test_rows_are_those_of_the_workload_whatever_its_order() -> None:
    routed = tiny_routed(12, batch=3, seed=4)
    assert routed.workload.rows.tolist() != list(range(12))
    experts = np.stack([target_of(routed, layer, 1)[:, None] for layer in range(3)], axis=1)
    counted = tally(Guess(experts, np.ones(experts.shape, np.float32)), routed)
    assert accuracy(counted, ~counted.wrapped)["top1"] == 1
    assert accuracy(counted, counted.wrapped)["top1"] == 1


def test_nobodys_guess_is_wrong() -> None:
    counted = tally(Guess(np.zeros((5, 2, 1, 0), np.int16), np.zeros((5, 2, 1, 0), np.float32)), FIVE)
    assert accuracy(counted, ~counted.wrapped)["top8"] == 0


def random_tally(seed: int, phase: Any = "decode") -> Tally:
    routed = tiny_routed(20, seed=seed, num_experts=6, candidates=4, phase=phase)
    scores = np.random.default_rng(seed).random((20, 3, 2, 6))
    experts = scores.argsort(axis=-1).astype(np.int16)
    return tally(Guess(experts, scores.astype(np.float32)), routed)


@given(seed=st.integers(0, 1000), phase=st.sampled_from(["decode", "encode"]))
def test_more_candidates_hit_no_less_and_all_experts_hit_always(seed: int, phase: str) -> None:
    counted = random_tally(seed, phase)
    assert (np.diff(counted.hits, axis=-1) >= 0).all()
    assert (counted.hits[..., TOPS.index(8)] == counted.targets).all()  # of 6 experts


@given(seed=st.integers(0, 1000))
def test_layers_weighted_by_their_targets_make_the_whole(seed: int) -> None:
    counted = random_tally(seed)
    within = ~counted.wrapped
    cells = [accuracy(counted, cell) for cell in one_by_one(within)]
    whole = accuracy(counted, within)
    total = sum(cell["targets"] for cell in cells)
    assert total == whole["targets"]
    for name in ("top1", "top2", "top4"):
        assert sum(cell[name] * cell["targets"] for cell in cells if cell["targets"]) / total == pytest.approx(
            whole[name]
        )


def one_by_one(where: Any) -> list[Any]:
    """The cells of a mask, each a mask of its own."""
    cells = []
    for place in np.argwhere(where):
        cell = np.zeros_like(where)
        cell[tuple(place)] = True
        cells.append(cell)
    return cells
