"""Figures of layers, neighbours, routers and domains: by hand, closed forms, against scipy."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from random_traces import META, random_block
from trace_cases import block_of, random_routing, routing_of

from specmoe.analysis.trace import layers as persist
from specmoe.analysis.trace.domains import (
    cv_of_sample,
    domain_information,
    domain_pairs,
    domains,
    total_variation,
    uses_by_source,
    variation_by_chance,
)
from specmoe.analysis.trace.layers import layers, spread, usage
from specmoe.analysis.trace.predictability import table_accuracy
from specmoe.analysis.trace.routing import (
    BEST,
    RouterStudy,
    as_block,
    conditional_entropy,
    confidence,
    entropy,
    lookahead_accuracy,
    mutual_information,
    places,
    read_routing,
    source_of_sequence,
    study_router,
)
from specmoe.sim.speculate.scoring import ceilings as scoring
from specmoe.traces import Trace, write_trace
from specmoe.traces.schema import join, no_lookahead, regroup
from specmoe.traces.summary import expert_counts

COUNTS = st.lists(st.integers(0, 50), min_size=2, max_size=40).filter(lambda uses: len(set(uses)) > 1)


def test_by_hand_spread() -> None:
    use = spread(np.array([4, 2, 2, 0]))
    assert (use.total, use.mean, use.median, use.min, use.max) == (8, 2, 2, 0, 4)
    assert (use.q1, use.q3, use.iqr) == (1.5, 2.5, 1.0)
    assert use.std == pytest.approx(math.sqrt(2))
    assert use.cv == pytest.approx(math.sqrt(2) / 2)
    assert (use.skewness, use.kurtosis) == (0, pytest.approx(-1))  # moments 2, 0, 8: 8 / 4 - 3
    assert use.entropy_bits == 1.5
    assert (use.active, use.unused, use.top_share) == (3, 1, 0.5)


@pytest.mark.parametrize("experts", [2, 16, 128])
def test_closed_form_even_use(experts: int) -> None:
    use = spread(np.full(experts, 7))
    assert use.entropy_bits == pytest.approx(np.log2(experts))
    assert (use.cv, use.active, use.unused, use.top_share, use.iqr) == (0, experts, 0, 1 / experts, 0)
    assert math.isnan(use.skewness) and math.isnan(use.kurtosis)


def test_a_layer_without_uses() -> None:
    use = spread(np.zeros(4, np.int64))
    assert (use.total, use.active, use.unused, use.entropy_bits) == (0, 0, 4, 0)
    assert math.isnan(use.cv) and math.isnan(use.top_share)


@given(COUNTS)
def test_differential_scipy(uses: list[int]) -> None:
    found, values = spread(np.array(uses)), np.array(uses)
    assert found.skewness == pytest.approx(scipy.stats.skew(values), abs=1e-9)
    assert found.kurtosis == pytest.approx(scipy.stats.kurtosis(values), abs=1e-9)
    assert found.entropy_bits == pytest.approx(scipy.stats.entropy(values, base=2))
    assert found.cv == pytest.approx(scipy.stats.variation(values))
    assert found.iqr == pytest.approx(scipy.stats.iqr(values))


def test_by_hand_layers_and_usage() -> None:
    routing = routing_of([[0, 2], [0, -1], [1, 2]], sequence=[0, 0, 1], source=[0, 0, 1])
    uses = expert_counts(routing.used, 3)
    table = layers(routing, RouterStudy(*np.full((3, 2), np.nan)), uses)
    assert table["layer"].tolist() == [0, 1]
    assert table["total"].tolist() == [3, 2]
    assert table["dropped"].tolist() == [0, 1]
    assert table["persistence"].tolist()[0] == 1.0 and np.isnan(table["persistence"].tolist()[1])
    assert usage(uses).to_dict("list") == {
        "layer": [0, 0, 0, 1, 1, 1],
        "expert": [0, 1, 2, 0, 1, 2],
        "uses": [2, 1, 0, 0, 0, 2],
    }


def test_by_hand_persistence_stays_within_a_sequence() -> None:
    routing = routing_of([[1, 0], [1, 2], [1, 2], [1, 3]], sequence=[0, 0, 1, 1])
    assert persist.persistence(routing.used, routing.sequence).tolist() == [1.0, 0.0]


def test_persistence_ignores_dropped_tokens() -> None:
    routing = routing_of([[1], [-1], [-1], [4], [4]])
    assert persist.persistence(routing.used, routing.sequence).tolist() == [1.0]


def test_by_hand_persistence_of_two_experts() -> None:
    # 2 of {1, 2} come again in {2, 3}, none of {2, 3} in {0, 1}: 1 of 4 uses.
    routing = routing_of([[(1, 2)], [(2, 3)], [(0, 1)]])
    assert persist.persistence(routing.used, routing.sequence).tolist() == [0.25]


def test_no_neighbours_no_persistence() -> None:
    routing = routing_of([[1], [1]], sequence=[0, 1])
    assert np.isnan(persist.persistence(routing.used, routing.sequence)).all()


@pytest.mark.parametrize("top_k", [1, 2])
def test_closed_form_persistence_by_chance(top_k: int) -> None:
    """Independent draws repeat as often as `by_chance` says."""
    routing = random_routing(6000, top_k=top_k)
    uses = expert_counts(routing.used, 16)
    found = persist.persistence(routing.used, np.zeros_like(routing.sequence))
    assert found == pytest.approx(persist.by_chance(uses, top_k), abs=0.015)
    assert persist.by_chance(np.full((1, 8), 5), top_k) == pytest.approx([top_k / 8])
    assert np.isnan(persist.by_chance(np.zeros((1, 8), np.int64), top_k)).all()


@pytest.mark.parametrize(("depth", "best", "expected"), [(1, 1, [0.5, 0.0]), (1, 2, [1.0, 0.5]), (2, 1, [0.5])])
def test_by_hand_lookahead(depth: int, best: int, expected: list[float]) -> None:
    experts = np.array([[[0, 1], [2, 3], [4, 5]], [[1, 0], [3, 2], [5, 4]]], np.int16)
    one = np.array([[[2, 3], [5, 4], [-1, -1]], [[2, 3], [0, 1], [-1, -1]]], np.int16)
    two = np.array([[[4, 0], [-1, -1], [-1, -1]], [[4, 5], [-1, -1], [-1, -1]]], np.int16)
    made = block_of(routing_of([[0, 0, 0]] * 2))._replace(experts=experts, lookahead=np.stack([one, two], axis=2))
    assert lookahead_accuracy(made, depth, best).tolist() == expected


def test_dropped_tokens_are_no_targets_of_the_lookahead() -> None:
    experts = np.array([[[0, 1], [-1, 2]], [[0, 1], [2, 1]]], np.int16)
    made = block_of(routing_of([[0, 0]] * 2))._replace(experts=experts, lookahead=no_lookahead(experts))
    made.lookahead[:, 0, 0] = [[-1, 3], [2, 3]]
    assert lookahead_accuracy(made, 1, 1).tolist() == [1.0]


def test_study_of_routers_is_that_of_all_rows(tmp_path: Path) -> None:
    meta = dataclasses.replace(META, candidates=10)
    parts = [random_block(n, meta, seed, start=100 * seed) for seed, n in enumerate((30, 50))]
    write_trace(tmp_path / "t.parquet", meta, parts)
    found, block = study_router(Trace(tmp_path / "t.parquet")), join(parts)
    assert found.confidence.tolist() == confidence(block.probs[:, :, 0]).tolist()
    for column, best in ((found.lookahead_top1, 1), (found.lookahead_top8, BEST)):
        assert np.isnan(column[0])
        assert column[1:].tolist() == lookahead_accuracy(block, 1, best).tolist()
    assert found.lookahead_top8[1] > found.lookahead_top1[1]


def test_routers_that_nobody_recorded(tmp_path: Path) -> None:
    meta = dataclasses.replace(META, has_probs=False, has_lookahead=False)
    write_trace(tmp_path / "t.parquet", meta, [random_block(9, meta)])
    assert np.isnan(np.stack(study_router(Trace(tmp_path / "t.parquet")))).all()


def test_confidence_leaves_out_what_is_not_known() -> None:
    probs = np.array([[0.5, np.nan], [0.25, 0.75], [1.0, np.nan]], np.float16)
    assert confidence(probs).tolist() == [0.5, 0.75]


def test_by_hand_tables() -> None:
    train = block_of(routing_of([[5], [5], [6], [7]]))
    test = block_of(routing_of([[5], [6], [5], [7]]))
    seen, asked = np.array([0, 0, 1, 1], np.int32), np.array([0, 1, 9, 9], np.int32)
    # Key 0 names 5, key 1 names 6 (a tie with 7), the unknown key 9 names the favourite, 5.
    assert table_accuracy(train, test, [(seen, asked)]).tolist() == [0.75]


def test_closed_form_domain_decides_everything() -> None:
    routing = routing_of([[0], [1], [2], [3]] * 250, source=[0, 1, 2, 3] * 250)
    assert domain_information(routing.source, routing.first, 4) == pytest.approx([2.0], abs=0.01)


def test_independent_domains_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    source, first = rng.integers(14, size=4000).astype(np.int16), rng.integers(64, size=(4000, 3)).astype(np.int16)
    assert np.abs(domain_information(source, first, 64)).max() < 0.03


def test_by_hand_total_variation() -> None:
    assert total_variation(np.array([1, 1, 0]), np.array([0, 2, 2])) == 0.5
    assert total_variation(np.array([3, 0]), np.array([0, 1])) == 1.0
    assert total_variation(np.array([3, 6]), np.array([1, 2])) == pytest.approx(0)


def test_variation_by_chance_is_that_of_samples() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(64, 2.0))
    pairs = [(rng.multinomial(900, shares), rng.multinomial(300, shares)) for _ in range(60)]
    seen = np.mean([total_variation(*pair) for pair in pairs])
    assert seen == pytest.approx(np.mean([variation_by_chance(*pair) for pair in pairs]), rel=0.03)


def test_by_hand_domains() -> None:
    # Source 0 uses 0, 0, 1, source 1 uses 2 at layer 0; both use 1 only at layer 1.
    routing = routing_of([[0, 1], [0, 1], [1, 1], [2, 1]], source=[0, 0, 0, 1])
    assert uses_by_source(routing.source, routing.used, 3).tolist() == [
        [[2, 1, 0], [0, 0, 1]],
        [[0, 3, 0], [0, 1, 0]],
    ]
    table = domains(routing)
    assert table["source"].tolist() == ["code", "prose"] * 2
    assert table["uses"].tolist() == [3, 1, 3, 1]
    assert table["active"].tolist() == [2, 1, 1, 1]
    assert table["variation"].tolist() == [1, 1, 0, 0]
    assert table["entropy_bits"].tolist() == pytest.approx([0.9183, 0, 0, 0], abs=1e-4)
    assert table["corrected_bits"].tolist() == pytest.approx([0.9183 + 1 / (2 * 3 * np.log(2)), 0, 0, 0], abs=1e-4)
    assert table["cv"].tolist() == pytest.approx([(2 / 3) ** 0.5, *[2**0.5] * 3])
    assert table["top_share"].tolist() == pytest.approx([2 / 3, 1, 1, 1])
    pairs = domain_pairs(routing)
    assert pairs[["source", "other", "variation"]].to_numpy().tolist() == [["code", "prose", 0.5]]


def test_a_sample_is_less_even_by_what_chance_does() -> None:
    """The root mean square CV of multinomial samples, and the limits: of many uses that of the counts themselves."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, 32)
    shares = counts / counts.sum()
    samples = rng.multinomial(200, shares, 4000)
    squares = (samples.std(axis=1) / samples.mean(axis=1)) ** 2
    assert cv_of_sample(counts, 200) == pytest.approx(np.sqrt(squares.mean()), rel=0.01)
    assert cv_of_sample(counts, 10**12) == pytest.approx(counts.std() / counts.mean())
    assert cv_of_sample(counts, 1) == pytest.approx(31**0.5), "one use is of one expert"


def test_one_domain_differs_from_nothing() -> None:
    routing = routing_of([[0, 1], [0, 1]])
    assert domains(routing)["variation"].isna().all()
    assert domain_pairs(routing).empty


def test_sources_without_tokens_are_left_out() -> None:
    routing = routing_of([[0], [1]], source=[0, 2], sources=("a", "b", "c"))
    assert domains(routing)["source"].tolist() == ["a", "c"]
    assert domain_pairs(routing)[["source", "other"]].to_numpy().tolist() == [["a", "c"]]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60))
def test_differential_entropies_are_those_of_scoring(pairs: list[tuple[int, int]]) -> None:
    context, value = np.array(pairs).T
    joint = np.zeros((6, 6), np.int64)
    np.add.at(joint, (context, value), 1)
    assert entropy(joint.sum(axis=0)) == pytest.approx(scoring.entropy(value))
    assert entropy(joint, corrected=False) == pytest.approx(scoring.entropy(6 * context + value, corrected=False))
    assert conditional_entropy(value, context) == pytest.approx(scoring.conditional_entropy(value, context))
    assert mutual_information(joint) == pytest.approx(entropy(joint.sum(axis=0)) - conditional_entropy(value, context))


def test_nothing_holds_no_bits() -> None:
    assert entropy(np.zeros(3, np.int64)) == 0
    assert conditional_entropy(np.array([], np.int16), np.array([], np.int64)) == 0


def test_reading_keeps_the_experts_used(tmp_path: Path) -> None:
    block = random_block(70, META)
    write_trace(tmp_path / "t.parquet", META, regroup([block], 16))
    routing = read_routing(Trace(tmp_path / "t.parquet"))
    for name in ("sequence", "source", "token"):
        assert getattr(routing, name).tolist() == getattr(block, name).tolist()
    assert routing.used.tolist() == block.experts[:, :, :2].tolist()
    assert as_block(routing).position.tolist() == block.position.tolist()


def test_by_hand_places_and_sequences() -> None:
    routing = routing_of([[0]] * 5, sequence=[7, 7, 9, 9, 9], source=[1, 1, 0, 0, 0])
    number, within = places(routing.sequence)
    assert number.tolist() == [0, 0, 1, 1, 1]
    assert within.tolist() == [0, 1, 0, 1, 2]
    names, sources, tokens = source_of_sequence(routing)
    assert (names.tolist(), sources.tolist(), tokens.tolist()) == ([7, 9], [1, 0], [2, 3])
