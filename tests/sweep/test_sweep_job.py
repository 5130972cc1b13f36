"""A sweep's files: what is kept, what is found again, what is computed anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sweep_cases import LINK, TRACE, cell

from specmoe.errors import InputError
from specmoe.files import alone_in
from specmoe.sim.config import RunConfig
from specmoe.sim.sweep import grid as contents
from specmoe.sim.sweep import job
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.sim.sweep.grid import Contents
from specmoe.sim.sweep.job import Asked, Done, Parts, run_sweep
from specmoe.sim.sweep.workers import Workers
from specmoe.summary import FIGURES, KEYS, ORIGIN, Row
from specmoe.sweep_table import load_sweep

FOUR = [cell(name, {LINK: rate}, steps=10) for name in ("static", "lookahead") for rate in (3e9, 30e9)]


class Here(Executor):
    """Does the work at once."""

    def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **more))
        return future


def run(
    cells: list[RunConfig], out: Path, executor: Executor | None = None, most: int = 1 << 30, **question: Any
) -> Done:
    """A sweep, which is interrupted when so many cells are done."""

    @contextmanager
    def staff() -> Iterator[Workers]:
        yield Workers(executor or Here(), 2)

    def on_cells(done: int, total: int) -> None:
        assert total == len(cells)
        if done >= most:
            raise KeyboardInterrupt

    return run_sweep(Asked(cells, {"slots": [60], **question}, "specmoe sweep"), out, staff, on_cells)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _plain(value: Any) -> Any:
    """As a row has it."""
    return value.tolist() if isinstance(value, np.ndarray) else None if pd.isna(value) else value


def test_a_sweep_is_two_files(tmp_path: Path) -> None:
    done = run(FOUR, tmp_path / "new" / "out")
    assert names_in(tmp_path / "new" / "out") == ["sweep.json", "sweep.parquet"]
    assert (done.kept, done.computed) == (0, 4)
    read = load_sweep(tmp_path / "new" / "out")
    pd.testing.assert_frame_equal(read.rows, done.table.rows)
    assert list(read.rows.columns) == [*KEYS, f"set.{LINK}", *FIGURES, *ORIGIN]
    expected = evaluate(FOUR)
    for name in (*KEYS, *FIGURES, "cell", "evidence", f"set.{LINK}"):
        column = [_plain(value) for value in read.rows[name].tolist()]
        assert column == [row[name] for row in expected], name
    assert (
        read.manifest.items()
        >= {"cells": 4, "failed": 0, "command": "specmoe sweep", "question": {"slots": [60]}}.items()
    )
    assert set(read.manifest["hashes"]) == {"profile", "shape", "trace", "train"}


def test_a_finished_sweep_computes_nothing_and_stays_as_it_is(tmp_path: Path) -> None:
    first = run(FOUR, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def nobody() -> Any:
        raise AssertionError("there is nothing to do")

    again = run_sweep(Asked(FOUR, {"slots": [60]}, "specmoe sweep again"), tmp_path, nobody)
    assert (again.kept, again.computed) == (4, 0)
    pd.testing.assert_frame_equal(again.table.rows, first.table.rows)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupted_sweep_continues_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(FOUR, tmp_path, most=2)
    assert names_in(tmp_path) == ["parts"]
    assert len(Parts(tmp_path).kept()) == 2
    done = run(FOUR, tmp_path)
    assert (done.kept, done.computed) == (2, 2)
    assert names_in(tmp_path) == ["sweep.json", "sweep.parquet"]
    pd.testing.assert_frame_equal(done.table.rows, run(FOUR, tmp_path / "whole").table.rows)


def test_one_that_could_do_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(FOUR, tmp_path / "out", most=0)
    assert names_in(tmp_path) == []


def test_a_larger_grid_computes_what_is_new_in_its_own_order(tmp_path: Path) -> None:
    run(FOUR[1:3], tmp_path)
    done = run(FOUR, tmp_path)
    assert (done.kept, done.computed) == (2, 2)
    assert done.table.rows["cell"].tolist() == [Contents().key(one) for one in FOUR]
    smaller = run(FOUR[:1], tmp_path, other=1)
    assert (smaller.kept, smaller.computed) == (1, 0)
    assert len(load_sweep(tmp_path).rows) == 1


def test_another_version_computes_all_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(FOUR, tmp_path)
    monkeypatch.setattr(contents, "__version__", "99")
    assert run(FOUR, tmp_path).computed == 4


def test_a_changed_profile_computes_its_cells_anew(tmp_path: Path) -> None:
    path = Path(shutil.copy(Path(str(files("specmoe.hwprofiles") / "profiles" / "a6000.toml")), tmp_path / "mine.toml"))
    cells = [cell(steps=10), cell(steps=10, profile=str(path))]
    run(cells, tmp_path / "out")
    path.write_text(path.read_text().replace("value = 48", "value = 47", 1))
    done = run(cells, tmp_path / "out")
    assert (done.kept, done.computed) == (1, 1)


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    cells = [cell(steps=10), cell(steps=10, settings={"gemm.fp16.efficiency": 2}), cell(steps=10, trace="nowhere")]
    for kept in (0, 1):
        done = run(cells, tmp_path)
        assert (done.kept, done.computed) == (kept, 3 - kept)
        assert done.table.rows["error"].astype(bool).tolist() == [False, True, True]
        assert done.table.rows["cell"].tolist()[2] == ""
        assert done.table.manifest["failed"] == 2
        assert len(load_sweep(tmp_path).good) == 1


def test_parts_that_were_damaged_or_changed_are_not_there(tmp_path: Path) -> None:
    rows = [evaluate([one])[0] for one in FOUR]
    parts = Parts(tmp_path)
    with parts.prepared():
        for row in rows:
            parts.keep([row])
    assert set(parts.kept()) == {row["cell"] for row in rows}
    one, other, third, fourth = sorted((tmp_path / "parts").glob("*.parquet"))
    one.write_bytes(one.read_bytes()[:200])
    other.replace(third)  # under another's name
    assert [len(parts.kept()), fourth.exists()] == [1, True]


def test_kept_rows_say_what_they_said(tmp_path: Path) -> None:
    rows: list[Row] = evaluate([cell("belady", {"prefetch.limit": 2, "eviction": "lfu"}, steps=10)])
    parts = Parts(tmp_path)
    with parts.prepared():
        parts.keep(rows)
    (kept,) = parts.kept().values()
    assert rows[0] == kept | {"set.prefetch.limit": 2, "set.eviction": "lfu"}
    assert rows[0]["precision"] is None


def test_words_and_numbers_of_one_name(tmp_path: Path) -> None:
    cells = [cell(steps=10, settings={"eviction": "lfu"}), cell(steps=10, settings={"keep": False}), cell(steps=10)]
    rows = run(cells, tmp_path).table.rows
    assert [value if isinstance(value, str) else None for value in rows["set.eviction"]] == ["lfu", None, None]
    assert [value if isinstance(value, str) else None for value in rows["set.keep"]] == [None, "false", None]


def test_workers_that_read_other_files_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "rows_of", lambda unit, _: [row | {"cell": "other"} for row in evaluate(unit)])
    with pytest.raises(InputError, match="a worker reads other traces, profiles or shapes"):
        run(FOUR, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_executor_that_breaks_is_one_line(tmp_path: Path) -> None:
    class Broken(Executor):
        def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(RuntimeError("gone\naway"))
            return future

    with pytest.raises(InputError, match=r"^the workers failed: RuntimeError gone$"):
        run(FOUR, tmp_path, Broken())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        run(FOUR, tmp_path / "file")


def test_what_many_units_ask_is_predicted_first_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [cell(name, slots=slots, steps=10) for name in ("transition", "lookahead", "static") for slots in (20, 60)]
    asked: list[str] = []
    honest = job.predict

    def predict(one: RunConfig, predictions: Path) -> None:
        honest(one, predictions)
        asked.append(one.policy)
        assert len(list(predictions.iterdir())) == len(asked)

    monkeypatch.setattr(job, "predict", predict)
    run([*cells, cell("adaptive", steps=10)], tmp_path)  # which one unit alone asks
    assert sorted(asked) == ["lookahead", "transition"]
    assert cells[0].trace == TRACE


def test_an_executor_that_is_broken_from_the_start_is_one_line(tmp_path: Path) -> None:
    class Broken(Executor):
        def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
            raise BrokenExecutor("a child was terminated")

    with pytest.raises(InputError, match=r"^a worker process died \(out of memory\?\): try fewer --workers$"):
        run(FOUR, tmp_path, Broken())


def test_killed_between_its_two_files_it_does_not_take_anothers_table_for_its_own(tmp_path: Path) -> None:
    run(FOUR[1:3], tmp_path, tried=1)
    manifest = (tmp_path / "sweep.json").read_bytes()
    run(FOUR[::-1][:2] + FOUR[1:2], tmp_path, tried=2)
    (tmp_path / "sweep.json").write_bytes(manifest)  # the second one's was never written
    done = run(FOUR[1:3], tmp_path, tried=1)
    assert (done.kept, done.computed) == (2, 0)
    for table in (done.table, load_sweep(tmp_path)):
        assert table.rows["cell"].tolist() == [Contents().key(one) for one in FOUR[1:3]]


def test_a_checkpoint_that_cannot_be_read_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model"
    file.write_text("")
    honest = Path.open

    def refuse(self: Path, *how: Any, **more: Any) -> Any:
        if self == file:
            raise PermissionError(13, "Permission denied")
        return honest(self, *how, **more)

    monkeypatch.setattr(Path, "open", refuse)
    done = run([cell("learned-contextual", {"predictor.checkpoint": str(file)}, steps=10)], tmp_path / "out")
    assert done.table.rows["error"].tolist() == [f"{file}: cannot be read: Permission denied"]


def test_two_at_once_do_not_share_a_place(tmp_path: Path) -> None:
    with alone_in(tmp_path, "another sweep"), pytest.raises(InputError, match="another sweep is running there"):
        run(FOUR, tmp_path)
    assert names_in(tmp_path) == []
    assert run(FOUR, tmp_path).computed == 4
