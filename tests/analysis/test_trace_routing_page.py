"""The page that statistics of routing fill."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from doc_pages import builder_of
from random_traces import META, random_block

import specmoe.traces
from specmoe.analysis.trace.routing import lookahead_accuracy
from specmoe.traces import write_trace

DOCS = Path(__file__).parents[2] / "docs"


def page_script(name: str = "build_routing") -> Any:
    return builder_of(name.removeprefix("build_"))


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
            assert found["top4"] == lookahead_accuracy(rows, depth, 4).tolist()
            assert len(found["top1"]) == len(committed[phase][str(depth)]["top1"]) == 6 - depth


def test_the_page_is_what_the_data_give() -> None:
    script = page_script()
    page = (DOCS / "routing.md").read_text()
    assert "| 5 | 6." in page
    assert script.filled(page, *script.measure()) == page


def test_the_hits_of_a_domain_are_those_of_the_page() -> None:
    script = page_script()
    kept = json.loads((DOCS / "runs" / script.MODEL / "hits.json").read_text())
    assert list(kept) == ["", *sorted(specmoe.traces.open(f"{script.MODEL}/decode/test").meta.sources)]
    assert script.hits("legal") == kept["legal"]


def test_what_is_said_of_popularity_by_hand() -> None:
    domains = [
        {"static": 0.50, "on-demand-lru": 0.40, "on-demand-lfu-perfect": 0.40},
        {"static": 0.30, "on-demand-lru": 0.32, "on-demand-lfu-perfect": 0.33},
    ]
    assert page_script().hits_reading(domains, domains[1]).replace("\n", " ") == (
        "Within a domain `static` has more hits than the LRU in 1 of 2 domains (-2 to +10 percentage points), and "
        "`on-demand-lfu-perfect` in 1. On the mixture they have 30 % and 33 % against 32 %."
    )


def test_the_decoder_beside_gpt_oss_is_what_the_bundled_trace_gives() -> None:
    script, page = page_script("build_decoder"), (DOCS / "routing.md").read_text()
    assert script.filled(page) == page
    kept = json.loads((script.RUN / "routing.json").read_text())
    assert script.measure(specmoe.traces.open(script.BUNDLED)) == kept["decoder-mini-64"]
