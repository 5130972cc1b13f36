"""Statistics of routing: by hand, closed forms, properties, and the page they fill."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_traces import META, random_block

from specmoe.analysis import routing
from specmoe.traces import Block, write_trace
from specmoe.traces.schema import no_lookahead

DOCS = Path(__file__).parents[2] / "docs"


def block(first: list[list[int]], sequence: list[int] | None = None, source: list[int] | None = None) -> Block:
    """One candidate a layer; rows are tokens, columns layers."""
    experts = np.array(first, np.int16)[:, :, None]
    n = len(experts)
    return Block(
        sequence=np.array(sequence or [0] * n, np.int32),
        position=np.arange(n, dtype=np.int32),
        source=np.array(source or [0] * n, np.int16),
        token=np.zeros(n, np.int32),
        experts=experts,
        probs=np.full(experts.shape, 0.5, np.float16),
        lookahead=no_lookahead(experts),
    )


def test_by_hand_usage() -> None:
    use = routing.usage(np.array([4, 2, 2, 0]))
    assert use.entropy_bits == 1.5
    assert use.active_experts == 3
    assert use.top_share == 0.5
    assert use.variation == pytest.approx(np.sqrt(2) / 2)


@pytest.mark.parametrize("experts", [2, 16, 128])
def test_closed_form_even_use(experts: int) -> None:
    use = routing.usage(np.full(experts, 7))
    assert use.entropy_bits == pytest.approx(np.log2(experts))
    assert (use.variation, use.active_experts, use.top_share) == (0, experts, 1 / experts)


def test_by_hand_counts_leave_out_dropped_tokens() -> None:
    assert routing.counts(block([[0, 1], [-1, 1], [2, -1]]), 3).tolist() == [[1, 0, 1], [0, 2, 0]]


def test_by_hand_persistence_stays_within_a_sequence() -> None:
    found = routing.persistence(block([[1, 0], [1, 2], [1, 2], [1, 3]], sequence=[0, 0, 1, 1]))
    assert found.tolist() == [1.0, 0.0]


def test_persistence_ignores_dropped_tokens() -> None:
    found = routing.persistence(block([[1], [-1], [-1], [4], [4]]))
    assert found.tolist() == [1.0]


@pytest.mark.parametrize(("depth", "best", "expected"), [(1, 1, [0.5, 0.0]), (1, 2, [1.0, 0.5]), (2, 1, [0.5])])
def test_by_hand_lookahead(depth: int, best: int, expected: list[float]) -> None:
    experts = np.array([[[0, 1], [2, 3], [4, 5]], [[1, 0], [3, 2], [5, 4]]], np.int16)
    one = np.array([[[2, 3], [5, 4], [-1, -1]], [[2, 3], [0, 1], [-1, -1]]], np.int16)
    two = np.array([[[4, 0], [-1, -1], [-1, -1]], [[4, 5], [-1, -1], [-1, -1]]], np.int16)
    made = block([[0, 0, 0]] * 2)._replace(experts=experts, lookahead=np.stack([one, two], axis=2))
    assert routing.lookahead_accuracy(made, depth, best).tolist() == expected


def test_closed_form_domain_decides_everything() -> None:
    rows = [[0], [1], [2], [3]] * 250
    told = routing.domain_information(block(rows, source=[0, 1, 2, 3] * 250), 4)
    assert told == pytest.approx([2.0], abs=0.01)


def test_independent_domains_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(64, size=(4000, 3)).tolist()
    told = routing.domain_information(block(rows, source=rng.integers(14, size=4000).tolist()), 64)
    assert np.abs(told).max() < 0.03


def test_by_hand_tables() -> None:
    train = block([[5], [5], [6], [7]])
    test = block([[5], [6], [5], [7]])
    seen, asked = np.array([0, 0, 1, 1], np.int32), np.array([0, 1, 9, 9], np.int32)
    # Key 0 names 5, key 1 names 6 (a tie with 7), the unknown key 9 names the favourite, 5.
    assert routing.table_accuracy(train, test, [(seen, asked)]).tolist() == [0.75]


@given(st.integers(2, 200), st.integers(0, 50))
def test_property_ranges(tokens: int, seed: int) -> None:
    made = random_block(tokens, dataclasses.replace(META, top_k=1), seed)
    for use in map(routing.usage, routing.counts(made, META.num_experts)):
        assert 0 <= use.entropy_bits <= 4.000001
        assert 1 / 16 <= use.top_share <= 1
    all_eight = routing.lookahead_accuracy(made, 1, 4)
    assert (all_eight >= routing.lookahead_accuracy(made, 1, 1)).all()


def page_script() -> Any:
    spec = importlib.util.spec_from_file_location("build_routing", DOCS / "build_routing.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_lookahead_is_measured_at_three_depths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = page_script()
    meta = dataclasses.replace(META, num_layers=6, candidates=8, lookahead_depth=3)
    traces = {phase: random_block(50, meta, seed) for seed, phase in enumerate(script.PHASES)}
    for phase, rows in traces.items():
        write_trace(tmp_path / f"{phase}.parquet", dataclasses.replace(meta, phase=phase), [rows])
    monkeypatch.setattr(script, "RUNS", tmp_path)
    (tmp_path / script.MODEL).mkdir()
    script.write_lookahead(tmp_path)
    measured = json.loads((tmp_path / script.MODEL / "lookahead.json").read_text())
    committed = json.loads((DOCS / "runs" / script.MODEL / "lookahead.json").read_text())
    for phase, rows in traces.items():
        for depth in (1, 2, 3):
            found = measured[phase][str(depth)]
            assert found.keys() == committed[phase][str(depth)].keys()
            assert found["top4"] == routing.lookahead_accuracy(rows, depth, 4).tolist()
            assert len(found["top1"]) == len(committed[phase][str(depth)]["top1"]) == 6 - depth


def test_the_page_is_what_the_data_give() -> None:
    script = page_script()
    page = (DOCS / "routing.md").read_text()
    assert "| 5 | 6." in page
    assert script.filled(page, *script.measure()) == page
