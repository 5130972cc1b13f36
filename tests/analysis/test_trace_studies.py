"""Order, company, working sets, batches, predictability, time: by hand, closed forms, brute force."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_cases import random_routing, routing_of

from specmoe.analysis.trace.domains import SLICES, USES, timeline
from specmoe.analysis.trace.predictability import predictability
from specmoe.analysis.trace.routing import stream
from specmoe.analysis.trace.transitions import SEQUENCES, TOKENS, sample_paths, transition_counts, transitions
from specmoe.analysis.trace.working_set import (
    MOST,
    WINDOW,
    batches,
    coactivation,
    deduplication,
    independent_union,
    sequence_sets,
    unit_of_token,
    window_sets,
    windows,
)
from specmoe.sim.speculate.scoring.ceilings import conditional_entropy


def test_by_hand_transitions() -> None:
    routing = routing_of([[0, 1, 2], [0, 2, 2], [0, 1, -1]])
    assert transition_counts(routing.used, 0, 3).tolist() == [[0, 2, 1], [0, 0, 0], [0, 0, 0]]
    rows = transitions(routing).to_dict("split")["data"]
    assert rows == [
        [0, 0, 1, 2, pytest.approx(2 / 3)],
        [0, 0, 2, 1, pytest.approx(1 / 3)],
        [1, 1, 2, 1, 1.0],
        [1, 2, 2, 1, 1.0],
    ]


def test_by_hand_transitions_of_two_experts_count_all_pairs() -> None:
    routing = routing_of([[(0, 1), (2, 0)]])
    assert transition_counts(routing.used, 0, 3).tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 0]]


def test_one_layer_has_no_transitions() -> None:
    assert transitions(routing_of([[0], [1]])).empty


@given(st.integers(1, 60), st.integers(0, 20))
def test_property_transitions(tokens: int, seed: int) -> None:
    """Rows are distributions; each pair of a token that both layers serve is counted once."""
    routing = random_routing(tokens, seed)
    table = transitions(routing)
    assert table.groupby(["layer", "expert"])["probability"].sum().to_numpy() == pytest.approx(1)
    for layer, uses in table.groupby("layer")["uses"].sum().items():
        served = (routing.first[:, layer] >= 0) & (routing.first[:, layer + 1] >= 0)
        assert uses == 4 * served.sum()


def test_by_hand_coactivation_of_a_token() -> None:
    # Of 4 tokens 2 use {0, 1}, one {0, 2}, one {2, 3}: 0 comes in 3, 1 in 2, 2 in 2.
    routing = routing_of([[(0, 1)], [(1, 0)], [(0, 2)], [(2, 3)]])
    rows = coactivation(routing).to_dict("split")["data"]
    assert rows == [
        [0, 0, 1, 2, pytest.approx(4 * 2 / (3 * 2))],
        [0, 0, 2, 1, pytest.approx(4 * 1 / (3 * 2))],
        [0, 2, 3, 1, pytest.approx(4 * 1 / (2 * 1))],
    ]


def test_by_hand_coactivation_of_a_window() -> None:
    # Two windows, and a rest of 2 tokens that is no window: {0, 1} in both, 2 in the second only.
    routing = routing_of([[0]] * 7 + [[1]] + [[0], [1], [2], [2], [-1], [0], [0], [0]] + [[3]] * 2)
    assert WINDOW == 8
    assert unit_of_token(routing).tolist() == [0] * 8 + [1] * 8 + [-1] * 2
    rows = coactivation(routing).to_dict("split")["data"]
    assert rows == [[0, 0, 1, 2, 1.0], [0, 0, 2, 1, 1.0], [0, 1, 2, 1, 1.0]]


def test_coactivation_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    routing = random_routing(100)
    whole = coactivation(routing)
    monkeypatch.setattr("specmoe.analysis.trace.working_set.ROWS", 7)
    assert coactivation(routing).equals(whole)


@given(st.integers(0, 80), st.integers(1, 9), st.integers(0, 20))
def test_property_windows(tokens: int, size: int, seed: int) -> None:
    """Each window holds `size` neighbours of one sequence, and none is skipped over."""
    sequence = random_routing(tokens, seed).sequence
    found = windows(sequence, size)
    lengths = np.unique(sequence, return_counts=True)[1]
    assert found.max(initial=-1) + 1 == (lengths // size).sum()
    for window in range(int(found.max(initial=-1)) + 1):
        rows = np.flatnonzero(found == window)
        assert (rows == np.arange(rows[0], rows[0] + size)).all()
        assert len(set(sequence[rows].tolist())) == 1


def test_by_hand_working_sets() -> None:
    routing = routing_of([[0, 0], [1, 0], [1, 0], [2, -1], [2, 1]], sequence=[4, 4, 4, 4, 5], source=[0, 0, 0, 0, 1])
    rows = sequence_sets(routing).to_dict("split")["data"]
    assert rows == [[4, "code", 4, 4], [5, "prose", 1, 2]]
    sets = window_sets(routing).set_index("tokens")
    assert sets["windows"].to_dict() == {1: 5, 2: 2, 4: 1}
    assert sets["mean"].to_dict() == {1: pytest.approx(9 / 5), 2: 3.0, 4: 4.0}
    assert sets.loc[1, ["p10", "median", "p90"]].tolist() == [pytest.approx(1.4), 2, 2]


@given(st.integers(1, 60), st.integers(0, 20))
def test_differential_working_sets(tokens: int, seed: int) -> None:
    routing = random_routing(tokens, seed)
    wanted: dict[int, set[tuple[int, int]]] = {int(name): set() for name in routing.sequence}
    for name, token in zip(routing.sequence.tolist(), routing.used.tolist(), strict=True):
        wanted[name] |= {(layer, e) for layer, experts in enumerate(token) for e in experts if e >= 0}
    assert sequence_sets(routing).set_index("sequence")["experts"].to_dict() == {k: len(v) for k, v in wanted.items()}


@given(st.integers(1, 80), st.integers(0, 20))
def test_differential_windows_of_all_sizes(tokens: int, seed: int) -> None:
    routing = random_routing(tokens, seed)
    for size, mean in window_sets(routing)[["tokens", "mean"]].itertuples(index=False):
        found = windows(routing.sequence, size)
        sets = [routing.used[found == window] for window in range(found.max() + 1)]
        counted = [sum(len(set(rows[:, layer].ravel().tolist()) - {-1}) for layer in range(3)) for rows in sets]
        assert mean == pytest.approx(np.mean(counted))


def test_dropped_tokens_make_no_working_set() -> None:
    routing = routing_of([[-1], [-1]], num_experts=2)
    assert sequence_sets(routing)["experts"].tolist() == [0]
    assert window_sets(routing)["mean"].tolist() == [0, 0]


def test_by_hand_deduplication() -> None:
    # Two sequences of two tokens: steps {0, 0} and {1, 2}, at the second layer {0, -} and {0, 1}.
    routing = routing_of([[0, 0], [1, 0], [0, -1], [2, 1]], sequence=[0, 0, 1, 1])
    table = deduplication(routing).set_index(["batch", "layer"])
    assert table.loc[(1, 0), ["events", "tokens", "uses", "demanded", "saving"]].tolist() == [4, 1, 1, 1, 0]
    assert table.loc[(2, 0), ["events", "tokens", "uses", "demanded", "saving"]].tolist() == [2, 2, 2, 1.5, 0.25]
    assert table.loc[(2, 1), ["uses", "demanded"]].tolist() == [1.5, 1.5]
    # Layer 0's shares are 1/2, 1/4, 1/4: of two tokens 3/4 + 7/16 + 7/16 different ones.
    assert table.loc[(2, 0), "independent"] == pytest.approx(13 / 8)


@given(st.integers(2, 120), st.integers(0, 20), st.sampled_from(["encode", "decode"]))
def test_differential_deduplication(tokens: int, seed: int, phase: str) -> None:
    """What is demanded is the demand of the workload that policies are simulated on."""
    routing = random_routing(tokens, seed, phase=phase)
    for batch, table in deduplication(routing).groupby("batch"):
        workload = stream(routing, int(str(batch)))
        sizes = np.diff(workload.offsets).reshape(-1, 3)
        assert table["demanded"].to_numpy() == pytest.approx(sizes.mean(axis=0))
        assert table["uses"].sum() == pytest.approx(workload.tokens.sum() / workload.num_steps)
        assert (table["saving"].dropna() >= 0).all()


def test_closed_form_independent_tokens() -> None:
    """Tokens that are drawn independently want what `independent` says."""
    routing = random_routing(6000, top_k=2)
    shuffled = routing._replace(sequence=np.repeat(np.arange(64), 94)[:6000].astype(np.int32))
    table = deduplication(shuffled)
    assert table["demanded"].to_numpy() == pytest.approx(table["independent"].to_numpy(), rel=0.02)
    assert independent_union(np.full(4, 0.25), np.array([0, 1, 2])) == pytest.approx([0, 1, 4 * (1 - 9 / 16)])


def test_batches_stop_at_the_sequences() -> None:
    assert batches(routing_of([[0]] * 5, sequence=[0, 1, 2, 3, 4])) == [1, 2, 4]
    assert batches(routing_of([[0]] * 200, sequence=range(200)))[-1] == MOST


def test_closed_form_predictability() -> None:
    """Layer 1 is layer 0 over again; the token id decides both; the token before tells nothing."""
    rng = np.random.default_rng(0)
    expert = rng.integers(4, size=8000)
    routing = routing_of(np.stack([expert, expert], axis=1).tolist(), token=(100 + expert).tolist())
    table = predictability(routing).set_index(["layer", "context"])
    assert table.loc[(1, "layer before"), ["bits", "left"]].tolist() == pytest.approx([2, 0], abs=0.01)
    assert table.loc[(0, "token id"), "told"] == pytest.approx(2, abs=0.01)
    assert table.loc[(0, "token before"), "told"] == pytest.approx(0, abs=0.01)
    assert (0, "layer before") not in table.index
    assert table["contexts"].eq(4).all()
    assert table.loc[(0, "token before"), "targets"] == 7999


def test_by_hand_contexts_leave_out_dropped_targets_only() -> None:
    routing = routing_of([[0, 1], [-1, 1], [0, -1], [1, 1]], sequence=[0, 0, 0, 1])
    table = predictability(routing).set_index(["layer", "context"])
    assert table.loc[(1, "layer before"), ["targets", "contexts"]].tolist() == [3, 3]
    assert table.loc[(0, "token before"), ["targets", "contexts"]].tolist() == [1, 1]  # after a dropped one
    assert "token id" not in {context for _, context in table.index}  # all alike: not recorded


@given(st.integers(2, 80), st.integers(0, 20))
def test_differential_predictability_is_as_scoring_has_it(tokens: int, seed: int) -> None:
    routing = random_routing(tokens, seed)
    table = predictability(routing).set_index(["layer", "context"])
    there = routing.first[:, 2] >= 0
    if there.any():
        value, context = routing.first[there, 2].astype(np.int64), routing.first[there, 1].astype(np.int64)
        assert table.loc[(2, "layer before"), "left"] == pytest.approx(conditional_entropy(value, context))


def test_by_hand_timeline() -> None:
    tokens = 2 * USES * 3
    routing = routing_of([[0]] * (tokens // 2) + [[1]] * (tokens // 2 - 1) + [[2]], num_experts=3)
    rows = timeline(routing).to_dict("split")["data"]
    assert rows == [[0, 0, 30, 0, 0, 30], [1, 30, 30, 0, 1, 29], [1, 30, 30, 0, 2, 1]]


@given(st.integers(1, 3000), st.integers(0, 3))
def test_property_timeline_holds_every_use(tokens: int, seed: int) -> None:
    routing = random_routing(tokens, seed)
    table = timeline(routing)
    assert table["uses"].sum() == (routing.used >= 0).sum()
    assert table["slice"].max() < SLICES
    counted = Counter(routing.used[routing.used >= 0].tolist())
    assert table.groupby("expert")["uses"].sum().to_dict() == counted
    assert (table["begin"] + table["tokens"]).max() == tokens


def test_by_hand_paths() -> None:
    rows = [[number, -1] for number in range(5)]
    routing = routing_of(rows, sequence=[0, 0, 1, 2, 2], source=[1, 1, 1, 0, 0])
    table = sample_paths(routing)
    # The first of prose, the first of code, then what is left.
    assert list(dict.fromkeys(table["sequence"])) == [0, 2, 1]
    assert table[table["sequence"] == 2][["source", "place", "layer", "expert"]].to_numpy().tolist() == [
        ["code", 0, 0, 3],
        ["code", 0, 1, -1],
        ["code", 1, 0, 4],
        ["code", 1, 1, -1],
    ]


def test_paths_are_few() -> None:
    table = sample_paths(routing_of([[0, 1]] * 200, sequence=[number // 20 for number in range(200)]))
    assert table.groupby("sequence").size().to_dict() == dict.fromkeys(range(SEQUENCES), 2 * TOKENS)
