"""Each predictor by hand, and what all of them must keep to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_traces import META, random_block
from tiny_routed import tiny_routed

from specmoe.errors import InputError
from specmoe.sim.speculate import predictors
from specmoe.sim.speculate.predictors import PREDICTORS, Routed, demands
from specmoe.sim.speculate.table import PredictionTable, no_predictions
from specmoe.traces.schema import Block
from specmoe.traces.workload import build

every_predictor = pytest.mark.parametrize("name", PREDICTORS)
batches = pytest.mark.parametrize("batch", [1, 4])


def by_hand(experts: Any, batch: int = 1, candidates: int = 1, **changes: Any) -> Routed:
    """Routing [tokens][layers][candidates] of one sequence a token's row, positions counting up."""
    used = np.array(experts, np.int16)
    tokens, layers = used.shape[:2]
    routed = tiny_routed(
        tokens, mean_length=10**6, num_layers=layers, num_experts=8, top_k=1, candidates=candidates, **changes
    )
    block = routed.block._replace(experts=used)
    return Routed(build(block, routed.workload.meta, batch), block)


def at_once(routed: Routed, batch: int) -> Routed:
    """The same rows as so many sequences of one token."""
    block = routed.block._replace(
        sequence=np.arange(len(routed.block.sequence), dtype=np.int32), position=np.zeros_like(routed.block.position)
    )
    return Routed(build(block, routed.workload.meta, batch), block)


def predict(name: str, routed: Routed, train: Routed | None = None) -> PredictionTable:
    predictor = PREDICTORS[name]()
    if train is not None:
        predictor.fit(train)
    return predictor.predict(routed)


def candidates(table: PredictionTable) -> list[list[int]]:
    return [[expert for expert in row[0] if expert >= 0] for row in table.experts.tolist()]


# Contract


def changed_after(routed: Routed, step: int, layer: int, seed: int) -> Routed:
    """The same tokens, but everything routed after event (step, layer) is different."""
    meta, workload, old = routed.workload.meta, routed.workload, routed.block
    other = random_block(len(old.sequence), meta, seed)
    step_of_row = np.empty(len(old.sequence), np.int64)
    step_of_row[workload.rows] = workload.step_of_row
    later = (step_of_row[:, None] > step) | ((step_of_row[:, None] == step) & (np.arange(meta.num_layers) > layer))
    mixed = {
        name: np.where(later[:, :, None], getattr(other, name), getattr(old, name))
        for name in ("experts", "probs", "lookahead")
    }
    token = np.where(step_of_row > step, other.token, old.token)
    block = old._replace(token=token, **mixed)
    return Routed(build(block, meta, workload.batch), block)


@every_predictor
@batches
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), data=st.data())
def test_no_peeking(name: str, batch: int, seed: int, data: st.DataObject) -> None:
    routed = tiny_routed(20, batch=batch, seed=seed, num_experts=6, candidates=3)
    train = tiny_routed(20, batch=batch, seed=seed + 1, num_experts=6, candidates=3)
    step = data.draw(st.integers(0, routed.workload.num_steps - 1))
    layer = data.draw(st.integers(0, routed.workload.meta.num_layers - 1))
    other = changed_after(routed, step, layer, seed + 2)
    known = step * routed.workload.meta.num_layers + layer + 1
    for fitted in (None, train):
        one, two = predict(name, routed, fitted), predict(name, other, fitted)
        assert one.peeks == PREDICTORS[name]().peeks
        if not one.peeks:
            assert one.experts[:known].tolist() == two.experts[:known].tolist()
            assert one.confidence[:known].tolist() == two.confidence[:known].tolist()


def test_the_contract_test_can_fail() -> None:
    routed = tiny_routed(20, num_experts=6, candidates=3)
    other = changed_after(routed, 2, 0, 99)
    one, two = predict("pregated", routed), predict("pregated", other)
    assert one.peeks
    assert one.experts[: 2 * 3 + 1].tolist() != two.experts[: 2 * 3 + 1].tolist()


@every_predictor
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    batch=st.integers(1, 5),
    layers=st.integers(1, 3),
    phase=st.sampled_from(["decode", "encode"]),
    has_probs=st.booleans(),
)
def test_predictions_are_well_formed(
    name: str, seed: int, batch: int, layers: int, phase: Any, has_probs: bool
) -> None:
    routed = tiny_routed(
        15, batch, seed, phase=phase, num_layers=layers, num_experts=6, candidates=3, has_probs=has_probs
    )
    table = predict(name, routed)
    assert table.experts.shape == table.confidence.shape
    assert (table.experts.dtype, table.confidence.dtype) == (np.int16, np.float32)
    assert table.experts.shape[:2] == (routed.workload.num_events, table.depth)
    assert ((table.experts >= -1) & (table.experts < 6)).all()
    assert ((table.confidence >= 0) & (table.confidence <= 1)).all()
    there = table.experts >= 0
    assert (table.confidence[~there] == 0).all()
    assert (there[..., 1:] <= there[..., :-1]).all()  # none behind the last
    assert (np.diff(np.where(there, table.confidence, 0), axis=-1) <= 1e-6).all()  # best first
    for found in candidates(table):
        assert len(set(found)) == len(found)


@every_predictor
def test_dropped_tokens_are_no_candidates(name: str) -> None:
    routed = tiny_routed(12, batch=2, num_experts=6, candidates=3, top_k=1, dropless=False)
    experts = routed.block.experts.copy()
    experts[::3, :, 0] = -1
    block = routed.block._replace(experts=experts)
    table = predict(name, Routed(build(block, routed.workload.meta, 2), block))
    assert (table.experts >= -1).all()


# By hand


@pytest.mark.parametrize("name", ["none", "oracle"])
def test_nobody_says_anything(name: str) -> None:
    table = predict(name, tiny_routed())
    assert table.is_empty
    assert table.experts.shape == (tiny_routed().workload.num_events, 1, 0)
    assert no_predictions(3).is_empty


def test_layer_minus_1_hands_this_layers_candidates_on() -> None:
    routed = by_hand([[[3, 1], [2, 5], [4, 6]], [[0, 7], [1, 2], [3, 4]]], candidates=2)
    block = routed.block._replace(probs=np.tile(np.float16([0.5, 0.25]), (2, 3, 1)))
    table = predict("layer_minus_1", routed._replace(block=block))
    assert candidates(table) == [[3, 1], [2, 5], [], [0, 7], [1, 2], []]
    assert table.confidence[0, 0].tolist() == [0.5, 0.25]


def test_layer_minus_1_without_probabilities_keeps_the_candidates_order() -> None:
    routed = by_hand([[[5, 1, 3], [2, 7, 0]]], candidates=3, has_probs=False)
    table = predict("layer_minus_1", routed)
    assert candidates(table) == [[5, 1, 3], []]
    assert table.confidence[0, 0].tolist() == pytest.approx([1, 1 / 2, 1 / 3])


def test_lookahead_by_rank_and_nothing_across_steps() -> None:
    routed = by_hand([[[3, 1], [2, 5]], [[0, 7], [1, 2]]], candidates=2)
    lookahead = np.array([[[6, 4], [-1, -1]], [[5, 0], [-1, -1]]], np.int16)
    table = predict("lookahead", routed._replace(block=routed.block._replace(lookahead=lookahead)))
    assert candidates(table) == [[6, 4], [], [5, 0], []]
    assert table.confidence[0, 0].tolist() == pytest.approx([1, 0.5])


@pytest.mark.parametrize("changes", [{"has_lookahead": False}, {"lookahead_depth": 2}])
def test_lookahead_needs_a_lookahead_over_one_layer(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no look-ahead over one layer"):
        predict("lookahead", tiny_routed(**changes))


def test_frequency_counts_steps_before_and_the_train_split() -> None:
    routed = by_hand([[[3], [1]], [[3], [2]], [[0], [2]]])
    table = predict("frequency", routed)
    # Event (s, 0) predicts layer 1 of step s; event (s, 1) predicts layer 0 of step s + 1.
    assert candidates(table) == [[], [3], [1], [3], [1, 2], []]
    confidence = [[round(sure, 3) for sure in row[0] if sure] for row in table.confidence.tolist()]
    assert confidence == [[], [1.0], [1.0], [1.0], [0.5, 0.5], []]


def test_frequency_goes_on_from_the_train_split() -> None:
    train = by_hand([[[5], [6]], [[5], [7]], [[4], [7]]])
    table = predict("frequency", by_hand([[[3], [1]], [[3], [7]]]), train)
    assert candidates(table) == [[7, 6], [5, 3, 4], [7, 1, 6], []]
    confidence = [[round(sure, 3) for sure in row[0] if sure] for row in table.confidence.tolist()]
    assert confidence == [[0.667, 0.333], [0.5, 0.25, 0.25], [0.5, 0.25, 0.25], []]


def test_frequency_counts_an_expert_once_a_step() -> None:
    routed = at_once(by_hand([[[2]], [[2]], [[3]], [[1]], [[1]], [[4]]]), 3)
    table = predict("frequency", routed)
    assert candidates(table) == [[2, 3], []]
    assert table.confidence[0, 0, :2].tolist() == [1.0, 1.0]


def test_frequency_in_blocks_is_frequency_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    routed = tiny_routed(50, batch=2)
    whole = predict("frequency", routed)
    monkeypatch.setattr(predictors, "CELLS_AT_ONCE", 3 * 16 * 4)
    parts = predict("frequency", routed)
    assert whole.experts.tolist() == parts.experts.tolist()
    assert whole.confidence.tolist() == parts.confidence.tolist()


@pytest.mark.parametrize("phase", ["decode", "encode"])
@pytest.mark.parametrize("batch", [1, 4])
def test_pregated_is_the_next_layers_demand_and_nothing_across_steps(phase: Any, batch: int) -> None:
    routed = tiny_routed(60, batch, mean_length=15, phase=phase)
    workload = routed.workload
    predicted = candidates(predict("pregated", routed))
    for event, found in enumerate(predicted):
        if event % META.num_layers == META.num_layers - 1:
            assert found == []
        else:
            span = slice(workload.offsets[event + 1], workload.offsets[event + 2])
            assert sorted(found) == workload.experts[span].tolist()


def test_all_says_everybody_but_across_steps() -> None:
    table = predict("all", by_hand([[[3], [1]], [[3], [2]]]))
    assert candidates(table) == [list(range(8)), [], list(range(8)), []]


def test_demands_by_hand() -> None:
    routed = at_once(by_hand([[[3], [1]], [[3], [2]], [[0], [2]]]), 2)
    (found,) = demands(routed.workload)
    assert [[np.flatnonzero(layer).tolist() for layer in step] for step in found] == [[[3], [1, 2]], [[0], [2]]]


def test_block_is_not_changed() -> None:
    routed = tiny_routed(20, batch=2)
    before = Block._make(column.copy() for column in routed.block)
    for name in PREDICTORS:
        predict(name, routed, routed)
    for old, new in zip(before, routed.block, strict=True):
        np.testing.assert_array_equal(old, new)
