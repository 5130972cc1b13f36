"""The noisy oracle has the precision that it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from routing_by_hand import candidates
from tiny_routed import tiny_routed

from specmoe.sim.speculate.predictor import Routed, pool
from specmoe.sim.speculate.predictors.noisy_oracle import NoisyOracle

phases = pytest.mark.parametrize("phase", ["decode", "encode"])
batches = pytest.mark.parametrize("batch", [1, 4])


def demanded(routed: Routed, event: int) -> list[int]:
    offsets = routed.workload.offsets
    return routed.workload.experts[offsets[event] : offsets[event + 1]].tolist() if event + 1 < len(offsets) else []


@phases
@batches
def test_at_precision_one_it_says_what_the_next_events_demand(phase: Any, batch: int) -> None:
    routed = tiny_routed(40, batch, phase=phase)
    table = NoisyOracle(depth=3, assumed_precision=1).predict(routed)
    for depth in (1, 2, 3):
        for event, found in enumerate(candidates(table, depth)):
            assert found == demanded(routed, event + depth)


@phases
@batches
def test_at_precision_zero_it_is_always_wrong_and_says_as_much(phase: Any, batch: int) -> None:
    routed = tiny_routed(60, batch, phase=phase, num_experts=64)
    table = NoisyOracle(assumed_precision=0).predict(routed)
    for event, found in enumerate(candidates(table)):
        truth = demanded(routed, event + 1)
        assert not set(found) & set(truth)
        assert len(found) == len(set(found)) == min(len(truth), 64 - len(truth))


def test_wrong_candidates_run_out_where_all_are_demanded() -> None:
    routed = tiny_routed(40, batch=8, mean_length=1, num_experts=4, num_layers=1)
    table = NoisyOracle(assumed_precision=0).predict(routed)
    for event, found in enumerate(candidates(table)):
        truth = demanded(routed, event + 1)
        assert len(found) == min(len(truth), 4 - len(truth))


@pytest.mark.parametrize("precision", [0.2, 0.5, 0.9])
def test_precision_is_as_assumed_at_any_rank(precision: float) -> None:
    routed = tiny_routed(3000, num_experts=32)
    table = NoisyOracle(assumed_precision=precision, seed=1).predict(routed)
    truth = np.array([demanded(routed, event + 1) for event in range(routed.workload.num_events - 1)])
    hits = (table.experts[:-1, 0, :, None] == truth[:, None, :]).any(axis=-1)
    error = 4 * np.sqrt(precision * (1 - precision) / len(hits))
    assert hits.mean(axis=0) == pytest.approx([precision] * 2, abs=error)
    assert np.corrcoef(hits.T)[0, 1] == pytest.approx(0, abs=4 / np.sqrt(len(hits)))
    assert (table.confidence[table.experts >= 0] == np.float32(precision)).all()


def test_wrong_ones_are_drawn_evenly() -> None:
    routed = tiny_routed(4000, num_experts=8, num_layers=1)
    found = NoisyOracle(assumed_precision=0).predict(routed).experts[:-1, 0]
    uses = np.bincount(found.ravel(), minlength=8)
    assert uses / uses.sum() == pytest.approx([1 / 8] * 8, abs=0.02)


def test_a_higher_precision_only_turns_wrong_ones_right() -> None:
    routed = tiny_routed(200, num_experts=32)
    low, high = (NoisyOracle(assumed_precision=p).predict(routed).experts for p in (0.3, 0.6))
    truth = NoisyOracle(assumed_precision=1).predict(routed).experts
    changed = low != high
    assert changed.any()
    assert (high[changed] == truth[changed]).all()


def test_seeds_differ_and_repeat() -> None:
    routed = tiny_routed(100)
    one, two, again = (NoisyOracle(seed=seed).predict(routed).experts for seed in (0, 1, 0))
    assert (one != two).any()
    np.testing.assert_array_equal(one, again)


@phases
@batches
def test_tokens_guesses_add_up_to_what_is_said_of_events(phase: Any, batch: int) -> None:
    routed = tiny_routed(60, batch, phase=phase, num_experts=32)
    oracle = NoisyOracle(depth=2)
    table, (pooled, _) = oracle.predict(routed), pool(routed.workload, *oracle.guess(routed))
    layers = routed.workload.meta.num_layers
    for event in range(routed.workload.num_events):
        for depth in (1, 2):
            said, by_tokens = (set(rows[event, depth - 1].tolist()) - {-1} for rows in (table.experts, pooled))
            within = event % layers + depth < layers
            assert by_tokens == said if within else by_tokens <= said
            if not within and phase == "encode":
                assert not by_tokens


def test_tokens_guesses_cross_into_their_sequences_next_token() -> None:
    routed = tiny_routed(30, mean_length=1000)
    oracle = NoisyOracle(depth=3, assumed_precision=1)
    last = oracle.guess(routed).experts[:-1, -1, 0]
    np.testing.assert_array_equal(np.sort(last), np.sort(routed.block.experts[1:, 0, :2]))
