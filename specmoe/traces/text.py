"""Where text comes from: documents by domain, whole documents held out, windows of tokens.

A document's domain (its `source`) is its file's name up to the first dot. Documents in one file are separated by a
line that holds nothing but a form feed; `.xz` files are read as they are.

Text of public data sets, prompted as T5-style models were trained to be prompted.

Prompts and answers are those of Raffel et al. 2020, appendix D. A data set with an answer gives (prompt, answer) pairs;
one without is plain text. Everything goes through the `datasets` library (extra `hub`), row by row.
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice, zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, MissingExtraError, hint
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


ROWS_PER_DOCUMENT = 64  # a row of plain text is often one line


class Dataset(NamedTuple):
    """Where a data set is on the hub and how a row becomes text.

    `prompt` and `answer` are format strings over a row's columns; `labels` name the classes of the column `answer`.
    """

    path: str
    config: str | None
    split: str
    prompt: str
    answer: str | None = None
    labels: tuple[str, ...] = ()


class Prompted(NamedTuple):
    """One task instance of one data set."""

    source: str
    prompt: str
    answer: str


def _glue(task: str, prompt: str, *labels: str, split: str = "validation") -> Dataset:
    return Dataset("nyu-mll/glue", task, split, f"{task} {prompt}", "label", labels)


_TWO = "sentence1: {sentence1} sentence2: {sentence2}"

DATASETS: dict[str, Dataset] = {
    "wikitext": Dataset("Salesforce/wikitext", "wikitext-103-raw-v1", "test", "{text}"),
    "wikitext-2": Dataset("Salesforce/wikitext", "wikitext-2-raw-v1", "test", "{text}"),
    "c4": Dataset("allenai/c4", "en", "validation", "{text}"),
    "squad": Dataset(
        "rajpurkar/squad", None, "validation", "question: {question} context: {context}", "{answers[text][0]}"
    ),
    "boolq": Dataset(
        "google/boolq", None, "validation", "boolq passage: {passage} question: {question}", "answer", ("False", "True")
    ),
    "cnn_dailymail": Dataset("abisee/cnn_dailymail", "3.0.0", "validation", "summarize: {article}", "{highlights}"),
    "xsum": Dataset("EdinburghNLP/xsum", None, "validation", "summarize: {document}", "{summary}"),
    "wmt14-de": Dataset(
        "wmt/wmt14", "de-en", "validation", "translate English to German: {translation[en]}", "{translation[de]}"
    ),
    "wmt14-fr": Dataset(
        "wmt/wmt14", "fr-en", "validation", "translate English to French: {translation[en]}", "{translation[fr]}"
    ),
    "glue/cola": _glue("cola", "sentence: {sentence}", "unacceptable", "acceptable"),
    "glue/sst2": _glue("sst2", "sentence: {sentence}", "negative", "positive"),
    "glue/mrpc": _glue("mrpc", _TWO, "not_equivalent", "equivalent"),
    "glue/qqp": _glue("qqp", "question1: {question1} question2: {question2}", "not_duplicate", "duplicate"),
    "glue/mnli": _glue(
        "mnli",
        "hypothesis: {hypothesis} premise: {premise}",
        *("entailment", "neutral", "contradiction"),
        split="validation_matched",
    ),
    "glue/qnli": _glue("qnli", "question: {question} sentence: {sentence}", "entailment", "not_entailment"),
    "glue/rte": _glue("rte", _TWO, "entailment", "not_entailment"),
}


def tasks(name: str) -> list[str]:
    """The entries of `DATASETS` that a name stands for: itself, or all of a group such as `glue`."""
    chosen = [key for key in DATASETS if key == name or key.startswith(f"{name}/")]
    if not chosen:
        raise InputError(f"--dataset {name}: {hint(name, ('glue', *DATASETS))}")
    return chosen


def read_dataset(name: str, split: str = "all", limit: int | None = None) -> list[Document | Prompted]:
    """Texts of a data set, at most `limit` of each of its tasks, tasks taking turns.

    `split` "all" means each task's own evaluation split, the one named in `DATASETS`.

    Raises InputError for an unknown name or split and where the hub cannot be reached, MissingExtraError without the
    `datasets` library.
    """
    turns = zip_longest(*(_read_task(task, split, limit) for task in tasks(name)))
    return [text for turn in turns for text in turn if text is not None]


def split_name(name: str, split: str) -> str:
    """What a data set calls `split`: "all" is its own evaluation split; glue/mnli has a `validation_matched`."""
    own = list(dict.fromkeys(DATASETS[task].split for task in tasks(name)))
    return ", ".join(own) if split == "all" else next((known for known in own if known.startswith(split)), split)


def _read_task(task: str, split: str, limit: int | None) -> list[Document | Prompted]:
    entry = DATASETS[task]
    rows = _stream(task, entry, split_name(task, split))
    texts: Iterator[Document | Prompted] = _documents(task, entry, rows)
    if entry.answer is not None:
        texts = (Prompted(task, entry.prompt.format_map(row), answer_of(entry, row)) for row in rows)
    try:
        return list(islice(texts, limit))
    except Exception as error:  # every way in which a hub can fail has a class of its own
        raise InputError(f"--dataset {task}: {_first_line(error)}") from None


def answer_of(entry: Dataset, row: Mapping[str, Any]) -> str:
    """The text that a T5-style model is to say for a row."""
    answer = entry.answer or ""
    return entry.labels[int(row[answer])] if entry.labels else answer.format_map(row)


def _documents(task: str, entry: Dataset, rows: Iterable[Mapping[str, Any]]) -> Iterator[Document]:
    remaining = iter(rows)
    while some := list(islice(remaining, ROWS_PER_DOCUMENT)):
        text = "".join(entry.prompt.format_map(row).rstrip("\n") + "\n" for row in some)
        if text.strip():
            yield Document(task, text)


def _stream(task: str, entry: Dataset, split: str) -> Iterable[Mapping[str, Any]]:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "hub") from None
    try:
        rows: Iterable[Mapping[str, Any]] = datasets.load_dataset(entry.path, entry.config, split=split, streaming=True)
    except Exception as error:  # as above
        raise InputError(f"--dataset {task}: {entry.path} cannot be read from the hub: {_first_line(error)}") from None
    return rows


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
