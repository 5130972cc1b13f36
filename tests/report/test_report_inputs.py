"""What a directory is taken for, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from report_cases import VERSION, runs_dir, sweep_dir, timeline_dir, validation_dir

import specmoe.traces
from specmoe.analysis.report import read_inputs
from specmoe.analysis.trace.job import analyze, save_analysis
from specmoe.errors import InputError
from specmoe.sweep_table import SCHEMA


def complaint(*directories: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_inputs(directories)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_kind_is_known_by_what_is_in_it(tmp_path: Path, make_trace: Callable[..., Path]) -> None:
    (tmp_path / "routing").mkdir()
    save_analysis(analyze(specmoe.traces.open(str(make_trace(60)))), tmp_path / "routing")
    found = read_inputs(
        [
            sweep_dir(tmp_path / "swept"),
            runs_dir(tmp_path / "ran", "lookahead", "on-demand-lru"),
            validation_dir(tmp_path / "validated"),
            timeline_dir(tmp_path / "demo", "any name.json"),
            tmp_path / "routing",
        ]
    )
    assert [(study.name, len(study.table.rows)) for study in found.studies] == [("swept", 25), ("ran", 2)]
    assert [each.name for each in found.validations] == ["box"]
    assert found.timelines == (tmp_path / "demo" / "any name.json",)
    assert [each.facts["tokens"] for each in found.analyses] == [60]


def test_one_directory_may_hold_several_things(tmp_path: Path) -> None:
    sweep_dir(tmp_path)
    runs_dir(tmp_path, "lookahead")
    validation_dir(tmp_path)
    timeline_dir(tmp_path)
    found = read_inputs([tmp_path])
    assert [len(found.studies), len(found.validations), len(found.timelines), len(found.analyses)] == [2, 1, 1, 0]
    assert [study.name for study in found.studies] == [tmp_path.name, f"{tmp_path.name} (2)"]


def test_a_directory_named_twice_is_reported_once(tmp_path: Path) -> None:
    assert len(read_inputs([sweep_dir(tmp_path), tmp_path]).studies) == 1


def test_other_files_do_not_matter(tmp_path: Path, make_trace: Callable[..., Path]) -> None:
    runs_dir(tmp_path, "lookahead")
    make_trace(20)  # Parquet whose metadata have the name of a result's
    (tmp_path / "note.txt").write_text("?")
    (tmp_path / "list.json").write_text("[1, 2]")
    assert len(read_inputs([tmp_path]).studies) == 1


def test_nothing_in_it(tmp_path: Path) -> None:
    assert "nothing to report in it: a sweep, results" in complaint(tmp_path)


def test_no_directory(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none") == f"{tmp_path / 'none'}: no such directory"


def test_sweeps_of_two_versions(tmp_path: Path) -> None:
    one, other = sweep_dir(tmp_path / "one"), sweep_dir(tmp_path / "other", version="0.2.0")
    told = complaint(one, other)
    assert "one by specmoe 0.1.0 and other by specmoe 0.2.0" in told


def test_a_run_of_another_version_than_the_sweep(tmp_path: Path) -> None:
    told = complaint(sweep_dir(tmp_path / "swept"), runs_dir(tmp_path / "ran", "lookahead", version="9"))
    assert f"swept by specmoe {VERSION} and ran by specmoe 9" in told


def test_runs_of_two_versions_in_one_directory(tmp_path: Path) -> None:
    runs_dir(tmp_path, "lookahead", version="1")
    runs_dir(tmp_path, "static", "on-demand", version="2")
    told = complaint(tmp_path)
    assert "1-2.parquet by specmoe 1" in told
    assert "2-2.parquet by specmoe 2" in told


def test_another_schema_names_both(tmp_path: Path) -> None:
    sweep_dir(tmp_path)
    manifest = tmp_path / "sweep.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": SCHEMA + 1}))
    assert f"schema {SCHEMA + 1}: {SCHEMA} expected" in complaint(tmp_path)


def test_half_a_sweep(tmp_path: Path) -> None:
    (sweep_dir(tmp_path) / "sweep.parquet").unlink()
    assert "not a sweep of specmoe" in complaint(tmp_path)


def test_truncated_results(tmp_path: Path) -> None:
    (path,) = runs_dir(tmp_path, "lookahead").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:200])
    assert complaint(tmp_path).startswith(f"{path}: not a Parquet file, or only a part of one (")


def test_truncated_json(tmp_path: Path) -> None:
    path = validation_dir(tmp_path) / "box.json"
    path.write_text(path.read_text()[:50])
    assert complaint(tmp_path).startswith(f"{path}: not a JSON file, or only a part of one (")


def test_cells_of_another_validation(tmp_path: Path) -> None:
    cells = validation_dir(tmp_path) / "box.cells.parquet"
    pq.write_table(pq.read_table(cells).slice(1), cells)
    assert "not the one that box.json belongs to" in complaint(tmp_path)


def test_cells_are_missing(tmp_path: Path) -> None:
    (validation_dir(tmp_path) / "box.cells.parquet").unlink()
    assert "missing, or not the one" in complaint(tmp_path)


def test_a_validations_cells_are_what_figures_ask_for(tmp_path: Path) -> None:
    (found,) = read_inputs([validation_dir(tmp_path)]).validations
    held, fitted = found.cells
    assert [held.cell.group, fitted.cell.group] == ["model/decode/fp16/b1", "model/decode/int8>fp16/b1"]
    assert (held.cell.role, round(held.error, 9), held.measured.mean_ns, held.simulated.host_ns) == (
        "held_out",
        0.01,
        1e6,
        1.01e6,
    )
    assert found.worst == pytest.approx(0.03)
    assert found.circumstances.device_name == "A Card"
