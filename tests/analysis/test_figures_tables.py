"""The table of cells: what varies, in units that are read at a glance."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_rows import LINK, failed, grid, guess, row, stored, table

from specmoe.analysis.figures.tables import FIGURES, Column, cells_of


def test_by_hand_a_row(tmp_path: Path) -> None:
    made = stored(tmp_path, table(row(slots=64), guess("lookahead", 3.0, 0.75, slots=128, **{LINK: 1.2e10})))
    cells = cells_of(made)
    first, second = cells.rows
    assert [column.name for column in cells.columns[:3]] == ["policy", "slots", LINK]
    assert cells.columns[2].heading == "host_to_device.pinned.bandwidth, GB/s"
    assert (first["policy"], first["slots"], first[LINK]) == ("on-demand-lru", 64, None)
    assert (second["slots"], second[LINK], second["used_percent"]) == (128, 12, 75)
    assert (first["step_ms"], first["p99_ms"], first["x_oracle"], first["x_floor"]) == (4, 8, 2, 4)
    assert (first["hits_percent"], first["used_percent"], first["stall_ms"]) == (50, None, 2)
    assert (first["moved_gb"], first["wasted_gb"], first["vram_gib"], first["yardstick"]) == (0.01, 0, 1, "no")


def test_what_all_share_is_told_once() -> None:
    cells = cells_of(table(row(), row("static")))
    assert [column.name for column in cells.columns] == ["policy", *(column.name for column, _ in FIGURES), "yardstick"]
    assert cells.constants["slots"] == "64"
    assert cells.constants["trace kind"] == "trained-here"
    assert "home format" not in cells.constants, "empty"
    assert "policy" not in cells.constants


def test_failed_cells_have_an_error_and_no_figures(tmp_path: Path) -> None:
    cells = cells_of(stored(tmp_path, grid()))
    bad = cells.rows[-1]
    assert cells.columns[-1].name == "error"
    assert (bad["policy"], bad["error"], bad["step_ms"], bad["yardstick"]) == (
        "moe-infinity",
        "moe-infinity: no train split",
        None,
        None,
    )
    assert cells.rows[0]["error"] == ""
    assert isinstance(cells.rows[0]["slots"], int)
    assert "evidence" in cells.constants, "what a failure does not tell does not vary"


def test_failures_alone_are_a_table_too() -> None:
    cells = cells_of(table(failed("x"), failed("y", "other")))
    assert [one["error"] for one in cells.rows] == ["no room", "other"]
    assert cells.constants == {}


def test_every_row_has_every_column() -> None:
    cells = cells_of(grid())
    for one in cells.rows:
        assert list(one) == [column.name for column in cells.columns]


def test_columns_are_explained_and_of_different_headings() -> None:
    columns = cells_of(grid()).columns
    assert all(column.explained for column in columns)
    assert len({column.heading for column in columns}) == len(columns)


@pytest.mark.parametrize(
    ("digits", "value", "text"),
    [(True, 1.2345, "1.23"), (True, 0.0, "0"), (False, 12.0, "12"), (False, "x", "x"), (True, None, "")],
)
def test_values_as_they_are_printed(digits: bool, value: float | str | None, text: str) -> None:
    assert Column("n", "h", "e", digits).show(value) == text
