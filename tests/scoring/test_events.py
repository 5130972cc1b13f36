"""What prefetching would fetch, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from test_accuracy import FIVE, GUESSED, guess_of, routing

from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.speculate.predictor import PredictionTable, no_predictions
from specmoe.sim.speculate.predictors import PREDICTORS, make_predictor
from specmoe.sim.speculate.scoring.evaluate import prefetching, rule_of, table_of


def table(rows: list[list[int]], confidence: float = 0.5) -> PredictionTable:
    experts = np.array(rows, np.int16)[:, None]
    return PredictionTable(experts, np.where(experts >= 0, confidence, 0).astype(np.float32))


TWO = routing([[[1], [2]], [[3], [4]]], [0, 0]).workload  # events demand 1, 2, 3, 4


def test_four_events_on_paper() -> None:
    found = prefetching(table([[2, 7], [0, 3], [-1, -1], [5, 5]]), TWO, limit=2)
    assert found.precision == 2 / 4  # the last event's is about nothing that runs
    assert found.recall == 2 / 3  # of 2, 3 and 4
    assert found.per_event == 4 / 4


def test_the_limit_cuts_candidates_and_the_threshold_the_unsure() -> None:
    predicted = table([[2, 7], [0, 3], [4, 0], [-1, -1]])
    assert prefetching(predicted, TWO, limit=1)[:2] == (2 / 3, 2 / 3)
    assert prefetching(predicted, TWO, limit=1, threshold=0.5)[:2] == (2 / 3, 2 / 3)
    assert prefetching(predicted, TWO, limit=1, threshold=0.6)[:2] == (None, 0)


def test_who_says_nothing_fetches_nothing() -> None:
    assert prefetching(no_predictions(TWO.num_events), TWO, limit=3) == (None, 0, 0)


def test_demand_of_a_step_of_many_tokens_counts_each_expert_once() -> None:
    encoded = routing([[[1], [2]], [[1], [2]], [[3], [4]]], [0, 0, 0], phase="encode")
    predictor = make_predictor("layer_minus_1")
    guessed = guess_of([[[[2]], [[-1]]], [[[2]], [[-1]]], [[[7]], [[-1]]]])
    found = prefetching(table_of(predictor, guessed, encoded), encoded.workload, limit=8)
    assert found == (1 / 2, 1 / 2, 2 / 2)


def test_the_limit_is_that_of_the_first_policy_with_the_predictor() -> None:
    for name in PREDICTORS:
        rule = next((row.prefetch for row in POLICIES.values() if row.predictor == name and row.prefetch), None)
        assert rule_of(name, 8).limit == (1 if rule is None else min(rule.limit, 8))
    assert rule_of("pregated", 8).limit == 8
    assert rule_of("unheard of", 8).limit == 1


@pytest.mark.parametrize("name", ["all", "layer_minus_1"])
def test_the_table_is_the_first_depth_of_what_predict_says(name: str) -> None:
    predictor = make_predictor(name)
    guessed, said = predictor.guess(FIVE), predictor.predict(FIVE)
    found = table_of(predictor, guessed, FIVE)
    assert found.experts.tolist() == said.experts.tolist()
    assert found.confidence == pytest.approx(said.confidence)


def test_only_one_layer_ahead_is_pooled() -> None:
    assert table_of(make_predictor("layer_minus_1"), GUESSED, FIVE).depth == 1
