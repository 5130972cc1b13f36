"""Measured steps on disk: all of them, small, and those held out are never touched by who reads those to fit on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from made_cells import cell, steps

from specmoe.errors import InputError
from specmoe.validate.fidelity import judge
from specmoe.validate.grid import Cell
from specmoe.validate.measured import Steps
from specmoe.validate.store import METADATA_KEY, read_steps, write_steps
from specmoe.validation_table import Role


def made() -> dict[Cell, Steps]:
    """Fitted and held-out cells by turns, of 2 to 5 repeats and 3 to 6 steps."""
    rng = np.random.default_rng(0)
    roles: tuple[Role, Role] = ("held_out", "fit")
    return {
        cell(f"p{n}", role=roles[n % 2]): steps(
            rng.integers(10**6, 10**9, (2 + n, 3 + n)), rng.integers(0, 10**6, (2 + n, 3 + n)), n, f"decisions-{n}"
        )
        for n in range(4)
    }


def same(found: dict[Cell, Steps], expected: dict[Cell, Steps]) -> bool:
    """Equal cells in the same order with equal arrays."""
    return list(found) == list(expected) and all(
        np.array_equal(one, other) for of in found for one, other in zip(found[of], expected[of], strict=True)
    )


def of_role(role: Role) -> dict[Cell, Steps]:
    return {of: found for of, found in made().items() if of.role == role}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_steps(tmp_path / "steps.parquet", made())
    return tmp_path / "steps.parquet"


def overwrite(path: Path, groups: list[int]) -> None:
    """Put nonsense where the data of row groups are."""
    content, metadata = bytearray(path.read_bytes()), pq.read_metadata(path)
    for group in groups:
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            place, length = chunk.data_page_offset, chunk.total_compressed_size
            content[place : place + length] = b"\xee" * length
    path.write_bytes(content)


def test_all_is_read_again(path: Path) -> None:
    assert same(read_steps(path), made())


@pytest.mark.parametrize("role", ["fit", "held_out"])
def test_of_one_role(path: Path, role: Role) -> None:
    found = read_steps(path, role)
    assert same(found, of_role(role))
    assert len(found) == 2


def test_who_fits_never_reads_what_is_held_out(path: Path) -> None:
    overwrite(path, [0, 2])
    assert same(read_steps(path, "fit"), of_role("fit"))
    for role in ("held_out", None):
        with pytest.raises(InputError, match="not measured steps of specmoe"):
            read_steps(path, role)  # type: ignore[arg-type]  # one of two


def test_only_row_groups_of_the_role_are_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = pq.ParquetFile.read_row_group

    def counted(file: pq.ParquetFile, group: int, *args: object, **rest: object) -> pa.Table:
        asked.append(group)
        return read(file, group, *args, **rest)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    read_steps(path, "fit")
    assert asked == [1, 3]


def test_the_footer_tells_nothing_of_held_out_rows(path: Path) -> None:
    metadata = pq.read_metadata(path)
    assert metadata.num_row_groups == 4
    for group in range(4):
        for column in range(metadata.num_columns):
            assert metadata.row_group(group).column(column).statistics is None
    told = json.loads(metadata.metadata[METADATA_KEY])
    assert set(told[0]) == {
        *("shape", "phase", "format", "home_format", "batch", "steps", "policy", "slots", "role", "style"),
        *("repeats", "decisions"),
    }


def test_a_row_for_each_cell_repeat_and_step(path: Path) -> None:
    table = pq.read_table(path)
    assert table.schema.names == ["cell", "repeat", "step", "latency_ns", "compute_ns", "stall_ns"]
    rows = table.to_pylist()
    expected = [
        (number, repeat, step, int(found.latency[repeat, step]), int(found.compute[repeat, step]), number)
        for number, found in enumerate(made().values())
        for repeat in range(found.latency.shape[0])
        for step in range(found.latency.shape[1])
    ]
    assert [tuple(row.values()) for row in rows] == expected


def test_stored_steps_judge_another_simulation(path: Path) -> None:
    of, measured = next(iter(read_steps(path).items()))
    half = judge(of, steps(measured.latency[:1] // 2, decisions="decisions-0"), measured)
    assert half.error == pytest.approx(measured.latency[0].mean() / 2 / measured.latency.mean() - 1, abs=1e-6)
    with pytest.raises(InputError, match="simulated and measured decisions differ"):
        judge(of, steps(measured.latency[:1], decisions="others"), measured)


def test_a_full_grid_is_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    grid = {
        cell(slots=n): steps(*(rng.normal(5e6, 1e5, (5, 200)).astype(np.int64) for _ in range(3))) for n in range(100)
    }
    write_steps(tmp_path / "steps.parquet", grid)
    assert (tmp_path / "steps.parquet").stat().st_size < 1.2e6


@examples(25, HealthCheck.function_scoped_fixture)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=5),
    scale=st.sampled_from([1, 2**31, 2**45]),
    seed=st.integers(0, 99),
)
def test_whatever_is_written_is_read(tmp_path: Path, sizes: list[tuple[int, int]], scale: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    written = {
        cell(slots=n): steps(*(scale * rng.integers(0, 99, size) for _ in range(3))) for n, size in enumerate(sizes)
    }
    write_steps(tmp_path / "any.parquet", written)
    assert same(read_steps(tmp_path / "any.parquet"), written)


def test_foreign_files(path: Path, tmp_path: Path) -> None:
    table, whole = pq.read_table(path), path.read_bytes()
    foreign = tmp_path / "foreign.parquet"
    for content in (b"", b"PAR1PAR1", whole[: len(whole) // 2], b"latency\n1\n"):
        foreign.write_bytes(content)
        with pytest.raises(InputError, match=r"foreign\.parquet: not measured steps of specmoe") as told:
            read_steps(foreign)
        assert "\n" not in str(told.value)
    with pytest.raises(InputError, match=r"none\.parquet: no such file: the \*\.steps\.parquet"):
        read_steps(tmp_path / "none.parquet")
    for changed in (table.replace_schema_metadata({}), table, table.drop_columns(["stall_ns"])):
        pq.write_table(changed, foreign)  # without the cells; or all rows in one group
        with pytest.raises(InputError, match="not measured steps"):
            read_steps(foreign)


@pytest.mark.parametrize("change", [{"repeats": 5}, {"repeats": None}, {"repeats": 0}])
def test_metadata_that_do_not_fit_the_rows(path: Path, change: dict[str, int]) -> None:
    rewrite(path, [0], change)
    with pytest.raises(InputError, match="not measured steps"):
        read_steps(path)


@pytest.mark.parametrize("name", ["role", "shape", "policy", "decisions"])
def test_metadata_with_something_missing(path: Path, name: str) -> None:
    rewrite(path, [0], {}, name)
    with pytest.raises(InputError, match=f"not measured steps of specmoe .*{name}"):
        read_steps(path)


def test_rows_of_a_cell_that_nobody_described(path: Path) -> None:
    write_steps(path, made() | {cell("more", role="fit"): steps([[1], [2]])})
    rewrite(path, [], {}, described=4)
    with pytest.raises(InputError, match="not a row group for each cell"):
        read_steps(path, "fit")


def rewrite(
    path: Path, numbers: list[int], change: dict[str, int], without: str | None = None, described: int = 99
) -> None:
    """The same row groups with other words about some of them, or with none about the last."""
    with pq.ParquetFile(path) as file:
        told = json.loads(file.schema_arrow.metadata[METADATA_KEY])[:described]
        groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
    for number in numbers:
        told[number] |= change
        told[number].pop(without, None)
    schema = groups[0].schema.with_metadata({METADATA_KEY: json.dumps(told).encode()})
    with pq.ParquetWriter(path, schema) as writer:
        for group in groups:
            writer.write_table(group.replace_schema_metadata(schema.metadata))


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    broken = {**made(), cell("broken"): steps([[1, 2], [3, 4]])._replace(compute=np.zeros(3, np.int64))}
    with pytest.raises((ValueError, pa.ArrowException)):
        write_steps(tmp_path / "steps.parquet", broken)
    assert not list(tmp_path.iterdir())
