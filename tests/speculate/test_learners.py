"""Predictors that learn, by hand and in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from routing_by_hand import by_hand, candidates, confidence, predict
from tiny_routed import tiny_routed

from specmoe.sim.speculate.predictor import Guess, Routed, targets
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.sim.speculate.predictors.counted import grown, interpolate
from specmoe.sim.speculate.predictors.matched import likeness, representatives, unit


def right(routed: Routed, guess: Guess, depth: int, rows: slice) -> list[bool]:
    """Whether first guesses at one depth of single-sequence rows are what layer l + depth then used."""
    experts = routed.block.experts[..., 0].astype(int)
    layer, wraps = targets(experts.shape[1], depth)
    found = []
    for row in range(len(experts))[rows]:
        for at in range(experts.shape[1]):
            then = row + wraps[at, depth - 1]
            if then < len(experts):
                truth = experts[then, layer[at, depth - 1]]
                found.append(bool(guess.experts[row, at, depth - 1, 0] == truth))
    return found


# previous_step


def test_previous_step_repeats_the_last_token_and_learns_how_often_that_was_right() -> None:
    table = predict("previous_step", by_hand([[[3], [1]], [[3], [2]], [[0], [2]]]), depth=2)
    # Event (row, 0) is about layer 1, whose last is the token before's; (row, 1) about layer 0, which is routed.
    assert candidates(table) == [[], [3], [1], [3], [2], [0]]
    # 1/2 before any try; then layer 0 repeated once of once (2/3) and layer 1 never (1/3).
    assert confidence(table) == [[], [0.5], [0.5], [0.5], [0.333], [0.667]]
    assert candidates(table, depth=2) == [[3], [1], [3], [2], [0], [2]]


def test_previous_step_names_all_of_top_k_and_the_rank_that_repeats_more_comes_first() -> None:
    table = predict("previous_step", by_hand([[[4, 5]], [[5, 6]], [[5, 7]]], top_k=2))
    # From row 0 to row 1 the first choice (4) went and the second (5) stayed.
    assert candidates(table) == [[4, 5], [5, 6], [7, 5]]
    assert confidence(table) == [[0.5, 0.5], [0.5, 0.5], [0.667, 0.333]]


def test_previous_step_is_silent_where_nothing_came_before() -> None:
    assert predict("previous_step", tiny_routed(phase="encode"), depth=3).is_empty


# frequency


def test_frequency_counts_tokens_of_steps_before() -> None:
    table = predict("frequency", by_hand([[[3], [1]], [[3], [2]], [[0], [2]]]))
    # Event (s, 0) predicts layer 1 of step s; event (s, 1) predicts layer 0 of step s + 1.
    assert candidates(table) == [[], [], [1], [3], [1, 2], [3]]
    assert confidence(table) == [[], [], [1.0], [1.0], [0.5, 0.5], [1.0]]


def test_frequency_goes_on_from_the_train_split() -> None:
    train = by_hand([[[5], [6]], [[5], [7]], [[4], [7]]])
    table = predict("frequency", by_hand([[[3], [1]], [[3], [7]]]), train)
    assert candidates(table) == [[7, 6], [5, 4], [7, 1, 6], [5, 3, 4]]
    assert confidence(table) == [[0.667, 0.333], [0.667, 0.333], [0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]


def test_frequency_of_a_batch_is_what_any_of_its_tokens_may_want() -> None:
    routed = by_hand([[[2]], [[2]], [[3]], [[1]], [[1]], [[4]]], sequence=range(6), batch=3)
    table = predict("frequency", routed)
    assert candidates(table) == [[], [2, 3]]
    assert confidence(table)[1] == pytest.approx([1 - (1 / 3) ** 3, 1 - (2 / 3) ** 3], abs=1e-3)


def test_frequency_fades_by_half_within_the_half_life() -> None:
    table = predict("frequency", by_hand([[[2]], [[3]], [[3]]]), half_life=1)
    assert candidates(table) == [[], [2], [3, 2]]
    assert confidence(table)[2] == [0.667, 0.333]
    assert confidence(predict("frequency", by_hand([[[2]], [[3]], [[3]]]), half_life=1e9))[2] == [0.5, 0.5]


# Witten & Bell


def test_a_context_never_seen_says_what_the_wider_one_says() -> None:
    wider = np.array([0.5, 0.25, 0.25])
    assert interpolate(np.zeros(3), wider, 1).tolist() == wider.tolist()


def test_interpolation_by_hand_and_sums() -> None:
    # Three visits, two kinds: two parts in five are the wider one's.
    found = interpolate(np.array([2.0, 1.0, 0.0]), np.array([0.25, 0.25, 0.5]), 1)
    assert found.tolist() == pytest.approx([2.5 / 5, 1.5 / 5, 1 / 5])
    of_two = interpolate(np.array([3.0, 2.0, 1.0]), np.array([1.0, 0.5, 0.5]), 2)
    assert of_two.sum() == pytest.approx(2)


def test_growing_doubles_and_keeps() -> None:
    rows = np.arange(3)
    assert grown(rows, 3) is rows
    assert grown(rows, 4).tolist() == [0, 1, 2, 0, 0, 0]
    assert len(grown(rows, 10)) == 10


# transition


def test_transition_by_hand() -> None:
    table = predict("transition", by_hand([[[1], [2]], [[4], [5]], [[1], [2]]]))
    # (1, 0): 4 is new, so layer 1's popularity. (2, 0): after 1 came 2 once; half is popularity's, 1/2 each.
    # (1, 1): 5 is new: layer 0's popularity. (2, 1): after 2 came 4; half is popularity's, 1 and 4 alike.
    assert candidates(table) == [[], [], [2], [1], [2, 5], [4, 1]]
    assert confidence(table) == [[], [], [1.0], [1.0], [0.75, 0.25], [0.75, 0.25]]


def cycle(tokens: int = 20, layers: int = 3) -> Routed:
    """Expert e at a layer is followed by e + 1 at the next, and in the next token."""
    experts = np.add.outer(np.arange(tokens), np.arange(layers)) % 8
    return by_hand(experts[..., None], token=np.arange(tokens) % 8)


@pytest.mark.parametrize("name", ["transition", "transition-2", "token_identity"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_cycle_is_known_from_its_second_round(name: str, depth: int) -> None:
    routed = cycle()
    guess = make_predictor(name, {"depth": depth}).guess(routed)
    assert all(right(routed, guess, depth, slice(9, None)))
    assert not all(right(routed, guess, depth, slice(0, 4)))


@pytest.mark.parametrize("name", ["transition", "transition-2", "token_identity"])
def test_a_cycle_is_known_from_the_train_split(name: str) -> None:
    predictor = make_predictor(name, {"depth": 3, "online": False})
    predictor.fit(cycle())
    guess = predictor.guess(cycle())
    assert all(all(right(cycle(), guess, depth, slice(1, None))) for depth in (1, 2, 3))


def parity(tokens: int = 200) -> Routed:
    """Two layers of fair coins; the third layer's expert says whether they fell alike."""
    coins = np.random.default_rng(0).integers(2, size=(tokens, 2))
    return by_hand(np.column_stack([coins, coins.sum(axis=1) % 2])[..., None])


def test_only_the_second_order_knows_parity() -> None:
    routed = parity()
    first, second = (
        make_predictor(name).guess(routed).experts[20:, 1, 0, 0] for name in ("transition", "transition-2")
    )
    truth = routed.block.experts[20:, 2, 0]
    assert (second == truth).all()
    assert 0.35 < (first == truth).mean() < 0.65


def test_the_second_order_falls_back_to_the_first() -> None:
    train = by_hand([[[1], [2], [3]], [[4], [5], [6]]])
    table = predict("transition-2", by_hand([[[7], [2], [0]]]), train)
    # 7, 2 was never seen, but 2 was: 3 followed; half is popularity's, 3 and 6 alike.
    assert candidates(table)[1] == [3, 6]
    assert confidence(table)[1] == [0.75, 0.25]


def test_by_hand_experts_that_disagree_leave_what_is_popular() -> None:
    train = by_hand([[[1, 2], [3, 4]], [[5, 6], [3, 7]]], top_k=2)
    table = predict("transition", by_hand([[[1, 5], [0, 2]]], top_k=2), train)
    # Popularity: 3 always, 4 and 7 half the time. After 1: (1 + 2 * 1, 1 + 2 * 0.5, 2 * 0.5) / 3 of 3, 4, 7; after 5
    # the same with 4 and 7 changed.
    assert candidates(table)[0] == [3, 4, 7]
    assert confidence(table)[0] == [1.0, 0.5, 0.5]


def test_by_hand_experts_that_agree_say_it_louder() -> None:
    train = by_hand([[[1, 2], [3, 4]], [[5, 6], [3, 7]]], top_k=2)
    table = predict("transition", by_hand([[[1, 2], [0, 2]]], top_k=2), train)
    # After 1 and after 2: 2/3 of 4, odds of 2 against popularity's 1. Two such: 2 to the power of 2 / sqrt(2).
    odds = 2**2**0.5
    assert candidates(table)[0] == [3, 4, 7]
    assert confidence(table)[0] == pytest.approx([1.0, odds / (1 + odds), 1 / (1 + odds)], abs=6e-4)


def test_a_dropped_token_falls_back_to_popularity() -> None:
    train = by_hand([[[7], [3]], [[1], [2]], [[1], [2]]])
    routed = by_hand([[[-1], [2]]], dropless=False)
    assert candidates(predict("transition", routed, train))[0] == [2, 3]
    assert confidence(predict("transition", routed, train))[0] == [0.667, 0.333]


def test_two_steps_ahead_there_is_only_popularity() -> None:
    routed = cycle(tokens=17, layers=1)
    for name in ("transition", "transition-2"):
        ahead = predict(name, routed, depth=2)
        assert candidates(ahead)[16][0] == 1
        assert confidence(ahead, depth=2)[16] == [0.125] * 8


# adaptive


def test_adaptive_dares_more_the_better_it_was() -> None:
    layer_1 = [2, 2, 2, 3, 3, 2, 2, 2]
    routed = by_hand([[[1], [expert]] for expert in layer_1])
    table = predict("adaptive", routed, history=2, threshold=0.7, top=2)
    # Right twice by row 3, then wrong twice (none at row 5, though it would have been right), right again twice.
    assert candidates(table)[::2] == [[], [2], [2], [2], [2], [], [2], [2, 3]]
    assert candidates(table)[1::2] == [[]] * 8


def test_adaptive_names_its_best_only_before_it_learns() -> None:
    train = by_hand([[[1], [2]], [[1], [3]], [[1], [2]]])
    assert candidates(predict("adaptive", by_hand([[[1], [2]]]), train)) == [[2], []]
    assert candidates(predict("adaptive", by_hand([[[1], [2]]]), train, threshold=0.5)) == [[2, 3], []]


# activation_match

PAST = by_hand([[[1], [2]], [[1], [2]], [[5], [6]], [[5], [7]]], sequence=[0, 0, 1, 1])


def test_activation_match_follows_the_nearest_sequence() -> None:
    routed = by_hand([[[5], [6]], [[1], [6]], [[5], [6]]], sequence=[0, 1, 1])
    table = predict("activation_match", routed, PAST, online=False)
    # Row 0 is like the second sequence. Row 1 is like the first, by layer 0 alone (1) and with layer 1 (1 against
    # 0.71). Row 2: layer 0 is like both, layer 1 has been like the second's.
    assert candidates(table) == [[6, 7], [5], [2], [1], [6, 7], [5]]
    assert confidence(table)[::2] == [[0.5, 0.5], [1.0], [0.5, 0.5]]


def test_activation_match_collects_sequences_as_they_end() -> None:
    routed = by_hand([[[1], [2]], [[5], [6]], [[1], [0]], [[5], [0]]], sequence=[0, 1, 2, 3])
    assert candidates(predict("activation_match", routed))[::2] == [[], [], [2], [6]]
    # One place only: what is nearest gives way, and at row 3 that is the second sequence to the third.
    assert candidates(predict("activation_match", routed, capacity=1))[::2] == [[], [], [2], [6]]


def test_activation_match_of_an_encoders_sequence_knows_its_layers_so_far() -> None:
    routed = by_hand([[[5], [0]], [[5], [0]], [[1], [0]]], sequence=[0, 0, 1], phase="encode", batch=2)
    guess = make_predictor("activation_match", {"online": False})
    guess.fit(PAST)
    assert [row[0] for row in candidates(guess.guess(routed))] == [[6, 7], [6, 7], [2]]


def test_likeness_is_the_same_in_whatever_order_a_machine_adds() -> None:
    rng = np.random.default_rng(0)
    uses = rng.integers(0, 50, (40, 6 * 128))
    order = rng.permutation(6 * 128)
    vectors = unit(uses)
    assert (likeness(vectors, vectors.T) == likeness(vectors[:, order], vectors[:, order].T)).all()
    assert (unit(uses[:, order]) == vectors[:, order]).all()


def test_representatives_are_some_of_the_vectors_and_cover_them() -> None:
    rng = np.random.default_rng(0)
    vectors = unit(np.repeat(np.eye(4), 10, axis=0).astype(np.float32) + rng.random((40, 4)).astype(np.float32) / 10)
    chosen = representatives(vectors, 12, seed=0)
    assert len(chosen) <= 12
    assert set((chosen // 10).tolist()) == {0, 1, 2, 3}
    assert chosen.tolist() == representatives(vectors, 12, seed=0).tolist()
    assert representatives(vectors, 40, seed=0).tolist() == list(range(40))


# token_identity


def by_token(tokens: list[int]) -> Routed:
    experts = np.add.outer(3 * np.array(tokens), np.arange(3)) % 8
    return by_hand(experts[..., None], token=tokens)


def test_token_identity_is_perfect_where_the_id_decides() -> None:
    ids = np.random.default_rng(0).integers(8, size=80).tolist()
    predictor = make_predictor("token_identity", {"depth": 2})
    predictor.fit(by_token(ids))
    routed = by_token(ids[::-1])
    guess = predictor.guess(routed)
    assert (guess.experts[:, 0, :, 0] == routed.block.experts[:, 1:, 0]).all()
    assert (guess.experts[:, 1, 0, 0] == routed.block.experts[:, 2, 0]).all()


def test_token_identity_by_hand() -> None:
    table = predict("token_identity", by_hand([[[1], [2]], [[4], [5]], [[0], [7]]], token=[30, 40, 30]))
    # Row 2: id 30 had 2 at layer 1 (half of it popularity's 2 and 5); after id 30 came 4 (half popularity's 1 and 4).
    assert candidates(table) == [[], [], [2], [1], [2, 5], [4, 1]]
    assert confidence(table)[4:] == [[0.75, 0.25], [0.75, 0.25]]


def test_unseen_ids_fall_back_to_popularity() -> None:
    train = by_hand([[[1], [2]], [[1], [2]], [[1], [3]]], token=[5, 5, 6])
    known: Any = {"online": False}
    table = predict("token_identity", by_hand([[[1], [2]]], token=[9_999]), train, **known)
    assert candidates(table) == [[2, 3], [1]]
    assert confidence(table) == [[0.667, 0.333], [1.0]]
