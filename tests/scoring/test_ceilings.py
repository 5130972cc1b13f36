"""How predictable a source of known entropy is found to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_accuracy import routing
from tiny_routed import tiny_routed

from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.scoring.ceilings import ceilings, chance, codes, cross_entropy, refine, share_right, uniform
from specmoe.traces.workload import build

EXPERTS, STAYS = 8, 0.65
TRUE_BITS = -(STAYS * np.log2(STAYS) + 0.35 * np.log2(0.35 / 7))


def markov(tokens: int, seed: int, layers: int = 3) -> Routed:
    """Each layer's expert is the one before, plus 1, with probability STAYS, else any other alike."""
    rng = np.random.default_rng(seed)
    used = np.empty((tokens, layers), np.int64)
    used[:, 0] = rng.integers(EXPERTS, size=tokens)
    for layer in range(1, layers):
        step = np.where(rng.random(tokens) < STAYS, 1, rng.integers(2, EXPERTS + 1, size=tokens))
        used[:, layer] = (used[:, layer - 1] + step) % EXPERTS
    return of_experts(used[:, :, None], rng.integers(50, size=tokens))


def of_experts(used: Any, token: Any) -> Routed:
    routed = tiny_routed(len(used), num_layers=used.shape[1], num_experts=EXPERTS, top_k=1, candidates=1)
    block = routed.block._replace(experts=used.astype(np.int16), token=np.asarray(token, np.int32))
    return Routed(build(block, routed.workload.meta), block)


def test_witten_bell_on_paper() -> None:
    # Context 0 is followed by 1, 1, 2; context 5 by nothing.
    model = refine(uniform(2, 4), np.array([0, 0, 0]), np.array([1, 1, 2]), np.array([0, 5]))
    assert model[0].tolist() == pytest.approx([0.1, (2 + 0.5) / 5, (1 + 0.5) / 5, 0.1])
    assert model[1].tolist() == pytest.approx([0.25] * 4)


def test_every_row_is_a_distribution() -> None:
    rng = np.random.default_rng(0)
    context, value, asked = (rng.integers(top, size=90) for top in (20, 6, 30))
    model = refine(refine(uniform(90, 6), 0 * context, value, 0 * asked), context, value, asked)
    assert model.sum(axis=1) == pytest.approx(np.ones(90))
    assert (model > 0).all()


def test_surprise_and_accuracy_of_a_model_on_paper() -> None:
    model = np.array([[0.5, 0.5], [0.25, 0.75]])
    assert cross_entropy(model, np.array([0, 0])) == pytest.approx(1.5)
    assert share_right(model, np.array([0, 0])) == 0.5  # of equals the lowest


def test_a_markov_source_between_its_bounds() -> None:
    found = ceilings(markov(4000, 1), markov(6000, 0))
    assert found["nothing"]["entropy_bits"] == pytest.approx(3, abs=0.01)
    assert found["expert"]["entropy_bits"] == pytest.approx(TRUE_BITS, abs=0.03)
    assert found["expert"]["fano_accuracy"] == pytest.approx(STAYS, abs=0.02)  # all wrong ones are alike
    assert found["expert"]["held_out_accuracy"] == pytest.approx(STAYS, abs=0.02)
    for name in ("expert", "two experts", "token + expert"):
        assert found[name]["entropy_bits"] <= TRUE_BITS + 0.03
        assert found[name]["held_out_bits"] >= TRUE_BITS - 0.03


def test_held_out_surprise_is_above_the_truth_and_falls_with_more_to_learn_from() -> None:
    few, many = (
        np.mean([ceilings(markov(1000, seed), markov(size, seed + 50))["expert"]["held_out_bits"] for seed in range(6)])
        for size in (100, 3000)
    )
    assert TRUE_BITS < many < few


def test_sparse_contexts_seem_to_tell_what_they_do_not() -> None:
    rng = np.random.default_rng(0)
    train, test = (of_experts(rng.integers(EXPERTS, size=(600, 2, 1)), rng.integers(400, size=600)) for _ in range(2))
    found = ceilings(test, train)
    assert found["token + expert"]["entropy_bits"] < 1.5  # truly 3
    assert found["token + expert"]["held_out_bits"] > 3 - 0.05


def test_contexts_are_those_of_layers_before_and_of_the_token() -> None:
    routed = routing([[[1], [2], [3]], [[4], [5], [6]]], [0, 0])
    found = codes(routed, 2)
    assert found.value.tolist() == [3, 6]
    assert found.contexts["expert"].tolist() == [3, 6]  # 2 and 5, for 0 is a dropped token
    assert found.contexts["two experts"].tolist() == [3 + 9 * 2, 6 + 9 * 5]
    assert codes(routed, 1).contexts["two experts"].tolist() == [2, 5]


def test_dropped_tokens_are_no_targets() -> None:
    found = codes(routing([[[1], [-1]], [[-1], [5]]], [0, 0], dropless=False), 1)
    assert found.value.tolist() == [5]
    assert found.contexts["expert"].tolist() == [0]


def test_without_token_ids_there_is_no_token_context() -> None:
    blind = markov(50, 0)
    blind = blind._replace(block=blind.block._replace(token=np.zeros_like(blind.block.token)))
    assert list(ceilings(blind, blind)) == ["nothing", "expert", "two experts"]
    assert list(ceilings(markov(50, 1), blind)) == ["nothing", "expert", "two experts"]


def test_the_layers_favourite_is_what_is_known_from_nothing() -> None:
    train = routing([[[0], [3]], [[0], [3]], [[0], [1]]], [0, 0, 0])
    test = routing([[[0], [3]], [[0], [1]]], [0, 0])
    assert ceilings(test, train)["nothing"]["held_out_accuracy"] == 0.5


def test_layers_and_their_mean() -> None:
    found = ceilings(markov(300, 1), markov(300, 0))["expert"]
    assert len(found["per_layer"]) == 2
    for figure in ("entropy_bits", "held_out_bits", "fano_accuracy", "held_out_accuracy"):
        assert found[figure] == pytest.approx(np.mean([layer[figure] for layer in found["per_layer"]]))


def test_chance() -> None:
    assert chance(4) == {"top1": 0.25, "top2": 0.5, "top4": 1, "top8": 1}
