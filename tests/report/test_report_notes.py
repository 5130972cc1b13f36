"""What is marked on the first screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_cases import of_class, parsed, reported, sweep_dir, text, validation_dir
from sweep_rows import failed, row, table

import specmoe.traces
from specmoe.analysis.report import read_inputs
from specmoe.analysis.report.opening import notes_of
from specmoe.analysis.trace.job import analyze, save_analysis

SOUND: dict[str, Any] = {"evidence": "measured"}


def told(tmp_path: Path, *rows: dict[str, Any]) -> list[str]:
    return list(map(str, notes_of(read_inputs([sweep_dir(tmp_path, table(*rows))]))))


def test_sound_results_have_none(tmp_path: Path) -> None:
    assert told(tmp_path / "swept", row(**SOUND)) == []
    page = reported(tmp_path / "page.html", tmp_path / "swept")
    assert of_class(parsed(page), "notes") == []


@pytest.mark.parametrize("kind", ["random", "synthetic"])
def test_routing_that_no_model_learnt(kind: str, tmp_path: Path) -> None:
    (note,) = told(tmp_path, row(trace_kind=kind, **SOUND), row("static", **SOUND))
    assert note.startswith(f"{kind.capitalize()} routing: ")


@pytest.mark.parametrize("kind", ["pretrained", "trained-here"])
def test_routing_of_trained_models(kind: str, tmp_path: Path) -> None:
    assert told(tmp_path, row(trace_kind=kind, **SOUND)) == []


def test_random_routing_in_an_analysis(tmp_path: Path, make_trace: Callable[..., Path]) -> None:
    (tmp_path / "routing").mkdir()
    save_analysis(analyze(specmoe.traces.open(str(make_trace(60)))), tmp_path / "routing")
    (note,) = notes_of(read_inputs([tmp_path / "routing"]))
    assert note.what == "Random routing"


def test_failed_calibration(tmp_path: Path) -> None:
    warning = "box: its calibration missed its target: worst held-out error 9.0 %, at most 4 % expected"
    assert told(tmp_path, row(warnings=[warning, "something else"], **SOUND)) == [f"Failed calibration: {warning}."]


def test_assumed_values_are_counted(tmp_path: Path) -> None:
    (note,) = told(tmp_path, row(assumed=["d", "a", "b"]), row("static", assumed=["c", "a"]))
    assert note == "Assumed, not measured: results depend on these values: a, b, c and 1 more."


def test_one_assumed_value(tmp_path: Path) -> None:
    (note,) = told(tmp_path, row(assumed=["a"]))
    assert note.endswith("these values: a.")


def test_failed_cells(tmp_path: Path) -> None:
    (note,) = told(tmp_path, row(**SOUND), failed("lookahead"), failed("static"))
    assert note == f"Failed cells: 2 of 3 in {tmp_path.name}; its table says why."


def test_failed_validation(tmp_path: Path) -> None:
    validation_dir(tmp_path, "good")
    validation_dir(tmp_path, "bad", missed=("worst error",))
    (note,) = notes_of(read_inputs([tmp_path]))
    assert str(note) == "Failed validation: bad missed a target (see Validation)."


def test_a_validation_of_another_version(tmp_path: Path) -> None:
    sweep_dir(tmp_path, table(row(**SOUND)))
    validation_dir(tmp_path, version="0.0.1")
    (note,) = notes_of(read_inputs([tmp_path]))
    assert str(note) == "Validation of another version: box, while the results are of specmoe 0.1.0."


def test_they_are_marked_on_the_first_screen(tmp_path: Path) -> None:
    sweep_dir(tmp_path / "swept", table(row(trace_kind="random", assumed=["a"]), failed("static")))
    (header,) = parsed(reported(tmp_path / "page.html", tmp_path / "swept")).iter("header")
    (listed,) = of_class(header, "notes")
    assert [text(note[0]) for note in listed] == ["Random routing", "Assumed, not measured", "Failed cells"]
    assert {note[0].tag for note in listed} == {"strong"}
