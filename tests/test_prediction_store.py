"""Prediction tables on disk: round trips, and what is not read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError
from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.predictor import PredictionTable, no_predictions
from specmoe.sim.speculate.predictors.counted import Transition
from specmoe.sim.speculate.store import METADATA_KEY, cached, load, save
from specmoe.summary import summary

ABOUT = {"predictor": "p", "depth": 2}


def table(events: int = 5, depth: int = 2, width: int = 3, seed: int = 0) -> PredictionTable:
    rng = np.random.default_rng(seed)
    shape = (events, depth, width)
    return PredictionTable(rng.integers(-1, 9, shape).astype(np.int16), rng.random(shape).astype(np.float32))


@examples(30)
@given(shape=st.tuples(st.integers(0, 6), st.integers(1, 3), st.integers(0, 4)), peeks=st.booleans())
def test_what_was_saved_is_loaded(shape: tuple[int, int, int], peeks: bool, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("p") / "t.parquet"
    saved = dataclasses.replace(table(*shape), peeks=peeks)
    save(saved, path, "trace", "predictor", ABOUT)
    found = load(path, "trace", "predictor")
    assert found.experts.tolist() == saved.experts.tolist()
    assert found.confidence.tolist() == saved.confidence.tolist()
    assert (found.experts.dtype, found.confidence.dtype, found.peeks) == (np.int16, np.float32, peeks)
    assert found.experts.shape == found.confidence.shape == shape


def test_a_row_an_event_and_the_rest_is_json(tmp_path: Path) -> None:
    save(table(), tmp_path / "t.parquet", "trace", "predictor", ABOUT)
    raw = pq.read_table(tmp_path / "t.parquet")
    assert raw.num_rows == 5
    assert raw.schema.field("experts").type == pa.list_(pa.int16(), 6)
    about = json.loads(raw.schema.metadata[METADATA_KEY])
    assert (about["trace"], about["predictor"], about["depth"], about["width"]) == ("trace", "predictor", 2, 3)
    assert about["described"] == ABOUT
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


@pytest.mark.parametrize(("asked", "told"), [(("other", "p"), "another trace"), (("t", "other"), "another predictor")])
def test_predictions_of_something_else(asked: tuple[str, str], told: str, tmp_path: Path) -> None:
    save(table(), tmp_path / "t.parquet", "t", "p", ABOUT)
    with pytest.raises(InputError, match=told) as caught:
        load(tmp_path / "t.parquet", *asked)
    assert "\n" not in str(caught.value)
    assert load(tmp_path / "t.parquet", "t").depth == 2  # whoever made them


def _rewritten(path: Path, **changes: Any) -> None:
    save(table(), path, "t", "p", ABOUT)
    raw = pq.read_table(path)
    about = json.loads(raw.schema.metadata[METADATA_KEY]) | changes
    pq.write_table(raw.replace_schema_metadata({METADATA_KEY: json.dumps(about)}), path)


def _truncated(path: Path) -> None:
    save(table(), path, "t", "p", ABOUT)
    path.write_bytes(path.read_bytes()[:-30])


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: None,
    "a directory": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("no"),
    "another Parquet file": lambda path: pq.write_table(pa.table({"experts": [1]}), path),
    "fewer events than it says": lambda path: _rewritten(path, events=6),
    "another width than it says": lambda path: _rewritten(path, width=2),
    "a width that is none": lambda path: _rewritten(path, width="x"),
    "no list": lambda path: _rewritten(path, events=None),
    "half a file": _truncated,
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_one_line(make: Callable[[Path], Any], tmp_path: Path) -> None:
    make(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="not a table of predictions") as caught:
        load(tmp_path / "t.parquet", "t", "p")
    assert "\n" not in str(caught.value)


def test_a_later_format_is_not_read(tmp_path: Path) -> None:
    _rewritten(tmp_path / "t.parquet", format=99)
    with pytest.raises(InputError, match="another format"):
        load(tmp_path / "t.parquet", "t", "p")


def test_computed_once(tmp_path: Path) -> None:
    asked = []

    def compute() -> PredictionTable:
        asked.append(1)
        return table()

    one, other = (cached(tmp_path / "a" / "b", "t", ABOUT, compute) for _ in range(2))
    assert one.experts.tolist() == other.experts.tolist()
    assert len(asked) == 1
    cached(tmp_path / "a" / "b", "t", ABOUT | {"depth": 3}, compute)
    cached(tmp_path / "a" / "b", "u", ABOUT, compute)
    assert len(asked) == len(list((tmp_path / "a" / "b").iterdir())) == 3


# In whole runs


def test_a_second_run_predicts_nothing_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = RunConfig("switch-mini-128/decode/test", slots=40, steps=30)
    first = summary(Scenario(spec, tmp_path).run("transition").result)
    assert first == summary(Scenario(spec).run("transition").result)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(Transition, "guess", lambda *_: pytest.fail("predicted again"))
    assert summary(Scenario(spec, tmp_path).run("transition").result) == first


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 29},
        {"batch": 2},
        {"trace": "switch-mini-128/decode/train"},
        {"train": "switch-mini-128/decode/test"},
        {"settings": (("predictor.warm", False),)},
        {"settings": (("prefetch.depth", 2),)},
    ],
    ids=str,
)
def test_other_inputs_are_other_predictions(changes: dict[str, Any], tmp_path: Path) -> None:
    spec = RunConfig("switch-mini-128/decode/test", slots=40, steps=30)
    for one in (spec, dataclasses.replace(spec, **changes)):
        scenario = Scenario(one, tmp_path)
        scenario.predictions.of(scenario.policy("transition"))
    assert len(list(tmp_path.iterdir())) == 2


def test_other_slots_machines_and_limits_are_the_same_predictions(tmp_path: Path) -> None:
    spec = RunConfig("switch-mini-128/decode/test", slots=40, steps=30)
    for changes in ({}, {"slots": 9}, {"profile": "rtx4090"}, {"settings": (("prefetch.limit", 3),)}):
        Scenario(dataclasses.replace(spec, **changes), tmp_path).run("transition")
    assert len(list(tmp_path.iterdir())) == 1


def test_what_takes_no_time_is_not_kept(tmp_path: Path) -> None:
    spec = RunConfig("switch-mini-128/decode/test", slots=40, steps=5)
    for name in ("on-demand-lru", "pregated", "oracle"):
        Scenario(spec, tmp_path).run(name)
    assert not list(tmp_path.iterdir())
    assert no_predictions(3).is_empty
