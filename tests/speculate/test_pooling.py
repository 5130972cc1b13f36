"""From tokens to events, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_routed import tiny_routed

from specmoe.sim.speculate.predictor import pool
from specmoe.traces.workload import Workload


def one_step(tokens: int) -> Workload:
    """So many sequences of one token each, at once, in a model of one layer and eight experts."""
    return tiny_routed(tokens, batch=tokens, mean_length=1, num_layers=1, num_experts=8).workload


def test_two_tokens_that_want_the_same_expert_and_two_others() -> None:
    experts = np.array([[[[3, 5]]], [[[3, 1]]]], np.int16)
    confidence = np.array([[[[0.5, 0.25]]], [[[0.5, 0.125]]]], np.float16)
    best, sure = pool(one_step(2), experts, confidence)
    assert best.tolist() == [[[3, 5, 1, -1]]]
    assert sure[0, 0].tolist() == pytest.approx([0.75, 0.25, 0.125, 0])


def test_ties_go_to_the_lower_id() -> None:
    best, _ = pool(one_step(1), np.array([[[[6, 2, 4]]]], np.int16), np.full((1, 1, 1, 3), 0.5))
    assert best.tolist() == [[[2, 4, 6]]]


def test_no_candidate_counts_for_nothing() -> None:
    experts = np.array([[[[-1, 7]]], [[[-1, -1]]]], np.int16)
    best, sure = pool(one_step(2), experts, np.full((2, 1, 1, 2), 0.5))
    assert best.tolist() == [[[7, -1, -1, -1]]]
    assert sure[0, 0].tolist() == [0.5, 0, 0, 0]


def test_nobody_has_a_candidate() -> None:
    best, sure = pool(one_step(1), np.full((1, 1, 1, 2), -1, np.int16), np.ones((1, 1, 1, 2)))
    assert best.tolist() == [[[-1] * 2]]
    assert not sure.any()


def test_a_certain_expert_is_certain_and_more_tokens_come_first() -> None:
    best, sure = pool(one_step(3), np.array([[[[1]]], [[[4]]], [[[4]]]], np.int16), np.ones((3, 1, 1, 1)))
    assert best.tolist() == [[[4, 1, -1]]]
    assert sure.tolist() == [[[1.0, 1.0, 0.0]]]


def test_an_event_is_no_wider_than_there_are_experts() -> None:
    best, _ = pool(one_step(5), np.tile(np.arange(4, dtype=np.int16), (5, 1, 1, 1)), np.full((5, 1, 1, 4), 0.5))
    assert best.shape == (1, 1, 8)


@examples(50)
@given(seed=st.integers(0, 1000), batch=st.integers(1, 4), depth=st.integers(1, 3))
def test_against_plain_loops(seed: int, batch: int, depth: int) -> None:
    routed = tiny_routed(12, batch=batch, seed=seed, num_experts=6, candidates=3)
    workload = routed.workload
    rng = np.random.default_rng(seed)
    shape = (12, workload.meta.num_layers, depth)
    experts = rng.random((*shape, 6)).argsort(axis=-1)[..., :3].astype(np.int16)
    confidence = rng.random((*shape, 3)).astype(np.float32)
    best, sure = pool(workload, experts, confidence)
    for event in range(workload.num_events):
        step, layer = divmod(event, workload.meta.num_layers)
        rows = slice(workload.row_offsets[step], workload.row_offsets[step + 1])
        for d in range(depth):
            doubts = doubts_by_loops(experts[rows, layer, d], confidence[rows, layer, d])
            wanted = sorted(doubts, key=lambda expert: (round(doubts[expert], 12), expert))
            assert best[event, d, : len(wanted)].tolist() == wanted
            assert sure[event, d, : len(wanted)].tolist() == pytest.approx([1 - doubts[e] for e in wanted], abs=1e-6)
            assert (best[event, d, len(wanted) :] == -1).all()


def doubts_by_loops(experts: NDArray[np.int16], confidence: NDArray[np.float32]) -> dict[int, float]:
    """Probability that no token wants it, of each expert that one may."""
    doubts: dict[int, float] = {}
    for expert, sure in zip(experts.flat, confidence.flat, strict=True):
        doubts[int(expert)] = doubts.get(int(expert), 1.0) * (1 - float(sure))
    return doubts
