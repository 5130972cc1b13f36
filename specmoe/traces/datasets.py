"""Text of public data sets, prompted as T5-style models were trained to be prompted.

Prompts and answers are those of Raffel et al. 2020, appendix D. A data set with an answer gives (prompt, answer) pairs;
one without is plain text. Everything goes through the `datasets` library (extra `hub`), row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, zip_longest
from typing import Any, NamedTuple

from specmoe.errors import InputError, MissingExtraError, hint
from specmoe.traces.text import Document

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
