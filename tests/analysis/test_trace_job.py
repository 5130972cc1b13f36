"""The whole analysis of a trace: on odd traces, on disk, in sentences, on the bundled traces."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from random_traces import META
from trace_cases import random_trace

import specmoe.traces
from specmoe.analysis.trace.findings import findings, plain
from specmoe.analysis.trace.job import analyze, load_analysis, save_analysis, work
from specmoe.analysis.trace.tables import TABLES, Analysis, shaped
from specmoe.errors import InputError
from specmoe.traces import Trace, write_trace
from specmoe.traces.synthesize import Counts, synthesize

ODD: dict[str, tuple[int, dict[str, Any]]] = {
    "plain": (60, {}),
    "empty": (0, {}),
    "one token": (1, {}),
    "one layer": (40, {"num_layers": 1}),
    "one source": (40, {"sources": ("a",)}),
    "one expert": (10, {"num_experts": 1, "top_k": 1, "candidates": 1}),
    "top-1": (40, {"top_k": 1}),
    "nothing recorded": (30, {"has_probs": False, "has_lookahead": False}),
    "encode": (60, {"phase": "encode"}),
    "deep": (30, {"num_layers": 40, "phase": "encode", "top_k": 1}),
}


def analysis_of(directory: Path, n: int, name: str = "a name", **changes: Any) -> Analysis:
    write_trace(directory / "t.parquet", *random_trace(n, 3, **changes))
    return analyze(Trace(directory / "t.parquet"), name=name, batches=[1, 4])


@pytest.mark.parametrize("kind", ODD)
def test_odd_traces_are_kept_as_they_are(kind: str, tmp_path: Path) -> None:
    """Facts are JSON, tables have their columns, and both come back from disk."""
    tokens, changes = ODD[kind]
    made = analysis_of(tmp_path, tokens, **changes)
    files = save_analysis(made, tmp_path)
    assert [path.name for path in files] == [*(f"{name}.parquet" for name in made.tables), "analysis.json"]
    back = load_analysis(tmp_path)
    assert back.facts == made.facts
    assert made.tables.keys() == back.tables.keys() == TABLES.keys()
    for name, table in made.tables.items():
        assert list(table.columns) == list(TABLES[name])
        pd.testing.assert_frame_equal(table, back.tables[name])
    assert made.facts["tokens"] == tokens
    assert made.facts["findings"]
    json.dumps(made.facts, allow_nan=False)


def test_facts_say_where_they_come_from(tmp_path: Path) -> None:
    facts = analysis_of(tmp_path, 60).facts
    assert facts["trace"]["name"] == "a name"
    assert facts["trace"]["kind"] == "random"
    assert facts["trace"]["hash"] == hashlib.sha256((tmp_path / "t.parquet").read_bytes()).hexdigest()
    assert facts["semantics"] == "event-atomic"
    assert facts["warnings"] == list(META.warnings) != []
    assert facts["uses"] == 60 * 3 * 2
    assert [study["batch"] for study in facts["reuse"]] == [1, 4]
    assert len(facts["layers"]) == 3
    assert facts["tables"]["layers"]["cv"] == "std / mean"


def test_scalars_are_those_of_the_tables(tmp_path: Path) -> None:
    made = analysis_of(tmp_path, 80)
    curve = made.tables["miss-ratio"]
    for study in made.facts["reuse"]:
        for rate in study["hit_rates"]:
            row = curve[(curve["batch"] == study["batch"]) & (curve["slots"] == rate["slots"])].iloc[0]
            assert rate["lru"] == pytest.approx(row["lru_hits"] / study["demands"])
            assert rate["belady"] == pytest.approx(row["belady_hits"] / study["demands"])
    last = made.facts["deduplication"][-1]
    rows = made.tables["deduplication"].query(f"batch == {last['batch']}")
    assert last["demanded"] == pytest.approx(rows["demanded"].mean())
    assert made.facts["working_set"]["sequence"] == pytest.approx(made.tables["sequences"]["experts"].mean())
    assert made.facts["layers"][1]["entropy_bits"] == made.tables["layers"]["entropy_bits"][1]


def test_use_within_domains_stands_beside_their_mixture(tmp_path: Path) -> None:
    made = analysis_of(tmp_path, 80)
    use, mixture = (made.facts["domains"][name] for name in ("use", "mixture"))
    table = made.tables["domains"]
    for row in use:
        of = table[table["source"] == row["source"]]
        assert row["corrected_bits"] == {"min": of["corrected_bits"].min(), "mean": of["corrected_bits"].mean()} | {
            "max": of["corrected_bits"].max()
        }
        assert row["uses"] == of["uses"].mean()
    assert sum(row["uses"] for row in use) == mixture["uses"] == 160
    assert mixture["cv"]["max"] == pytest.approx(made.tables["layers"]["cv"].max())
    assert mixture["top_share"]["min"] == pytest.approx(made.tables["layers"]["top_share"].min())
    assert mixture["cv_of_sample"] > mixture["cv"]["mean"], "a smaller sample is less even"


def test_without_a_name_a_trace_goes_by_its_path(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.parquet", *random_trace(5))
    assert analyze(Trace(tmp_path / "t.parquet")).facts["trace"]["name"] == str(tmp_path / "t.parquet")


@pytest.mark.parametrize(("tokens", "batches"), [(60, [1]), (60, [1, 4, 4]), (0, [1])])
def test_the_work_is_told(tokens: int, batches: list[int], tmp_path: Path) -> None:
    write_trace(tmp_path / "t.parquet", *random_trace(tokens))
    told: list[int] = []
    analyze(Trace(tmp_path / "t.parquet"), told.append, batches=batches)
    assert min(told) >= 0
    assert sum(told) <= work(batches)
    assert tokens == 0 or sum(told) >= 0.8 * work(batches)


@pytest.mark.parametrize("batches", [[], [0], [2, -1]])
def test_a_batch_is_at_least_one(batches: list[int], tmp_path: Path) -> None:
    write_trace(tmp_path / "t.parquet", *random_trace(5))
    with pytest.raises(InputError, match="1 or more expected"):
        analyze(Trace(tmp_path / "t.parquet"), batches=batches)


def test_a_synthetic_trace(tmp_path: Path) -> None:
    """Stickiness is what repeats, on top of chance; layers are independent; the kind is said."""
    counts = np.tile(np.arange(1.0, 9.0), (2, 1))
    synthesize(Counts(counts, "test"), tmp_path / "t.parquet", tokens=4000, sequences=4, assumed_stickiness=0.5, seed=1)
    made = analyze(Trace(tmp_path / "t.parquet"))
    layers = made.tables["layers"]
    chance = layers["persistence_by_chance"]
    assert layers["persistence"].to_numpy() == pytest.approx(0.5 + 0.5 * chance, abs=0.03)
    before = made.tables["predictability"].query("context == 'layer before'")["told"].item()
    assert before == pytest.approx(0, abs=0.02)
    assert made.facts["warnings"] == ["routing is synthetic: no model produced it"]
    assert made.facts["trace"]["kind"] == "synthetic"


def test_golden_bundled_trace() -> None:
    """What the analysis says of a real trace, to the digits it prints."""
    made = analyze(specmoe.traces.open("switch-mini-128/decode/validation"), name="bundled", batches=[1])
    assert made.facts["findings"] == GOLDEN
    study = made.facts["reuse"][0]
    assert study["lru_hits_nothing_up_to"] == study["cliff_slots"] == 5


GOLDEN = [
    "A layer uses 128 of 128 experts, with 6.92 to 6.94 of 7.00 bits and 1.6 to 1.8 % of uses for its favourite: "
    "the mixture's use is even and popularity tells little; the text's domain tells 1.12 bits.",
    "Within one text domain a layer's use has 5.10 to 6.41 bits, corrected for the small sample, and a CV of 1.04 to "
    "2.97 (of as many uses of the mixture: 0.61); its favourite has 4.4 to 24.5 % of uses.",
    "At batch 1 an LRU over all layers hits nothing up to 5 slots; 40 % with 77 slots (10 % of the experts), "
    "where the best possible without prefetching is 60 %.",
    "Of the experts that a token uses, 4.5 % are those of the token before it (0.9 % by chance).",
    "An expert holds 6.9 bits of surprise; told at most: 1.6 by the token before, 2.7 by the layer before and 4.6 "
    "by the token id; a router asked one layer early names 59 % of first choices.",
    "A sequence uses 173 of all 768 experts (22 %), 8 tokens in a row 40.",
    "Loading each expert once for a batch of 64 saves 24 % of the loads that its tokens would need by themselves "
    "(21 % if they chose independently of each other).",
]


def test_findings_say_what_part_they_are_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specmoe.analysis.trace.routing.stream.__defaults__", (120,))
    made = analysis_of(tmp_path, 60)
    seen = made.facts["reuse"][0]["tokens"]
    assert 0 < seen < 60
    assert made.facts["findings"][2].startswith(f"At batch 1, over the first {seen} tokens, an LRU over all layers")


def test_estimates_below_nothing_are_told_as_nothing(tmp_path: Path) -> None:
    """Bias-corrected bits may come out a little below 0."""
    write_trace(tmp_path / "t.parquet", *random_trace(60))
    facts = analyze(Trace(tmp_path / "t.parquet")).facts
    low = [{**known, "told": -0.01} for known in facts["predictability"]]
    told = findings({**facts, "predictability": low, "domains": {**facts["domains"], "bits": -0.001}})
    assert "tells 0.00 bits" in told[0]
    assert not any("-0.0" in sentence for sentence in told)


def test_findings_of_an_empty_trace() -> None:
    assert findings({"uses": 0}) == ["The trace holds no use of any expert."]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.float64("nan"), None),
        (pd.NA, None),
        ({"a": (np.bool_(True), [math.nan, "x"])}, {"a": [True, [None, "x"]]}),
    ],
)
def test_plain_values(value: Any, expected: Any) -> None:
    assert plain(value) == expected


def test_tables_carry_their_meanings(tmp_path: Path) -> None:
    save_analysis(analysis_of(tmp_path, 20), tmp_path)
    for name, columns in TABLES.items():
        schema = pq.read_schema(tmp_path / f"{name}.parquet")
        assert [schema.field(key).metadata[b"meaning"].decode() for key in columns] == [
            column.meaning for column in columns.values()
        ]


def test_a_table_has_all_its_columns_even_if_empty() -> None:
    empty = shaped("miss-ratio", pd.DataFrame())
    assert list(empty.columns) == list(TABLES["miss-ratio"]) and empty.empty


def test_columns_that_are_missing_are_an_error() -> None:
    with pytest.raises(KeyError):
        shaped("usage", pd.DataFrame({"layer": [0], "expert": [0]}))


def damage(directory: Path, what: str) -> None:
    facts = directory / "analysis.json"
    if what == "no facts":
        facts.unlink()
    elif what == "no JSON":
        facts.write_text("{")
    elif what == "a list":
        facts.write_text("[]")
    elif what == "no table":
        (directory / "usage.parquet").unlink()
    elif what == "no Parquet":
        (directory / "usage.parquet").write_text("x")
    elif what == "another table":
        (directory / "usage.parquet").write_bytes((directory / "paths.parquet").read_bytes())


@pytest.mark.parametrize("what", ["no facts", "no JSON", "a list", "no table", "no Parquet", "another table"])
def test_what_is_no_analysis(what: str, tmp_path: Path) -> None:
    save_analysis(analysis_of(tmp_path, 20), tmp_path)
    damage(tmp_path, what)
    with pytest.raises(InputError, match="not an analysis of specmoe") as error:
        load_analysis(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("table", "column"), [("usage", "expert"), ("paths", "sequence"), ("paths", "place")])
def test_a_row_without_its_place_in_a_figure_is_an_error(table: str, column: str, tmp_path: Path) -> None:
    made = analysis_of(tmp_path, 20)
    frame = made.tables[table].assign(**{column: None})
    save_analysis(dataclasses.replace(made, tables={**made.tables, table: frame}), tmp_path)
    with pytest.raises(InputError, match=f"table {table}: {column}: an empty place"):
        load_analysis(tmp_path)


def test_an_analysis_without_sequences_is_an_error(tmp_path: Path) -> None:
    made = analysis_of(tmp_path, 20)
    tables = {**made.tables, "sequences": made.tables["sequences"][:0]}
    save_analysis(dataclasses.replace(made, tables=tables), tmp_path)
    with pytest.raises(InputError, match="table sequences: the length of a sequence expected"):
        load_analysis(tmp_path)


def test_another_versions_analysis(tmp_path: Path) -> None:
    made = analysis_of(tmp_path, 20)
    save_analysis(dataclasses.replace(made, facts={**made.facts, "schema": 99}), tmp_path)
    with pytest.raises(InputError, match="schema 99: 2 expected; run `specmoe analyze` again"):
        load_analysis(tmp_path)
