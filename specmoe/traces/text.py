"""Sources of text: files and public data sets, held-out documents, and windows of tokens.

A document's domain (its `source`) is its file name up to the first dot. Documents in one file are separated by a line
that holds only a form feed. `.xz` files are decompressed.

Data sets are read row by row through the library `datasets` (extra `hub`). A data set with an answer gives (prompt,
answer) pairs in the formats of Raffel et al. 2020, appendix D, on which T5-style models were trained; a data set
without an answer gives plain text.
"""

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
ROWS_PER_DOCUMENT = 64  # of a data set of plain text, whose rows are often single lines
SUFFIXES = (".txt", ".txt.xz")  # read from a directory; a file named itself may have any suffix
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
    """All non-empty documents of files and directories, ordered by domain, then by position in the file.

    Raises InputError for a missing or undecodable file, and if there is no text.
    """
    documents = [document for file in text_files(paths) for document in _read(file)]
    if not documents:
        raise InputError(f"{', '.join(map(str, paths))}: no text")
    return sorted(documents, key=attrgetter("source"))


def text_files(paths: Sequence[Path]) -> list[Path]:
    """Files among `paths` and in the directories among them, each once, because repeated text could not be held out.

    Directories contribute their .txt and .txt.xz files that are not hidden. Raises InputError for a missing path.
    """
    files = [file for path in paths for file in _files(path)]
    return list({file.resolve(): file for file in reversed(files)}.values())[::-1]


def held_out(documents: Sequence[Document], split: Split, seed: int = 0) -> list[Document]:
    """Documents of a split; each domain holds out 5 % for validation and 5 % for test, at least one document each.

    Raises InputError if a domain has fewer than three documents, because it could not hold out whole ones.
    """
    if split not in get_args(Split):
        raise InputError(f"split {split!r}: {hint(split, get_args(Split))}")
    if split == "all":
        return list(documents)
    documents_of_split: list[Document] = []
    for group in _domains(documents):
        documents_of_split += _split_domain(group, split, seed)
    return documents_of_split


def windows(
    documents: Sequence[Document], encode: Encode, length: int, shortest: int | None = None
) -> Iterator[Window]:
    """Cut documents into windows of at most `length` tokens; domains alternate, so every prefix covers all of them.

    A tail shorter than `shortest` (default: a quarter of `length`) is dropped, unless it is the whole document.
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
    """Documents of each domain, ordered by domain."""
    return [list(group) for _, group in groupby(sorted(documents, key=attrgetter("source")), attrgetter("source"))]


def _split_domain(documents: list[Document], split: Split, seed: int) -> list[Document]:
    source = documents[0].source
    if len(documents) < 3:
        raise InputError(f"domain {source!r} has {len(documents)} document(s): 3 are needed to hold out whole ones")
    order = np.random.default_rng([seed, zlib.crc32(source.encode())]).permutation(len(documents))
    count = max(1, round(HELD_OUT_FRACTION * len(documents)))
    rows = {"validation": order[:count], "test": order[count : 2 * count], "train": order[2 * count :]}[split]
    return [documents[i] for i in sorted(rows)]


def _cut(documents: list[Document], encode: Encode, length: int, shortest: int) -> Iterator[Window]:
    for first in range(0, len(documents), ENCODED_AT_ONCE):
        chunk = documents[first : first + ENCODED_AT_ONCE]
        for document, ids in zip(chunk, encode([document.text for document in chunk]), strict=True):
            for start in range(0, len(ids), length):
                piece = np.asarray(ids[start : start + length], dtype=np.int32)
                if len(piece) >= shortest or start == 0:
                    yield Window(document.source, piece)


class Dataset(NamedTuple):
    """Location of a data set on the hub, and conversion of its rows to text.

    `prompt` and `answer` are format strings over a row's columns; with `labels`, `answer` is a column of class numbers.
    """

    path: str
    config: str | None
    split: str
    prompt: str
    answer: str | None = None
    labels: tuple[str, ...] = ()


class Prompted(NamedTuple):
    """Prompt and answer from one row of a data set."""

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
    """Entries of `DATASETS` for a name: the data set itself, or all of a group, e.g. `glue`."""
    names = [key for key in DATASETS if key == name or key.startswith(f"{name}/")]
    if not names:
        raise InputError(f"--dataset {name}: {hint(name, ('glue', *DATASETS))}")
    return names


def read_dataset(name: str, split: str = "all", limit: int | None = None) -> list[Document | Prompted]:
    """Texts of a data set, at most `limit` from each of its tasks, alternating between tasks.

    `split` "all" is each task's evaluation split, as named in `DATASETS`. Raises InputError for an unknown name or
    split and if the hub cannot be reached, MissingExtraError if the library `datasets` is not installed.
    """
    turns = zip_longest(*(_read_task(task, split, limit) for task in tasks(name)))
    return [text for turn in turns for text in turn if text is not None]


def split_name(name: str, split: str) -> str:
    """Name of `split` in a data set; "all" is its evaluation split, e.g. `validation_matched` of glue/mnli."""
    own = list(dict.fromkeys(DATASETS[task].split for task in tasks(name)))
    return ", ".join(own) if split == "all" else next((other for other in own if other.startswith(split)), split)


def _read_task(task: str, split: str, limit: int | None) -> list[Document | Prompted]:
    entry = DATASETS[task]
    rows = _stream(task, entry, split_name(task, split))
    texts: Iterator[Document | Prompted] = _documents(task, entry, rows)
    if entry.answer is not None:
        texts = (Prompted(task, entry.prompt.format_map(row), answer_of(entry, row)) for row in rows)
    try:
        return list(islice(texts, limit))
    except Exception as error:  # hub failures have many unrelated exception classes
        raise InputError(f"--dataset {task}: {_first_line(error)}") from None


def answer_of(entry: Dataset, row: Mapping[str, Any]) -> str:
    """Text that a T5-style model should answer for a row."""
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
