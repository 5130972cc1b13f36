"""Reading, writing, checking, splitting, exporting and summarising traces."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from random_traces import META, random_block

from specmoe import traces
from specmoe.errors import InputError, SpecmoeError, TraceError
from specmoe.files import ended_by_signals, library_versions, replacing, today
from specmoe.traces import Block, Trace, TraceWriter, store, write_trace
from specmoe.traces.schema import join, limit_lookahead, regroup, select
from specmoe.traces.splitting import SPLITS, deal, split_trace
from specmoe.traces.summary import expert_counts, export, first_tokens, layer_use, summarize
from specmoe.traces.validation import check, validate

Maker = Callable[..., Path]


def assert_equal(one: Block, other: Block) -> None:
    for name in Block._fields:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name, strict=True)


# Round trips


@examples(25)
@given(
    sizes=st.lists(st.integers(0, 40), max_size=4),
    layers=st.integers(1, 4),
    candidates=st.integers(2, 5),
    depth=st.integers(1, 5),
    has_probs=st.booleans(),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    layers: int,
    candidates: int,
    depth: int,
    has_probs: bool,
) -> None:
    meta = dataclasses.replace(
        META, num_layers=layers, candidates=candidates, lookahead_depth=depth, has_probs=has_probs
    )
    blocks = [random_block(n, meta, seed, start=100 * seed) for seed, n in enumerate(sizes)]
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    write_trace(path, meta, blocks)
    trace = traces.open(path)
    whole = join([random_block(0, meta), *blocks])
    assert trace.meta == meta
    assert len(trace) == trace.num_tokens == sum(sizes)
    assert_equal(trace.read(), whole)
    assert_equal(join([random_block(0, meta), *trace.blocks()]), whole)
    assert [len(block.token) for block in trace.blocks()] == [size for size in sizes if size]
    assert validate(trace) == sum(sizes)


def test_each_column_alone_equals_the_whole(make_trace: Maker) -> None:
    path = make_trace(30)
    whole = Trace(path).read()
    for name in Block._fields:
        np.testing.assert_array_equal(getattr(Trace(path), name), getattr(whole, name))
        (block,) = Trace(path).blocks([name])
        np.testing.assert_array_equal(getattr(block, name), getattr(whole, name))
        others = [other for other in Block._fields if other != name]
        assert all(getattr(block, other).size == 0 for other in others)
        assert block.experts.shape[1:] == whole.experts.shape[1:]
        assert block.lookahead.shape[1:] == whole.lookahead.shape[1:] == (3, 1, 4)


def test_the_lookahead_is_read_without_copying(make_trace: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace(make_trace(30, lookahead_depth=2))
    read = trace._file.read_row_group
    tables: list[pa.Table] = []
    monkeypatch.setattr(trace._file, "read_row_group", lambda *a, **k: tables.append(read(*a, **k)) or tables[-1])
    (block,) = trace.blocks(["lookahead"])
    flat = tables[0].column("lookahead").chunk(0).flatten().to_numpy(zero_copy_only=True)
    assert block.lookahead.shape == (30, 3, 2, 4)
    assert np.shares_memory(flat, block.lookahead)


def test_one_depth_is_stored_as_wide_as_the_experts(make_trace: Maker) -> None:
    schema = pq.read_schema(make_trace())
    assert schema.field("lookahead").type == schema.field("experts").type


def test_columns_are_read_once_and_cannot_be_spoilt(make_trace: Maker) -> None:
    trace = Trace(make_trace())
    assert trace.experts is trace.experts
    with pytest.raises(ValueError, match="read-only"):
        trace.experts[0, 0, 0] = 1


def test_equal_input_gives_equal_bytes(make_trace: Maker) -> None:
    assert make_trace(name="a.parquet").read_bytes() == make_trace(name="b.parquet").read_bytes()


def test_long_blocks_become_several_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specmoe.traces.store.ROW_GROUP", 8)
    block = random_block(20, META)
    write_trace(tmp_path / "t.parquet", META, [block])
    trace = Trace(tmp_path / "t.parquet")
    assert [len(part.token) for part in trace.blocks()] == [8, 8, 4]
    assert_equal(trace.read(), block)


def test_sources_keep_their_codes_across_row_groups(tmp_path: Path) -> None:
    meta = dataclasses.replace(META, sources=("a", "b", "c"))
    blocks = [
        random_block(5, meta, start=10 * n)._replace(source=np.full(5, code, "i2")) for n, code in enumerate((2, 0))
    ]
    write_trace(tmp_path / "t.parquet", meta, blocks)
    assert Trace(tmp_path / "t.parquet").source.tolist() == [2] * 5 + [0] * 5


@given(sizes=st.lists(st.integers(0, 9), max_size=6), rows=st.integers(1, 12))
def test_regrouping_keeps_rows_and_fills_groups(sizes: list[int], rows: int) -> None:
    blocks = [random_block(n, META, seed) for seed, n in enumerate(sizes)]
    parts = list(regroup(blocks, rows))
    lengths = [len(part.token) for part in parts]
    assert sum(lengths) == sum(sizes)
    assert all(length == rows for length in lengths[:-1])
    assert not lengths or 0 < lengths[-1] <= rows
    if parts:
        assert_equal(join(parts), join(blocks))


# Atomic writing


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existing", [None, b"old"])
def test_a_killed_write_leaves_nothing(tmp_path: Path, error: type[BaseException], existing: bytes | None) -> None:
    target = tmp_path / "t.parquet"
    if existing:
        target.write_bytes(existing)
    with pytest.raises(error), TraceWriter(target, META) as writer:
        writer.write(random_block(5, META))
        raise error
    assert [path.name for path in tmp_path.iterdir()] == (["t.parquet"] if existing else [])
    assert not existing or target.read_bytes() == existing


def test_a_target_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "far" / "f")  # which is not there yet
    for text in ("first", "second"):
        with replacing(link) as temporary:
            temporary.write_text(text)
        assert link.is_symlink()
        assert (tmp_path / "far" / "f").read_text() == text
    assert [path.name for path in tmp_path.rglob("*")].count("f") == 1


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "loop"])
def test_what_is_no_file_is_never_replaced(kind: str, tmp_path: Path) -> None:
    place = tmp_path / kind
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "pipe":
            os.mkfifo(place)
        elif kind == "socket":
            server.bind(str(place))
        elif kind == "device":
            place.symlink_to(os.devnull)
        else:
            place.symlink_to(place)
        before = place.lstat()
        expected = "symbolic links" if kind == "loop" else f"is a {kind}"
        with pytest.raises(InputError, match=rf"{kind}: .*{expected}.*: a file name"), replacing(place) as temporary:
            temporary.write_text("new")
        assert place.lstat() == before
        assert list(tmp_path.iterdir()) == [place]


def test_what_a_dead_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "f[1]"
    code = "import sys, time; from specmoe.files import ended_by_signals, replacing\nfrom pathlib import Path\n"
    code += "with replacing(Path(sys.argv[1])) as t: t.write_text('half'); print('ready', flush=True); time.sleep(60)"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE) for _ in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    writers[0].kill()
    writers[0].wait()
    (tmp_path / ".other.1.tmp").touch()
    with replacing(target) as temporary:
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"f[1]", ".other.1.tmp", f".f[1].{writers[1].pid}.tmp"}
    writers[1].kill()
    for writer in writers:
        writer.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_write_like_an_exception(number: signal.Signals, tmp_path: Path) -> None:
    code = "import sys, os; from specmoe.files import ended_by_signals, replacing\nfrom pathlib import Path\n"
    code += "with ended_by_signals(), replacing(Path(sys.argv[1])) as t: t.write_text('half'); "
    code += "os.kill(os.getpid(), int(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(tmp_path / "f"), str(int(number))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (128 + number, "")
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no directory"):
        write_trace(tmp_path / "absent" / "t.parquet", META, [])
    with pytest.raises(InputError, match="is a directory"):
        write_trace(tmp_path, META, [])
    with pytest.raises(InputError, match="No space left"), replacing(tmp_path / "f"):
        raise OSError(28, "No space left on device")


def test_a_block_of_another_shape_is_refused(tmp_path: Path) -> None:
    other = dataclasses.replace(META, num_layers=2)
    with pytest.raises(TraceError, match="experts has shape"):
        write_trace(tmp_path / "t.parquet", META, [random_block(5, other)])
    deeper = dataclasses.replace(META, lookahead_depth=2)
    with pytest.raises(TraceError, match=r"lookahead has shape \[5, 3, 2, 4\]: \[n, \*\[3, 1, 4\]\] expected"):
        write_trace(tmp_path / "t.parquet", META, [random_block(5, deeper)])
    assert not list(tmp_path.iterdir())


def test_the_day_can_be_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert today() == "1970-01-02"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert len(today()) == 10


def test_versions_are_those_installed() -> None:
    assert library_versions("numpy") == {"numpy": np.__version__, "specmoe": library_versions()["specmoe"]}


# Bad files


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def overwrite(path: Path) -> None:
    path.write_text("sequence,position\n0,0\n")


def spoil_page(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 0xFF
    path.write_bytes(raw)


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def column_as(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, values)


BAD_FILES: list[tuple[str, Callable[[Path], None], str]] = [
    ("truncated", cut, "not a whole Parquet file"),
    ("foreign", overwrite, "not a whole Parquet file"),
    ("empty", lambda path: path.write_bytes(b"") and None, "not a whole Parquet file"),
    ("no metadata", lambda path: rewrite(path, lambda t: t.replace_schema_metadata({})), "'specmoe' missing"),
    (
        "metadata of another kind",
        lambda path: rewrite(path, lambda t: t.replace_schema_metadata({"specmoe": "[]"})),
        "trace metadata",
    ),
    ("no probs", lambda path: rewrite(path, lambda t: t.drop_columns(["probs"])), "column probs missing"),
    ("text tokens", lambda path: rewrite(path, column_as("token", pa.array(["a"] * 50))), "column token is string"),
    (
        "ragged experts",
        lambda path: rewrite(path, column_as("experts", pa.array([[1]] * 50, pa.list_(pa.int16())))),
        "column experts is list<",
    ),
    ("nulls", lambda path: rewrite(path, column_as("token", pa.array([1] * 50, pa.int32()))), "with nulls"),
]


@pytest.mark.parametrize(("spoil", "message"), [case[1:] for case in BAD_FILES], ids=[case[0] for case in BAD_FILES])
def test_bad_files_are_refused_in_one_line(make_trace: Maker, spoil: Callable[[Path], None], message: str) -> None:
    path = make_trace(50)
    spoil(path)
    with pytest.raises(TraceError, match=message) as caught:
        traces.open(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_damaged_page_is_noticed(make_trace: Maker) -> None:
    path = make_trace(2000)
    spoil_page(path)
    with pytest.raises(TraceError, match="row group 0 is damaged"):
        Trace(path).read()


def test_a_source_that_the_metadata_do_not_know(make_trace: Maker) -> None:
    path = make_trace(50)
    table = pq.read_table(path)
    meta = dataclasses.replace(META, sources=("code",))
    pq.write_table(table.replace_schema_metadata({"specmoe": meta.to_json()}), path)
    with pytest.raises(TraceError, match="source: 'prose'"):
        _ = Trace(path).source


def test_a_directory_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        traces.open(tmp_path)


# Bundled names


def fake_bundle(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mini/decode/test", "mini/decode/train", "mini/encode/test"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_trace(root / f"{name}.parquet", META, [random_block(5, META)])
    monkeypatch.setattr(store, "root", lambda: root)


def test_bundled_names_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_bundle(tmp_path, monkeypatch)
    assert store.names() == ("mini/decode/test", "mini/decode/train", "mini/encode/test")
    assert traces.open("mini/decode/train").path == tmp_path / "mini/decode/train.parquet"


def test_an_unknown_name_gives_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_bundle(tmp_path, monkeypatch)
    with pytest.raises(InputError, match="did you mean 'mini/decode/test'") as caught:
        traces.open("mini/decod/test")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="specmoe traces list"):
        traces.open("zzz")


@pytest.mark.parametrize("name", store.names())
def test_what_is_bundled_is_valid(name: str) -> None:
    trace = traces.open(name)
    assert validate(trace) == len(trace) > 0
    assert trace.meta.kind == "trained-here"


# Validation


def put(field: str, where: Any, value: Any) -> Callable[[Block], Block]:
    def change(block: Block) -> Block:
        column = getattr(block, field).copy()
        column[where] = value
        return block._replace(**{field: column})

    return change


BAD_ROWS: list[tuple[Callable[[Block], Block], dict[str, Any], str]] = [
    (put("experts", (3, 1, 0), 16), {}, r"row 3 .*layer 1: experts .* ids 0..15 expected"),
    (put("experts", (3, 2, 3), -2), {}, r"row 3 .*layer 2: experts"),
    (put("experts", (4, 0, 3), -1), {"dropless": False}, r"row 4 .*layer 0: experts .* from place 2 on"),
    (put("experts", (4, 0, 1), -1), {"dropless": False}, r"row 4 .*layer 0: experts .* all or none of the first 2"),
    (put("experts", (4, 0, slice(0, 2)), -1), {}, r"row 4 .*layer 0: experts .* dropless"),
    (put("experts", (5, 1), [1, 2, 3, 1]), {}, r"row 5 .*layer 1: experts is \[1, 2, 3, 1\]: distinct"),
    (put("probs", (6, 1, 0), np.nan), {}, r"row 6 .*layer 1: probs .* between 0 and 1"),
    (put("probs", (6, 1, 1), 1.5), {}, r"row 6 .*probs .* between 0 and 1"),
    (put("probs", (6, 1, 3), np.inf), {}, r"row 6 .*probs .* between 0 and 1"),
    (put("probs", (6, 1, slice(2, 4)), [0.1, 0.2]), {}, r"row 6 .*probs .* falling probabilities from place 2"),
    (put("probs", (6, 1, 0), 0.5), {"has_probs": False}, r"row 6 .*probs .* NaN expected"),
    (put("lookahead", (7, 0, 0, 0), 16), {}, r"row 7 .*layer 0, depth 1: lookahead .* ids 0..15"),
    (put("lookahead", (7, 0, 0, 0), -1), {}, r"row 7 .*layer 0, depth 1: lookahead .* ids 0..15"),
    (put("lookahead", (7, 1, 0), [1, 1, 2, 3]), {}, r"depth 1: lookahead is \[1, 1, 2, 3\]: distinct"),
    (
        put("lookahead", (7, 1, 0, 0), 3),
        {"has_lookahead": False},
        r"row 7 .*layer 1, depth 1: .* has_lookahead = false",
    ),
    (put("lookahead", (7, 0, 2, 0), 16), {"lookahead_depth": 3, "num_layers": 4}, r"layer 0, depth 3: .* ids 0..15"),
    (put("lookahead", (7, 1, 1), [5, 1, 2, 5]), {"lookahead_depth": 3, "num_layers": 4}, r"1, depth 2: .* distinct"),
    *(
        (
            put("lookahead", (7, layer, depth - 1, 1), 3),
            {"lookahead_depth": 3},
            rf"layer {layer}, depth {depth}: .* -1 exp",
        )
        for layer, depth in [(2, 1), (1, 2), (2, 2), (0, 3), (2, 3)]
    ),
    *(
        (
            put("lookahead", (7, layer, depth - 1), -1),
            {"lookahead_depth": 3},
            rf"layer {layer}, depth {depth}: .* ids 0",
        )
        for layer, depth in [(0, 1), (1, 1), (0, 2)]
    ),
    (put("lookahead", (7, 0, 8, 0), 3), {"lookahead_depth": 9}, r"row 7 .*layer 0, depth 9: lookahead .* -1 expected"),
    (put("token", 8, -2), {}, r"row 8 .*token is -2"),
    (put("sequence", 0, 7), {}, r"row 1 .*sequence is 0: rows ordered"),
    (put("sequence", 0, -3), {}, r"row 0 .*sequence is -3: 0 or more"),
    (put("position", 3, 2), {}, r"row 3 \(sequence 0, position 2\): position is 2: a second row"),
    (put("position", 3, 1), {}, r"row 3 .*position is 1: rows ordered"),
    (put("position", 0, -1), {}, r"row 0 .*position is -1: 0 or more"),
    (put("position", slice(3, None), range(4, 13)), {}, r"row 3 .*position is 4: positions 0, 1, 2"),
]


@pytest.mark.parametrize(("change", "fields", "message"), BAD_ROWS, ids=[case[2] for case in BAD_ROWS])
def test_broken_rows_are_named(
    tmp_path: Path, change: Callable[[Block], Block], fields: dict[str, Any], message: str
) -> None:
    meta = dataclasses.replace(META, **fields)
    good = random_block(12, meta, mean_length=10**9)
    check(good, meta, "good")
    path = tmp_path / "t.parquet"
    write_trace(path, meta, [change(good)])
    with pytest.raises(TraceError, match=message) as caught:
        validate(Trace(path))
    assert str(caught.value).startswith(f"{path}: row ")
    assert "\n" not in str(caught.value)


def test_what_is_allowed() -> None:
    block = random_block(12, META, mean_length=10**9)
    rising_among_used = put("probs", (0, 0, slice(0, 2)), [0.0, 1.0])(block)
    check(rising_among_used, META, "used experts need not be the most probable")
    may_drop = dataclasses.replace(META, dropless=False)
    check(put("experts", (4, 0, slice(0, 2)), -1)(block), may_drop, "a dropped token")
    gaps = block._replace(position=block.position * 2 + 5)
    check(gaps, dataclasses.replace(META, origin="imported"), "an imported trace may begin anywhere and have gaps")


def test_rows_are_numbered_and_compared_across_row_groups(tmp_path: Path) -> None:
    block = random_block(12, META, mean_length=10**9)
    parts = [select(block, slice(0, 6)), select(block, slice(6, 12))]
    write_trace(tmp_path / "good.parquet", META, parts)
    assert validate(Trace(tmp_path / "good.parquet")) == 12
    write_trace(tmp_path / "bad.parquet", META, [parts[0], parts[0]])
    with pytest.raises(TraceError, match="row 6 "):
        validate(Trace(tmp_path / "bad.parquet"))


# Splitting


@given(
    domains=st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    weights=st.tuples(*[st.integers(1, 9)] * 3),
    seed=st.integers(0, 99),
)
def test_splits_keep_their_shares_overall_and_by_domain(
    domains: list[str], weights: tuple[int, int, int], seed: int
) -> None:
    fractions = tuple(weight / sum(weights) for weight in weights)
    split = deal(domains, fractions, np.random.default_rng(seed))
    names = np.array(domains)
    for number, fraction in enumerate(fractions):
        assert abs((split == number).sum() - fraction * len(domains)) <= 1 + 1e-6
        for domain in set(domains):
            mine = split[names == domain]
            assert abs((mine == number).sum() - fraction * len(mine)) <= 2 + 1e-6


def test_a_split_parts_whole_sequences(make_trace: Maker, tmp_path: Path) -> None:
    trace = Trace(make_trace(600))
    written = split_trace(trace, (0.6, 0.2, 0.2), 1, tmp_path / "out")
    parts = {name: Trace(path) for name, path in written.items()}
    assert list(parts) == list(SPLITS)
    assert [part.meta.split for part in parts.values()] == list(SPLITS)
    assert sum(map(len, parts.values())) == 600
    groups = [set(part.sequence.tolist()) for part in parts.values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    for part in parts.values():
        validate(part)
        rows = np.isin(trace.sequence, part.sequence)
        assert_equal(part.read(), select(trace.read(), rows))


def test_both_phases_of_a_run_split_alike(make_trace: Maker, tmp_path: Path) -> None:
    one = split_trace(Trace(make_trace(300)), (0.6, 0.2, 0.2), 1, tmp_path / "decode")
    other_phase = Trace(make_trace(300, name="encode.parquet", phase="encode"))
    other = split_trace(other_phase, (0.6, 0.2, 0.2), 1, tmp_path / "encode")
    for name in SPLITS:
        np.testing.assert_array_equal(np.unique(Trace(one[name]).sequence), np.unique(Trace(other[name]).sequence))


def test_another_seed_gives_another_split() -> None:
    domains = ["a"] * 40
    splits = [deal(domains, (0.5, 0.25, 0.25), np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_a_split_can_keep_the_nearest_depths_only(make_trace: Maker, tmp_path: Path) -> None:
    trace = Trace(make_trace(300, lookahead_depth=3))
    for kept in (1, 2, 3, None):
        parts = split_trace(trace, (0.6, 0.2, 0.2), 1, tmp_path / f"{kept}", lookahead_depth=kept)
        for part in map(Trace, parts.values()):
            assert part.meta.lookahead_depth == (kept or 3)
            validate(part)
            rows = np.isin(trace.sequence, part.sequence)
            assert_equal(part.read(), limit_lookahead(select(trace.read(), rows), kept or 3))
    as_collected = [Trace(path).read() for path in parts.values()]
    np.testing.assert_array_equal(limit_lookahead(as_collected[0], 2).lookahead, as_collected[0].lookahead[:, :, :2])


@pytest.mark.parametrize(("has", "wanted"), [(1, 2), (3, 4), (3, 0), (3, -1)])
def test_a_depth_that_a_trace_does_not_have(make_trace: Maker, tmp_path: Path, has: int, wanted: int) -> None:
    trace = Trace(make_trace(300, lookahead_depth=has))
    with pytest.raises(InputError, match=rf"look-ahead depth {wanted}: .*t.parquet has depths 1 to {has}$"):
        split_trace(trace, (0.6, 0.2, 0.2), 1, tmp_path / "out", lookahead_depth=wanted)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.9, 0.2, -0.1), (0.5, 0.4, 0.2), (1.0, 0.0, 0.0)])
def test_fractions_that_are_no_fractions(make_trace: Maker, tmp_path: Path, fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="three positive numbers with sum 1"):
        split_trace(Trace(make_trace()), fractions, 0, tmp_path / "out")


def test_too_few_sequences_for_three(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.parquet", META, [random_block(5, META, mean_length=10**9)])
    with pytest.raises(InputError, match="1 sequences are too few, validation would be empty"):
        split_trace(Trace(tmp_path / "t.parquet"), (0.8, 0.1, 0.1), 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Export


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_long_form_agrees_with_the_arrays(make_trace: Maker, tmp_path: Path, suffix: str) -> None:
    trace = Trace(make_trace(80))
    out = tmp_path / f"long{suffix}"
    assert export(trace, out) == 80 * 3
    long = pd.read_parquet(out) if suffix == ".parquet" else pd.read_csv(out)
    experts = long[[f"expert_{place}" for place in range(4)]].to_numpy().reshape(80, 3, 4)
    np.testing.assert_array_equal(experts, trace.experts)
    probs = long[[f"prob_{place}" for place in range(4)]].to_numpy().reshape(80, 3, 4)
    np.testing.assert_allclose(probs, trace.probs, rtol=1e-6)
    assert long["source"].tolist() == [META.sources[code] for code in trace.source.repeat(3)]
    counted = long.groupby(["layer", "expert_0"]).size().unstack(fill_value=0)
    for layer, expert in counted.stack().index:
        assert counted.loc[layer, expert] == (trace.experts[:, layer, 0] == expert).sum()


@pytest.mark.parametrize(("depth", "names"), [(1, ["lookahead"]), (2, ["lookahead1", "lookahead2"])])
def test_the_long_form_has_every_depth(make_trace: Maker, tmp_path: Path, depth: int, names: list[str]) -> None:
    trace = Trace(make_trace(80, lookahead_depth=depth))
    export(trace, tmp_path / "long.parquet")
    long = pd.read_parquet(tmp_path / "long.parquet")
    columns = [f"{name}_{place}" for name in names for place in range(4)]
    assert [column for column in long.columns if column.startswith("lookahead")] == columns
    np.testing.assert_array_equal(long[columns].to_numpy().reshape(80, 3, depth, 4), trace.lookahead)


def test_what_a_trace_lacks_is_not_exported(make_trace: Maker, tmp_path: Path) -> None:
    trace = Trace(make_trace(has_probs=False, has_lookahead=False))
    export(trace, tmp_path / "long.parquet")
    assert pq.read_schema(tmp_path / "long.parquet").names[5:] == [f"expert_{place}" for place in range(4)]


def test_an_empty_trace_exports_a_header(make_trace: Maker, tmp_path: Path) -> None:
    assert export(Trace(make_trace(0)), tmp_path / "long.csv") == 0
    assert (tmp_path / "long.csv").read_text().startswith('"sequence","position"')


def test_an_unknown_suffix(make_trace: Maker, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.parquet or \.csv expected"):
        export(Trace(make_trace()), tmp_path / "long.xlsx")


def test_the_first_tokens_cross_row_groups(tmp_path: Path) -> None:
    block = random_block(6, META, mean_length=10**9)
    write_trace(tmp_path / "t.parquet", META, [select(block, slice(n, n + 2)) for n in (0, 2, 4)])
    rows = first_tokens(Trace(tmp_path / "t.parquet"), 3)
    assert [(row["position"], row["layer"]) for row in rows] == [(p, layer) for p in range(3) for layer in range(3)]
    assert rows[4]["used"] + rows[4]["others"] == block.experts[1, 1].tolist()
    assert len(first_tokens(Trace(tmp_path / "t.parquet"), 99)) == 6 * 3
    with pytest.raises(SpecmoeError, match="at least one"):
        first_tokens(Trace(tmp_path / "t.parquet"), 0)


# Summary


def test_use_of_experts_by_hand() -> None:
    used = np.array([[[0, 1], [3, 2]], [[0, 2], [-1, -1]]], np.int16)
    np.testing.assert_array_equal(expert_counts(used, 4), [[2, 1, 1, 0], [0, 0, 1, 1]])
    use = layer_use(np.array([2, 1, 1, 0]))
    assert (use.entropy_bits, use.active_experts, use.top_share) == (1.5, 3, 0.5)
    nothing = layer_use(np.zeros(4, np.int64))
    assert (nothing.entropy_bits, nothing.active_experts, nothing.top_share) == (0, 0, 0)


def test_a_summary_counts_what_numpy_counts(make_trace: Maker) -> None:
    trace = Trace(make_trace(300))
    summary = summarize(trace)
    assert summary.tokens == 300
    assert summary.sequences == len(set(trace.sequence.tolist()))
    assert summary.tokens_by_source == {"code": (trace.source == 0).sum(), "prose": (trace.source == 1).sum()}
    shares = pd.Series(trace.experts[:, 1, :2].reshape(-1)).value_counts(normalize=True)
    assert summary.layers[1].entropy_bits == pytest.approx(-(shares * np.log2(shares)).sum())
    assert summary.layers[1].top_share == pytest.approx(shares.max())
