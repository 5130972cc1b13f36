"""Files that are wrong in any way: one line that names the file, and neither a traceback nor a wait without end."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from random_traces import META, random_block

from specmoe.analysis.figures.predictors import plot_training
from specmoe.analysis.report.inputs import read_inputs
from specmoe.analysis.trace.job import load_analysis
from specmoe.errors import InputError, SpecmoeError, TraceError
from specmoe.files import (
    DEEPEST,
    library_versions,
    parsing,
    read_json,
    read_text,
    read_toml,
    require_regular,
    require_shallow,
)
from specmoe.hwprofiles import load_profile, load_shape
from specmoe.results import RunResult
from specmoe.sim.routing import Routing
from specmoe.sim.speculate import predictors
from specmoe.sim.speculate.scoring.evaluate import Examination, asked_for
from specmoe.sim.speculate.store import load as load_predictions
from specmoe.sim.sweep.question import read_question
from specmoe.sweep_table import FIGURES, KEYS, ORIGIN, load_sweep, to_arrow
from specmoe.traces import Trace, TraceMeta, write_trace
from specmoe.traces.importers import FORMATS, Options, import_trace
from specmoe.traces.store import open_train
from specmoe.traces.synthesize import load_counts
from specmoe.traces.text import read_documents
from specmoe.validate import store as evidence
from specmoe.validate.grid import read_grid
from specmoe.validate.store import read_steps
from specmoe.validation_table import read_cells

Reader = Callable[[Path], Any]


def importing(name: str) -> Reader:
    return lambda path: import_trace(path, name, path.with_name("imported.parquet"), Options(num_experts=16))


READERS: dict[str, Reader] = {
    "text.json": read_json,
    "text.toml": read_toml,
    "profile.toml": lambda path: load_profile(str(path)),
    "shape.toml": lambda path: load_shape(str(path)),
    "question.toml": read_question,
    "grid.toml": read_grid,
    "times.toml": predictors.read_times,
    "validation.json": evidence.load,
    "history.json": lambda path: plot_training(path, path.with_name("x.png"), 1.0),
    "counts.json": load_counts,
    "steps.parquet": read_steps,
    "cells.parquet": read_cells,
    "result.parquet": RunResult.load,
    "predictions.parquet": lambda path: load_predictions(path, "hash"),
    "trace.parquet": Trace,
    "sweep.json": lambda path: load_sweep(path.parent),
    "analysis.json": lambda path: load_analysis(path.parent),
    "anything.json": lambda path: read_inputs([path.parent]),
    "predictor.json": lambda path: asked_for(checkpoints=[path.parent]),
    "documents.txt": lambda path: read_documents([path]),
    **{f"{name}.{ending}": importing(name) for name in FORMATS for ending in ("parquet", "csv", "jsonl", "npy")},
}
LONGEST = 2000  # characters of a message, with a path
GOOD = {("text.json", "a list"), ("text.json", "a number")}
GOOD |= {(name, "nothing") for name in ("text.toml", "question.toml", "times.toml")}


def complaint(reader: Reader, path: Path) -> str:
    with pytest.raises(SpecmoeError) as error:
        reader(path)
    assert "\n" not in str(error.value)
    assert path.name in str(error.value) or str(path.parent) in str(error.value)
    return str(error.value)


WRONG: dict[str, bytes] = {
    "nothing": b"",
    "nested JSON": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "nested TOML": b"a = " + b"[" * 5_000 + b"]" * 5_000,
    "dotted TOML": b"[set]\na" + b".a" * 900 + b" = 1",
    "a long dotted name": b"a." * 100_000 + b"a = 1",
    "a list": b"[1, 2]",
    "a number": b"1e999",
    "a long number": b"1" * 5_000,
    "no UTF-8": b"\xff\xfe\x00\x80",
    "half Parquet": b"PAR1" + b"\0" * 50 + b"PAR1",
    "half NumPy": b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', (",
    "half ZIP": b"PK\x03\x04" + b"\0" * 30,
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_such_file_is_one_line(name: str, tmp_path: Path) -> None:
    for wrong, content in WRONG.items():
        path = tmp_path / wrong / name
        path.parent.mkdir()
        path.write_bytes(content)
        if (name, wrong) not in GOOD and (name != "documents.txt" or wrong in ("nothing", "no UTF-8")):
            assert len(complaint(READERS[name], path)) < LONGEST
            assert [file.name for file in path.parent.iterdir()] == [name], "nothing is written"
        elif name != "documents.txt":  # any UTF-8 is a document
            assert READERS[name](path) is not None


def fifo(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_not_read(name: str, tmp_path: Path) -> None:
    for make in (fifo, zeros, loop, directory):
        path = tmp_path / make.__name__ / name
        path.parent.mkdir()
        make(path)
        if name == "documents.txt" and make is directory:
            continue
        assert len(complaint(READERS[name], path)) < LONGEST
        assert [file.name for file in path.parent.iterdir()] == [name], "nothing is written"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.toml").open("wb") as file:
        file.truncate(1 << 40)  # of which the disk holds nothing
    message = "1099511627776 bytes: at most 1 MiB expected"
    assert message in complaint(read_toml, tmp_path / "x.toml")
    assert message in complaint(lambda path: load_profile(str(path)), tmp_path / "x.toml")


@pytest.mark.parametrize(
    "error",
    [RecursionError(), MemoryError(), KeyError("a"), TypeError(), pa.ArrowInvalid("a\nb"), OverflowError("x" * 999)],
)
def test_whatever_a_parser_raises_is_one_line(error: Exception) -> None:
    with pytest.raises(TraceError, match=r"^f: not a file \(.+\)$") as told, parsing(Path("f"), "a file", TraceError):
        raise error
    assert len(str(told.value)) < 400


def test_what_specmoe_raises_passes() -> None:
    with pytest.raises(InputError, match=r"^mine$"), parsing(Path("f"), "a file"):
        raise InputError("mine")
    with pytest.raises(KeyboardInterrupt), parsing(Path("f"), "a file"):
        raise KeyboardInterrupt


def test_a_text_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("ä\n", encoding="utf-8")
    assert read_text(tmp_path / "x") == "ä\n"
    require_regular(tmp_path / "x", "a text", most=3)


def test_brackets_in_strings_and_beside_each_other_are_not_deep() -> None:
    deep = DEEPEST + 1
    for line in (b'"' + b"[" * deep + b'"\n', b"[" + b"[1]," * deep + b"1]\n", b"[[1],[2]]\n" * deep, b"]" * deep):
        require_shallow(io.BytesIO(line))
    for line in (b"[" * deep, b"[\n" * deep, b'{"a[":' * deep, b'["]",' * deep):
        with pytest.raises(ValueError, match="too deeply"):
            require_shallow(io.BytesIO(line))


def test_arrays_that_claim_more_than_there_is(tmp_path: Path) -> None:
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (4611686018427, 24, 4), }".ljust(117) + b"\n"
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + header)
    assert "x.npy: not " in complaint(importing("vllm"), tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("a.npy", b"\x93NUMPY\x01\x00\x76\x00" + header)
    assert "x.npz: not " in complaint(importing("vllm"), tmp_path / "x.npz")


def test_metadata_in_another_encoding(tmp_path: Path) -> None:
    table = pa.table({"seq": [0], "pos": [0], "expert_ids": [[0, 1, 2, 3] * 24], "expert_probs": [[0.25] * 96]})
    for metadata in ({b"origin": b"\xff"}, {b"sequences": b"[1]"}, {b"\xff\xff": b"", b"sequences": b"{"}):
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "x.parquet")
        assert complaint(importing("gptoss"), tmp_path / "x.parquet").startswith(str(tmp_path / "x.parquet"))
        assert not (tmp_path / "imported.parquet").exists()


# What is a whole trace file and no valid trace


def spoilt(path: Path, meta: TraceMeta = META, **columns: Any) -> Path:
    """A trace with some columns wrong in their first row."""
    block = random_block(40, meta, 0)
    for name, value in columns.items():
        getattr(block, name)[0] = value
    write_trace(path, meta, [block])
    return path


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"experts": META.num_experts}, "experts is .*: ids 0"),
        ({"experts": -2}, "experts is .*: ids 0"),
        ({"experts": 1}, "distinct ids"),
        ({"probs": np.inf}, "numbers between 0 and 1"),
        ({"probs": np.nan}, "numbers between 0 and 1"),
        ({"position": 7}, "rows ordered"),
        ({"sequence": 99}, "rows ordered"),
        ({"lookahead": META.num_experts}, "lookahead"),
    ],
)
def test_simulations_and_scores_refuse_what_validate_refuses(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = spoilt(tmp_path / "t.parquet", **columns)
    for use in (Routing, Examination):
        with pytest.raises(TraceError, match=rf"t\.parquet: row \d+ .*{message}"):
            use(str(path))


def test_what_is_learnt_from_is_checked_too(tmp_path: Path) -> None:
    good, bad = spoilt(tmp_path / "good.parquet"), spoilt(tmp_path / "bad.parquet", experts=-2)
    with pytest.raises(TraceError, match=r"bad\.parquet: row 0"):
        Examination(str(good), str(bad))
    with pytest.raises(TraceError, match=r"bad\.parquet: row 0"):
        _ = Routing(str(good), train=str(bad)).popularity


@pytest.mark.parametrize(
    "change", [{"top_k": META.top_k + 1}, {"num_layers": META.num_layers + 1}, {"num_experts": 99}]
)
def test_a_train_trace_of_another_shape_is_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    other = spoilt(tmp_path / "other.parquet", dataclasses.replace(META, **change))
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=rf"other\.parquet: {name} {value}: {getattr(META, name)} expected"):
        open_train(str(other), META)


def test_a_whole_number_of_any_size_is_kept_by_a_sweep(tmp_path: Path) -> None:
    table = to_arrow(pd.DataFrame([dict.fromkeys((*KEYS, *FIGURES, *ORIGIN)) | {"set.x": 10**30}], dtype=object))
    assert table["set.x"].to_pylist() == [1e30]


def test_a_source_tree_that_is_not_installed_has_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    import specmoe
    from specmoe import files

    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(files, "version", absent)
    monkeypatch.setattr(files, "_version", files._version.__wrapped__)
    assert library_versions("numpy") == {"numpy": "unknown", "specmoe": specmoe.__version__}


def test_a_validation_that_is_a_list_is_passed_over_or_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match=r"nothing|holds|expected"):
        read_inputs([tmp_path])
