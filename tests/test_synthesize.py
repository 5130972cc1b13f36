"""Synthetic traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError
from specmoe.traces import Trace
from specmoe.traces.summary import expert_counts
from specmoe.traces.synthesize import best_candidates, best_of, load_counts, stick, synthesize
from specmoe.traces.validation import validate

# Experts 0-7 of the first and the last encoder MoE layer of google/switch-base-128 on real text:
# github.com/cyanmishra92/specMoE (MIT), routing_data, July 2025.
SWITCH_BASE_128 = {
    "origin": "an excerpt of google/switch-base-128",
    "expert_counts": {
        "11": {"0": 7397, "1": 276, "2": 0, "3": 617, "4": 5793, "5": 880, "6": 147, "7": 0},
        "1": {"0": 747, "1": 1352, "2": 1127, "3": 7673, "4": 1379, "5": 1286, "6": 3070, "7": 639},
    },
}


def counts_file(folder: Path, value: Any = SWITCH_BASE_128) -> Path:
    (folder / "counts.json").write_text(json.dumps(value))
    return folder / "counts.json"


def made(folder: Path, **changes: Any) -> Trace:
    options: dict[str, Any] = {"tokens": 50, "sequences": 4, "assumed_stickiness": 0.5, "seed": 0, "candidates": 4}
    synthesize(load_counts(counts_file(folder)), folder / "t.parquet", **options | changes)
    return Trace(folder / "t.parquet")


def test_layers_and_experts_are_read_in_numeric_order(tmp_path: Path) -> None:
    counts = load_counts(counts_file(tmp_path))
    assert counts.origin == "an excerpt of google/switch-base-128"
    assert counts.values[0, 3] == 7673
    assert counts.values[1, 5] == 880


def test_everything_says_that_it_is_synthetic(tmp_path: Path) -> None:
    meta = made(tmp_path, assumed_stickiness=0.25).meta
    assert (meta.kind, meta.origin, meta.has_probs, meta.has_lookahead) == ("synthetic", "synthetic", False, False)
    assert "assumed_stickiness = 0.25" in meta.notes
    assert "expert counts: an excerpt of google/switch-base-128" in meta.notes
    assert "synthetic" in meta.warnings[0]


@examples(20)
@given(
    tokens=st.integers(1, 300),
    data=st.data(),
    stickiness=st.floats(0, 1),
    candidates=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_what_is_made_is_valid(
    tmp_path_factory: pytest.TempPathFactory,
    tokens: int,
    data: st.DataObject,
    stickiness: float,
    candidates: int,
    seed: int,
) -> None:
    sequences = data.draw(st.integers(1, tokens))
    folder = tmp_path_factory.mktemp("t")
    trace = made(
        folder, tokens=tokens, sequences=sequences, assumed_stickiness=stickiness, candidates=candidates, seed=seed
    )
    assert validate(trace) == tokens
    lengths = np.bincount(trace.sequence)
    assert len(lengths) == sequences
    assert lengths.max() - lengths.min() <= 1


def test_sticking_by_hand() -> None:
    fresh = np.array([[1, 5], [2, 6], [3, 7]], np.int16)
    repeats = np.array([[True, False], [True, True], [False, True]])
    previous = np.array([9, 8], np.int16)
    assert stick(fresh, repeats, previous).tolist() == [[9, 5], [9, 5], [3, 5]]


def test_candidates_by_hand() -> None:
    scores = np.log(np.array([[[0.1, 0.4, 0.2, 0.3]]]))
    assert best_candidates(scores.copy(), np.array([[1]], np.int16), 3).tolist() == [[[1, 3, 2]]]
    assert best_candidates(scores.copy(), np.array([[0]], np.int16), 3).tolist() == [[[0, 1, 3]]]


def test_of_equal_scores_the_first_are_the_best() -> None:
    scores = np.array([[3.0, 1.0, 2.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0], [-np.inf, 5.0, -np.inf, 1.0, 4.0]])
    assert best_of(scores, 3).tolist() == [[0, 1, 2], [0, 1, 2], [1, 3, 4]]
    assert best_of(scores, 4).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 3, 4]]


@pytest.mark.parametrize("stickiness", [0.0, 0.6])
def test_shares_are_the_counts_whatever_the_stickiness(tmp_path: Path, stickiness: float) -> None:
    trace = made(tmp_path, tokens=60_000, sequences=300, assumed_stickiness=stickiness)
    counts = load_counts(tmp_path / "counts.json").values
    wanted = counts / counts.sum(axis=1, keepdims=True)
    found = expert_counts(trace.experts[..., :1], 8) / len(trace)
    np.testing.assert_allclose(found, wanted, atol=0.015)


def test_the_chance_of_repeating(tmp_path: Path) -> None:
    stickiness = 0.6
    trace = made(tmp_path, tokens=60_000, sequences=300, assumed_stickiness=stickiness)
    counts = load_counts(tmp_path / "counts.json").values
    shares = counts / counts.sum(axis=1, keepdims=True)
    by_chance = (shares**2).sum(axis=1)
    used = trace.experts[:, :, 0]
    same = (used[1:] == used[:-1])[trace.position[1:] > 0].mean(axis=0)
    np.testing.assert_allclose(same, stickiness + (1 - stickiness) * by_chance, atol=0.015)


def test_extremes(tmp_path: Path) -> None:
    frozen = made(tmp_path, assumed_stickiness=1.0)
    for number in range(4):
        used = frozen.experts[frozen.sequence == number, :, 0]
        assert (used == used[0]).all()


def test_chunks_do_not_break_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specmoe.traces.synthesize.DRAWS_PER_BLOCK", 16 * 7)
    frozen = made(tmp_path, sequences=1, assumed_stickiness=1.0)
    assert (frozen.experts[:, :, 0] == frozen.experts[0, :, 0]).all()
    assert validate(frozen) == 50


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    first = made(tmp_path).path.read_bytes()
    assert made(tmp_path).path.read_bytes() == first
    assert made(tmp_path, seed=1).path.read_bytes() != first


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[int] = []
    made(tmp_path, advance=seen.append)
    assert sum(seen) == 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 3}, "4 sequences of 3 tokens"),
        ({"sequences": 0}, "0 sequences"),
        ({"assumed_stickiness": 1.5}, "assumed stickiness 1.5: a probability expected"),
        ({"assumed_stickiness": float("nan")}, "a probability expected"),
        ({"candidates": 8}, "8 candidates: 1..6"),
        ({"candidates": 0}, "0 candidates"),
    ],
)
def test_numbers_out_of_range(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(tmp_path, **changes)
    assert not (tmp_path / "t.parquet").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "JSON of the form"),
        ([], "JSON of the form"),
        ({"expert_counts": {}}, "equal numbers of experts"),
        ({"expert_counts": {"0": {}}}, "equal numbers of experts"),
        ({"expert_counts": {"a": {"0": 1}}}, "JSON of the form"),
        ({"expert_counts": {"0": {"0": 1, "2": 1}}}, "JSON of the form"),
        ({"expert_counts": {"0": {"0": 1}, "1": {"0": 1, "1": 1}}}, "equal numbers of experts"),
        ({"expert_counts": {"0": {"0": -1, "1": 2}}}, "layer 0: numbers of 0 or more"),
        ({"expert_counts": {"0": {"0": 0, "1": 0}}}, "layer 0: numbers of 0 or more, not all 0"),
    ],
)
def test_counts_that_are_none(tmp_path: Path, value: Any, message: str) -> None:
    path = counts_file(tmp_path, value)
    with pytest.raises(InputError, match=message) as caught:
        load_counts(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a JSON file \(No such file"):
        load_counts(tmp_path / "absent.json")
