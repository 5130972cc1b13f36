"""From tokens to events, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_routed import tiny_routed

from specmoe.sim.speculate.pooling import pool
from specmoe.traces.workload import Workload


def one_step(tokens: int) -> Workload:
    """So many sequences of one token each, at once, in a model of one layer and eight experts."""
    return tiny_routed(tokens, batch=tokens, mean_length=1, num_layers=1, num_experts=8).workload


def test_two_tokens_that_want_the_same_expert_and_two_others() -> None:
    experts = np.array([[[3, 5]], [[3, 1]]], np.int16)
    confidence = np.array([[[0.5, 0.25]], [[0.5, 0.125]]], np.float16)
    best, sure = pool(one_step(2), experts, confidence, 4)
    assert best.tolist() == [[3, 5, 1, -1]]
    assert sure[0].tolist() == pytest.approx([0.75, 0.25, 0.125, 0])


def test_ties_go_to_the_lower_id_and_what_does_not_fit_is_left_out() -> None:
    experts = np.array([[[6, 2, 4]]], np.int16)
    best, _ = pool(one_step(1), experts, np.full((1, 1, 3), 0.5), 2)
    assert best.tolist() == [[2, 4]]


def test_no_candidate_counts_for_nothing() -> None:
    experts = np.array([[[-1, 7]], [[-1, -1]]], np.int16)
    best, sure = pool(one_step(2), experts, np.full((2, 1, 2), 0.5), 3)
    assert best.tolist() == [[7, -1, -1]]
    assert sure[0].tolist() == [0.5, 0, 0]


def test_nobody_has_a_candidate() -> None:
    best, sure = pool(one_step(1), np.full((1, 1, 2), -1, np.int16), np.ones((1, 1, 2)), 3)
    assert best.tolist() == [[-1] * 3]
    assert not sure.any()


def test_a_certain_expert_is_certain_and_more_tokens_come_first() -> None:
    best, sure = pool(one_step(3), np.array([[[1]], [[4]], [[4]]], np.int16), np.ones((3, 1, 1)), 2)
    assert best.tolist() == [[4, 1]]
    assert sure.tolist() == [[1.0, 1.0]]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), batch=st.integers(1, 4), width=st.integers(1, 6))
def test_against_plain_loops(seed: int, batch: int, width: int) -> None:
    routed = tiny_routed(12, batch=batch, seed=seed, num_experts=6, candidates=3)
    workload, rows = routed.workload, routed.workload.rows
    best, sure = pool(workload, routed.block.experts[rows], routed.block.probs[rows], width)
    for event in range(workload.num_events):
        step, layer = divmod(event, workload.meta.num_layers)
        doubts: dict[int, float] = {}
        for row in rows[workload.row_offsets[step] : workload.row_offsets[step + 1]]:
            pairs = zip(routed.block.experts[row, layer], routed.block.probs[row, layer], strict=True)
            for expert, probability in pairs:
                doubts[int(expert)] = doubts.get(int(expert), 1.0) * (1 - float(probability))
        wanted = sorted(doubts, key=lambda expert: (round(doubts[expert], 12), expert))[:width]
        assert best[event, : len(wanted)].tolist() == wanted
        assert sure[event, : len(wanted)].tolist() == pytest.approx([1 - doubts[expert] for expert in wanted], abs=1e-6)
        assert (best[event, len(wanted) :] == -1).all()
