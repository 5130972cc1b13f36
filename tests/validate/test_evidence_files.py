"""What a validation leaves behind: what was saved is read again, whole or not at all, and nothing foreign is."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made_cells import cell, judged, steps

from specmoe.errors import InputError
from specmoe.validate import store
from specmoe.validate.fidelity import TARGETS, failed, judge, overall
from specmoe.validate.grid import Cell, cell_of, group_of
from specmoe.validate.measured import Steps
from specmoe.validate.store import load, read_steps, save, verdict, write_steps
from specmoe.validation_table import CellFidelity, Circumstances, HostState, read_cells, write_cells, write_description

TOLD = Circumstances(
    name="h100-sxm5-80gb",
    device={"name": "NVIDIA H100 80GB HBM3", "pcie": {"generation": 5, "lanes": 16}},
    profile="h100-sxm5-80gb",
    profile_hash="ab12",
    evidence="measured",
    traces={"switch-mini-128/decode/test": "cd34"},
    versions={"specmoe": "0.1.0"},
    date="2026-01-02",
    seconds=12.5,
    notes=("clocks were not locked",),
)
COMMITTED = Path(__file__).parent.parent.parent / "validation"
NAMES = ("h100-sxm5-80gb.json", "h100-sxm5-80gb.cells.parquet", "h100-sxm5-80gb.steps.parquet")
INT8 = group_of("switch-base-128", "decode", "fp16", "int8", 1, 4)
Saved = tuple[list[CellFidelity], dict[Cell, Steps]]


def made() -> Saved:
    """Four cells: one fitted on, one whose steps are all the same, one of a group with a format at home."""
    measured = {
        cell("lookahead"): steps([[100, 200, 300, 400], [101, 202, 303, 404], [99, 201, 300, 398]]),
        cell("static", role="fit"): steps([[500, 500, 510, 500]] * 2),
        cell("oracle"): steps([[50, 51, 52, 50], [50, 51, 50, 52]]),
        cell("lookahead", 77, group=INT8): steps([[10**10, 10**10 + 7, 10**10, 10**9]] * 2, 3 * 10**9, 10**9),
    }
    simulated = ([100, 200, 302, 404], [490, 490, 500, 490], [51, 51, 51, 51], [10**10, 10**10, 10**10, 10**9])
    pairs = zip(measured.items(), simulated, strict=True)
    return [judge(of, steps([latency]), real) for (of, real), latency in pairs], measured


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The JSON of a validation."""
    return save(tmp_path, TOLD, *made())[0]


def test_three_files_named_after_the_profile(saved: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    assert saved == tmp_path / NAMES[0]


def test_what_was_saved_is_loaded(saved: Path) -> None:
    cells, measured = made()
    found = load(saved)
    assert found.circumstances == TOLD
    assert found.cells == tuple(cells)
    again = read_steps(found.steps)
    assert list(again) == list(measured)
    assert [judge(cell_of(each.cell), steps_like(each), again[cell_of(each.cell)]).measured for each in cells] == [
        c.measured for c in cells
    ]


def steps_like(found: CellFidelity) -> Steps:
    return steps([[int(found.simulated.mean_ns)] * 4])


@pytest.mark.parametrize("name", [path.stem for path in sorted(COMMITTED.glob("*.json"))])
def test_committed_files_are_written_as_they_were(name: str, tmp_path: Path) -> None:
    path = COMMITTED / f"{name}.json"
    found, files = load(path), json.loads(path.read_text())["files"]
    write_description(tmp_path / "a.json", found.circumstances, dataclasses.asdict(found.verdict), files)
    assert (tmp_path / "a.json").read_bytes() == path.read_bytes()
    write_cells(tmp_path / "a.parquet", found.cells)
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(path.with_name(f"{name}.cells.parquet")))


def test_the_json_by_hand(saved: Path) -> None:
    raw = json.loads(saved.read_text())
    cells, _ = made()
    held_out = [each for each in cells if each.cell.role == "held_out"]
    assert raw["held_out"] == dataclasses.asdict(overall(held_out))
    assert raw["fit"] == dataclasses.asdict(overall(cells[1:2]))
    assert raw["all"] == dataclasses.asdict(overall(cells))
    assert (raw["held_out"]["cells"], raw["fit"]["cells"], raw["all"]["cells"]) == (3, 1, 4)
    promised = ("cells", "median_abs_error", "p95_abs_error", "worst_abs_error", "kendall_tau", "kendall_pairs")
    assert {*promised, "median_step_correlation"} <= set(raw["held_out"])
    assert raw["fit"]["worst_abs_error"] == pytest.approx(0.0199, abs=1e-4), "a share, not percent"
    assert raw["targets"] == TARGETS
    assert raw["failed"] == list(failed(overall(held_out)))
    for name in ("name", "device", "profile", "profile_hash", "traces", "versions", "date", "seconds", "semantics"):
        assert raw[name] == getattr(TOLD, name)
    assert raw["notes"] == ["clocks were not locked"]
    assert set(raw["files"]) == set(NAMES[1:])


def test_verdict_without_held_out_or_fitted_cells() -> None:
    cells, _ = made()
    assert verdict(cells[1:2])["held_out"] is None
    assert verdict(cells[1:2])["failed"] == ["no cell was held out: nothing is shown"]
    assert verdict(cells[:1])["fit"] is None


def test_failed_is_of_held_out_cells_only() -> None:
    cells, _ = made()
    bad = dataclasses.replace(cells[1], simulated=cells[1].simulated._replace(mean_ns=1.0))
    assert verdict([cells[0], bad])["failed"] == list(failed(overall(cells[:1])))
    assert verdict([cells[0], bad])["all"]["worst_abs_error"] > 0.9


def test_the_cells_file_is_a_table_for_anybody(saved: Path) -> None:
    cells, _ = made()
    table = pq.read_table(saved.with_name(NAMES[1]))
    assert table["error"].to_pylist() == [each.error for each in cells]
    assert table["host_error"].to_pylist() == [each.part_error("host") for each in cells]
    assert table["home_format"].to_pylist() == [None, None, None, "int8"]
    assert table["step_correlation"].to_pylist() == [each.step_correlation for each in cells]
    assert cells[2].step_correlation is None


def test_the_same_validation_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    save(tmp_path / "again", TOLD, *made())
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("step", ["write_cells", "write_steps", "verdict"])
@pytest.mark.parametrize("former", [False, True])
def test_an_interrupted_save_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, former: bool
) -> None:
    if former:
        save(tmp_path, dataclasses.replace(TOLD, seconds=1), *made())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, TOLD, *made())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_steps_and_cells_must_belong_together(tmp_path: Path) -> None:
    cells, measured = made()
    for wrong in ([], cells[1:], cells[::-1]):
        with pytest.raises(InputError, match="in the same order"):
            save(tmp_path, TOLD, wrong, measured)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no directory"):
        save(tmp_path / "no", TOLD, *made())


@pytest.mark.parametrize("name", ["../up", "a/b", ""])
def test_a_name_stays_in_its_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="a name without directories expected"):
        save(tmp_path, dataclasses.replace(TOLD, name=name), *made())


def test_files_of_different_validations_are_not_mixed(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    cells, measured = made()
    save(other, TOLD, cells[:1], dict(list(measured.items())[:1]))
    for name in NAMES[1:]:
        kept = (tmp_path / name).read_bytes()
        shutil.copy(other / name, tmp_path / name)
        with pytest.raises(InputError, match=rf"{name}: missing, or not the one that h100-sxm5-80gb.json belongs to"):
            load(saved)
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=f"{name}: missing"):
            load(saved)
        (tmp_path / name).write_bytes(kept)
    assert load(saved).cells == tuple(cells)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"name": 5}', '{"name": "h100-sxm5-80gb", "files": {}}', "\xff"]
)
def test_foreign_json(saved: Path, text: str) -> None:
    saved.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"json: not a validation of specmoe \(") as told:
        load(saved)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Circumstances)] + ["files"])
def test_json_with_something_missing(saved: Path, name: str) -> None:
    raw = json.loads(saved.read_text())
    del raw[name]
    saved.write_text(json.dumps(raw))
    with pytest.raises(InputError, match="not a validation of specmoe"):
        load(saved)


def test_no_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a validation of specmoe"):
        load(tmp_path / "none.json")


def test_foreign_cells(tmp_path: Path) -> None:
    path = tmp_path / "cells.parquet"
    write_cells(path, made()[0])
    whole = path.read_bytes()
    table = pq.read_table(path)
    assert read_cells(path) == tuple(made()[0])
    for column in ("policy", "shape", "measured_mean_ns", "step_correlation"):
        pq.write_table(table.drop_columns([column]), path)
        with pytest.raises(InputError, match=f"not judged cells of specmoe .*{column}"):
            read_cells(path)
    for content in (b"", b"PAR1", whole[: len(whole) // 2], b"a,b\n1,2\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not judged cells of specmoe") as told:
            read_cells(path)
        assert "\n" not in str(told.value)


def test_whole_groups_are_told_apart_and_hosts_too(tmp_path: Path) -> None:
    other = group_of("switch-base-128", "decode", "fp32", None, 1, 4)
    near, far = judged(cell("static"), error=0.01), judged(cell("static", group=other), error=-0.03)
    seen = dataclasses.replace(far, host=HostState(1000, 2000, 0), with_host=near.simulated)
    fitted = judged(cell(role="fit"), error=0.5)
    found = verdict([fitted, near, seen])
    assert found["held_out"]["cells"] == 2
    assert (found["held_out_groups"]["cells"], found["held_out_groups"]["worst_abs_error"]) == (1, pytest.approx(0.03))
    assert found["held_out_by_its_host"]["worst_abs_error"] == pytest.approx(0.01)
    write_cells(tmp_path / "cells.parquet", [seen])
    assert read_cells(tmp_path / "cells.parquet") == (seen,)


def test_the_state_of_the_host_is_kept_with_the_steps(tmp_path: Path) -> None:
    found = steps([[1000] * 4, [1001] * 4])._replace(host=HostState(1000, 2000, 3000))
    write_steps(tmp_path / "a.steps.parquet", {cell(): found})
    (back,) = read_steps(tmp_path / "a.steps.parquet").values()
    assert back.host == found.host
