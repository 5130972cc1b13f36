"""Where text comes from: documents by domain, whole documents held out, windows of tokens.

A document's domain (its `source`) is its file's name up to the first dot. Documents in one file are separated by a
line that holds nothing but a form feed; `.xz` files are read as they are.
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, hint
from specmoe.files import parsing, require_regular

Split = Literal["all", "train", "validation", "test"]
HELD_OUT_FRACTION = 0.05
ENCODED_AT_ONCE = 64  # documents; fast tokenizers work on them in parallel
SUFFIXES = (".txt", ".txt.xz")  # what is taken from a directory; a file that is named is read whatever its suffix
SEPARATOR = re.compile(r"^\f\r?$", re.MULTILINE)
Encode = Callable[[list[str]], list[list[int]]]


class Document(NamedTuple):
    """One text of one domain."""

    source: str
    text: str


class Window(NamedTuple):
    """Consecutive tokens of one document."""

    source: str
    ids: NDArray[np.int32]


def read_documents(paths: Sequence[Path]) -> list[Document]:
    """All non-empty documents of files and directories, ordered by domain, then as they stand in the file.

    Raises InputError for a missing or undecodable file and if there is no text at all.
    """
    documents = [document for file in text_files(paths) for document in _read(file)]
    if not documents:
        raise InputError(f"{', '.join(map(str, paths))}: no text")
    return sorted(documents, key=attrgetter("source"))


def text_files(paths: Sequence[Path]) -> list[Path]:
    """The files named and those in the directories named, each once: text read twice could not be held out.

    From a directory come its .txt and .txt.xz files that are not hidden. Raises InputError for what is not there.
    """
    files = [file for path in paths for file in _files(path)]
    return list({file.resolve(): file for file in reversed(files)}.values())[::-1]


def held_out(documents: Sequence[Document], split: Split, seed: int = 0) -> list[Document]:
    """The documents of a split: in each domain 5 % are held out for validation and 5 % for test, at least one each.

    Raises InputError if a domain has fewer than three documents, since none could then be held out.
    """
    if split not in get_args(Split):
        raise InputError(f"split {split!r}: {hint(split, get_args(Split))}")
    if split == "all":
        return list(documents)
    kept: list[Document] = []
    for group in _domains(documents):
        kept += _split_domain(group, split, seed)
    return kept


def windows(
    documents: Sequence[Document], encode: Encode, length: int, shortest: int | None = None
) -> Iterator[Window]:
    """Cut documents into windows of at most `length` tokens, domains taking turns so that any prefix holds all of them.

    A tail shorter than `shortest` (a quarter of `length` by default) is dropped, unless it is the whole document.
    """
    shortest = length // 4 if shortest is None else shortest
    turns = deque(_cut(group, encode, length, shortest) for group in _domains(documents))
    while turns:
        domain = turns.popleft()
        if (window := next(domain, None)) is not None:
            yield window
            turns.append(domain)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        visible = (file for file in path.iterdir() if not file.name.startswith("."))
        return sorted(file for file in visible if file.name.endswith(SUFFIXES) and file.is_file())
    if not path.is_file():
        raise InputError(f"{path}: no such file or directory")
    return [path]


def _read(file: Path) -> Iterator[Document]:
    require_regular(file, "a text")
    with parsing(file, "UTF-8 text"):
        raw = lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
        text = raw.decode()
    source = file.name.split(".")[0]
    return (Document(source, piece.strip("\r\n")) for piece in SEPARATOR.split(text) if piece.strip())


def _domains(documents: Sequence[Document]) -> list[list[Document]]:
    """The documents of each domain, in the order of their names."""
    return [list(group) for _, group in groupby(sorted(documents, key=attrgetter("source")), attrgetter("source"))]


def _split_domain(documents: list[Document], split: Split, seed: int) -> list[Document]:
    source = documents[0].source
    if len(documents) < 3:
        raise InputError(f"domain {source!r} has {len(documents)} document(s): 3 are needed to hold out whole ones")
    order = np.random.default_rng([seed, zlib.crc32(source.encode())]).permutation(len(documents))
    count = max(1, round(HELD_OUT_FRACTION * len(documents)))
    chosen = {"validation": order[:count], "test": order[count : 2 * count], "train": order[2 * count :]}[split]
    return [documents[i] for i in sorted(chosen)]


def _cut(documents: list[Document], encode: Encode, length: int, shortest: int) -> Iterator[Window]:
    for first in range(0, len(documents), ENCODED_AT_ONCE):
        chunk = documents[first : first + ENCODED_AT_ONCE]
        for document, ids in zip(chunk, encode([document.text for document in chunk]), strict=True):
            for start in range(0, len(ids), length):
                piece = np.asarray(ids[start : start + length], dtype=np.int32)
                if len(piece) >= shortest or start == 0:
                    yield Window(document.source, piece)
