"""Documents, domains, held-out splits and windows."""

from __future__ import annotations

import lzma
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmoe.errors import InputError
from specmoe.traces.text import ENCODED_AT_ONCE, Document, held_out, read_documents, text_files, windows

SPLITS: tuple[Any, ...] = ("train", "validation", "test")


def texts(*paths: Path) -> list[tuple[str, str]]:
    return [tuple(document) for document in read_documents(paths)]


def numbered(**counts: int) -> list[Document]:
    """So many documents of each domain."""
    return [Document(source, f"{source} {i}") for source, count in counts.items() for i in range(count)]


def test_a_line_with_a_form_feed_separates_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\f\ntwo\n\ntwo\n\f\n")
    assert texts(tmp_path / "a.txt") == [("a", "one"), ("a", "two\n\ntwo")]


@pytest.mark.parametrize(
    ("raw", "documents"),
    [
        (b"\f\none", ["one"]),
        (b"one\n\f", ["one"]),
        (b"one\n\f\n\f\ntwo", ["one", "two"]),
        (b"one\r\n\f\r\ntwo\r\n", ["one", "two"]),
        (b"one \f two\n\fthree\n", ["one \f two\n\fthree"]),
        (b"\n  indented\n", ["  indented"]),
        (b"one\n\f\n \n\t\n\f\ntwo", ["one", "two"]),
    ],
)
def test_separators_by_hand(raw: bytes, documents: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    assert [text for _, text in texts(tmp_path / "a.txt")] == documents


def test_xz_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "b.txt.xz").write_bytes(lzma.compress("eins\n\f\nzwö".encode()))
    assert texts(tmp_path / "b.txt.xz") == [("b", "eins"), ("b", "zwö")]


def test_a_domain_is_the_name_up_to_the_first_dot(tmp_path: Path) -> None:
    for name in ("code_c.v1.txt", "b.txt", "README"):
        (tmp_path / name).write_text(name)
    named = [tmp_path / name for name in ("code_c.v1.txt", "b.txt", "README")]
    assert texts(*named) == [("README", "README"), ("b", "b.txt"), ("code_c", "code_c.v1.txt")]


def test_a_directory_gives_its_visible_text_files(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    for name in ("z.txt", "a.txt", "b.txt.xz", "README.md", "c.xz", ".hidden.txt", "d.txt.gz"):
        (tmp_path / name).write_bytes(lzma.compress(b"x") if name.endswith("xz") else b"x")
    assert [file.name for file in text_files([tmp_path])] == ["a.txt", "b.txt.xz", "z.txt"]


def test_a_file_named_twice_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("one")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    assert texts(tmp_path, Path("a.txt"), tmp_path / "link" / "a.txt") == [("a", "one")]


def test_two_files_of_one_domain_are_one_domain(tmp_path: Path) -> None:
    for folder in "pq":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder)
        (tmp_path / folder / f"{folder}.txt").write_text("other")
    assert [source for source, _ in texts(tmp_path / "p", tmp_path / "q")] == ["a", "a", "p", "q"]


def write_bad(directory: Path) -> dict[str, Path]:
    """Files that are not text, by what is wrong."""
    contents = {
        "latin.txt": "é".encode("latin-1"),
        "torn.txt.xz": lzma.compress(b"text" * 100)[:-20],
        "fake.txt.xz": b"not xz at all",
        "empty.txt": b"",
        "blank.txt": b" \n\f\n\t\n",
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return {name.split(".")[0]: directory / name for name in contents} | {"missing": directory / "missing.txt"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("latin", "not UTF-8 text"),
        ("torn", "not UTF-8 text"),
        ("fake", "not UTF-8 text"),
        ("empty", "no text"),
        ("blank", "no text"),
        ("missing", "no such file or directory"),
    ],
)
def test_bad_files_are_one_line_that_names_them(bad: str, message: str, tmp_path: Path) -> None:
    path = write_bad(tmp_path)[bad]
    with pytest.raises(InputError, match=message) as raised:
        read_documents([path])
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "a.txt").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"a\.txt: not UTF-8 text \(Permission denied\)"):
        read_documents([tmp_path / "a.txt"])


def test_a_directory_without_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}: no text"):
        read_documents([tmp_path])


COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(3, 90), min_size=1)


@given(COUNTS, st.integers(0, 5))
def test_splits_are_disjoint_exhaustive_and_in_order(counts: dict[str, int], seed: int) -> None:
    documents = numbered(**counts)
    parts = [held_out(documents, split, seed) for split in SPLITS]
    assert sorted(document for part in parts for document in part) == sorted(documents)
    place = {document: (document.source, i) for i, document in enumerate(documents)}
    assert all(part == sorted(part, key=place.__getitem__) for part in parts)


@given(COUNTS)
def test_a_twentieth_of_each_domain_is_held_out_but_at_least_one(counts: dict[str, int]) -> None:
    documents = numbered(**counts)
    for split in ("validation", "test"):
        sources = [document.source for document in held_out(documents, split)]
        assert {source: sources.count(source) for source in counts} == {
            source: max(1, round(count / 20)) for source, count in counts.items()
        }


@given(COUNTS, st.randoms(use_true_random=False))
def test_a_domain_splits_alike_whatever_the_others(counts: dict[str, int], shuffler: Any) -> None:
    documents = numbered(**counts)
    reordered = numbered(**{source: counts[source] for source in shuffler.sample(sorted(counts), len(counts))})
    for source in counts:
        alone = held_out(numbered(**{source: counts[source]}), "test")
        assert [d for d in held_out(reordered, "test") if d.source == source] == alone
        assert [d for d in held_out(documents, "test") if d.source == source] == alone


def test_the_seed_draws_other_documents() -> None:
    drawn = {tuple(held_out(numbered(a=90), "test", seed)) for seed in range(4)}
    assert len(drawn) == 4


def test_domains_draw_for_themselves() -> None:
    documents = numbered(**dict.fromkeys("abcdef", 90))
    chosen = [document.text.split() for document in held_out(documents, "test")]
    assert len({tuple(number for source, number in chosen if source == name) for name in "abcdef"}) == 6


def test_all_is_everything() -> None:
    assert held_out(numbered(a=1, b=2), "all") == numbered(a=1, b=2)


@pytest.mark.parametrize("count", [1, 2])
def test_a_domain_too_small_to_hold_out_is_named(count: int) -> None:
    with pytest.raises(InputError, match=rf"domain 'lonely' has {count} document\(s\): 3 are needed"):
        held_out(numbered(a=5, lonely=count), "train")


def test_an_unknown_split_lists_the_known_ones() -> None:
    split: Any = "dev"
    with pytest.raises(InputError, match="split 'dev': one of all, test, train, validation expected"):
        held_out(numbered(a=3), split)


def ranges(texts: list[str]) -> list[list[int]]:
    """A text "5+3" has the tokens 5, 6, 7."""
    pairs = [text.split("+") for text in texts]
    return [list(range(int(first), int(first) + int(count))) for first, count in pairs]


def lengthy(lengths: dict[str, list[int]]) -> list[Document]:
    """Documents of so many tokens, no token in two of them."""
    pairs = [(source, count) for source, counts in lengths.items() for count in counts]
    return [Document(source, f"{1000 * i}+{count}") for i, (source, count) in enumerate(pairs)]


def cut(documents: list[Document], length: int, shortest: int | None = None) -> list[tuple[str, list[int]]]:
    return [(source, ids.tolist()) for source, ids in windows(documents, ranges, length, shortest)]


def test_windows_by_hand() -> None:
    found = cut(lengthy({"a": [10, 3], "b": [5]}), length=4, shortest=2)
    assert found == [
        ("a", [0, 1, 2, 3]),
        ("b", [2000, 2001, 2002, 2003]),
        ("a", [4, 5, 6, 7]),
        ("a", [8, 9]),
        ("a", [1000, 1001, 1002]),
    ]


def test_a_short_document_is_kept_whole_and_a_short_tail_is_not() -> None:
    assert cut(lengthy({"a": [1, 9, 10]}), length=8) == [
        ("a", [0]),
        ("a", list(range(1000, 1008))),
        ("a", list(range(2000, 2008))),
        ("a", [2008, 2009]),
    ]


LENGTHS = st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 60), min_size=1, max_size=5), min_size=1)


@given(LENGTHS, st.integers(1, 20), st.floats(0, 1))
def test_windows_are_the_documents_but_for_short_tails(
    lengths: dict[str, list[int]], length: int, share: float
) -> None:
    shortest = int(share * length)
    documents = lengthy(lengths)
    found = cut(documents, length, shortest)
    for document, tokens in zip(documents, ranges([d.text for d in documents]), strict=True):
        parts = [ids for source, ids in found if tokens and ids[0] // 1000 == tokens[0] // 1000]
        assert all(len(ids) == length for ids in parts[:-1])
        joined = [token for ids in parts for token in ids]
        assert joined == tokens[: len(joined)]
        assert len(tokens) - len(joined) < max(shortest, 1)
        assert bool(parts) == bool(tokens)
        assert all(source == document.source for source, ids in found if ids in parts)


@given(LENGTHS, st.integers(1, 20))
def test_domains_take_turns_while_they_last(lengths: dict[str, list[int]], length: int) -> None:
    sources = [source for source, _ in cut(lengthy(lengths), length)]
    while sources:
        here = sorted(set(sources))
        assert sources[: len(here)] == here
        sources = sources[len(here) :]


def test_documents_that_are_not_sorted_take_turns_too() -> None:
    mixed = lengthy({"a": [8], "b": [8]}) + lengthy({"a": [8]})
    assert [source for source, _ in cut(mixed, 4)] == ["a", "b", "a", "b", "a", "a"]


def test_windows_are_int32() -> None:
    (window,) = windows(lengthy({"a": [3]}), ranges, 8)
    assert window.ids.dtype == np.int32


def test_documents_are_encoded_in_chunks_when_their_turn_comes() -> None:
    seen: list[int] = []

    def encode(texts: list[str]) -> list[list[int]]:
        seen.append(len(texts))
        return ranges(texts)

    turns = windows(lengthy({"a": [4] * 150, "b": [4]}), encode, 4)
    assert len(list(islice(turns, 2))) == 2
    assert seen == [ENCODED_AT_ONCE, 1]
    assert len(list(turns)) == 149
    assert sorted(seen) == [1, 150 - 2 * ENCODED_AT_ONCE, ENCODED_AT_ONCE, ENCODED_AT_ONCE]
