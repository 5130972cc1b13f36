"""Predictors that remember nothing, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_traces import META
from routing_by_hand import by_hand, candidates, confidence, predict
from tiny_routed import tiny_routed

from specmoe.errors import InputError
from specmoe.sim.speculate.predictor import Routed, no_predictions
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.traces import workload as module
from specmoe.traces.workload import demands


@pytest.mark.parametrize("name", ["none", "oracle"])
def test_nobody_says_anything(name: str) -> None:
    table = predict(name, tiny_routed())
    assert table.is_empty
    assert table.experts.shape == (tiny_routed().workload.num_events, 1, 0)
    assert no_predictions(3).is_empty


def test_layer_minus_1_hands_this_layers_candidates_on() -> None:
    routed = by_hand([[[3, 1], [2, 5], [4, 6]], [[0, 7], [1, 2], [3, 4]]])
    routed = routed._replace(block=routed.block._replace(probs=np.tile(np.float16([0.5, 0.25]), (2, 3, 1))))
    table = predict("layer_minus_1", routed, depth=2)
    assert candidates(table) == [[3, 1], [2, 5], [], [0, 7], [1, 2], []]
    assert candidates(table, depth=2) == [[3, 1], [], [], [0, 7], [], []]
    assert confidence(table)[0] == [0.5, 0.25]


def test_layer_minus_1_without_probabilities_keeps_the_candidates_order() -> None:
    table = predict("layer_minus_1", by_hand([[[5, 1, 3], [2, 7, 0]]], has_probs=False))
    assert candidates(table) == [[5, 1, 3], []]
    assert confidence(table)[0] == [1.0, 0.5, 0.333]


def with_probs(experts: list[int], probs: list[float]) -> Routed:
    """One token, one candidate a layer."""
    routed = by_hand([[[expert] for expert in experts]])
    return routed._replace(block=routed.block._replace(probs=np.float16(probs)[None, :, None]))


def test_multi_layer_weighs_the_last_four_layers() -> None:
    table = predict("multi_layer", with_probs([3, 5, 3, 1], [0.8, 0.75, 0.5, 1.0]), depth=2)
    # Layer 1: expert 5 gets 0.4 * 0.75 and 3 gets 0.3 * 0.8, of 0.7 in all.
    # Layer 2: expert 3 gets 0.4 * 0.5 + 0.2 * 0.8 and 5 gets 0.3 * 0.75, of 0.9 in all.
    assert candidates(table) == [[3], [5, 3], [3, 5], []]
    assert confidence(table) == [[0.8], [0.429, 0.343], [0.4, 0.25], []]
    assert candidates(table, depth=2) == [[3], [5, 3], [], []]


def test_multi_layer_forgets_the_fifth_last_layer() -> None:
    table = predict("multi_layer", with_probs([7, 1, 2, 3, 4, 0], [1.0] * 6))
    assert candidates(table)[3:5] == [[3, 2, 1, 7], [4, 3, 2, 1]]
    assert confidence(table)[4] == [0.4, 0.3, 0.2, 0.1]


def with_lookahead(experts: Any, lookahead: Any) -> Routed:
    """Look-ahead [tokens][L][D][M]."""
    ahead = np.array(lookahead, np.int16)
    routed = by_hand(experts, lookahead_depth=ahead.shape[2])
    return routed._replace(block=routed.block._replace(lookahead=ahead))


EXPERTS = [[[3, 1], [2, 5], [6, 4]], [[0, 7], [1, 2], [5, 3]]]
AHEAD = [  # over one layer and over two
    [[[2, 4], [4, 6]], [[6, 1], [-1, -1]], [[-1, -1], [-1, -1]]],
    [[[0, 1], [3, 5]], [[5, 2], [-1, -1]], [[-1, -1], [-1, -1]]],
]


def test_lookahead_by_rank_and_nothing_across_steps() -> None:
    table = predict("lookahead", with_lookahead(EXPERTS, AHEAD), depth=2)
    assert candidates(table) == [[2, 4], [6, 1], [], [0, 1], [5, 2], []]
    assert candidates(table, depth=2) == [[4, 6], [], [], [3, 5], [], []]
    assert confidence(table)[0] == [1.0, 0.5]


def test_lookahead_is_as_sure_as_the_train_split_says() -> None:
    routed = with_lookahead(EXPERTS, AHEAD)
    table = predict("lookahead", routed, routed, depth=2)
    # Layer 1: its first candidate was used by one token of two, its second by the other. Layer 2: the first by both.
    assert confidence(table) == [[0.5, 0.5], [1.0, 0.0], [], [0.5, 0.5], [1.0, 0.0], []]
    # Over two layers: rank 0 never, rank 1 always, so that comes first.
    assert candidates(table, depth=2)[0] == [6, 4]
    assert confidence(table, depth=2)[0] == [1.0, 0.0]


@pytest.mark.parametrize(("depth", "width"), [(1, 2), (2, 1), (1, 1)])
def test_lookahead_fitted_to_less_goes_by_rank_beyond(depth: int, width: int) -> None:
    routed = with_lookahead(EXPERTS, AHEAD)
    narrow = np.array(AHEAD, np.int16)[:, :, :depth, :width]
    train = with_lookahead(np.array(EXPERTS)[..., :width], narrow)
    fitted, plain = (predict("lookahead", routed, known, depth=2) for known in (train, None))
    assert fitted.confidence[0, 0, 0] == 0.5
    if depth == 1:
        np.testing.assert_array_equal(fitted.confidence[:, 1], plain.confidence[:, 1])
    if width == 1:
        assert fitted.confidence[0, 0, 1] == plain.confidence[0, 0, 1] == 0.5


@pytest.mark.parametrize(("changes", "recorded"), [({"has_lookahead": False}, 0), ({"lookahead_depth": 2}, 2)])
def test_lookahead_no_deeper_than_recorded(changes: dict[str, Any], recorded: int) -> None:
    with pytest.raises(InputError, match=f"3 layers ahead asked, .* has {recorded} recorded: `specmoe collect"):
        predict("lookahead", tiny_routed(**changes), depth=3)


@pytest.mark.parametrize("phase", ["decode", "encode"])
@pytest.mark.parametrize("batch", [1, 4])
def test_pregated_is_the_next_layers_demand_and_nothing_across_steps(phase: Any, batch: int) -> None:
    routed = tiny_routed(60, batch, mean_length=15, phase=phase)
    workload = routed.workload
    for event, found in enumerate(candidates(predict("pregated", routed))):
        if event % META.num_layers == META.num_layers - 1:
            assert found == []
        else:
            span = slice(workload.offsets[event + 1], workload.offsets[event + 2])
            assert sorted(found) == workload.experts[span].tolist()


def test_all_says_everybody_but_across_steps() -> None:
    routed = by_hand([[[3], [1]], [[3], [2]]])
    assert candidates(predict("all", routed)) == [list(range(8)), [], list(range(8)), []]
    assert candidates(make_predictor("all").guess(routed)) == [[list(range(8)), []]] * 2


def test_demands_by_hand_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    routed = by_hand([[[3], [1]], [[3], [2]], [[0], [2]]], sequence=[0, 1, 2], batch=2)
    wanted = [[[3], [1, 2]], [[0], [2]]]
    for cells in (1 << 22, 1):
        monkeypatch.setattr(module, "DEMAND_CELLS_PER_BLOCK", cells)
        found = np.concatenate(list(demands(routed.workload)))
        assert [[np.flatnonzero(layer).tolist() for layer in step] for step in found] == wanted
