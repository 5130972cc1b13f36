"""Data sets: prompts by hand against rows like the hub's, through a stand-in for the `datasets` library.

Real downloads are not tested here: that needs the hub.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_models import Collected, rows_of, tiny_tokenizer

from specmoe.errors import InputError, MissingExtraError
from specmoe.traces.text import DATASETS, Document, Prompted, read_dataset, split_name, tasks

ROW: dict[str, Any] = {
    "text": " = Cats = \n",
    "question": "who sat",
    "context": "the cat sat",
    "answers": {"text": ["the cat", "cat"], "answer_start": [0, 4]},
    "passage": "the cat sat",
    "answer": True,
    "article": "long",
    "highlights": "short",
    "document": "long",
    "summary": "short",
    "translation": {"en": "cat", "de": "Katze", "fr": "chat"},
    "sentence": "the cat sat",
    "sentence1": "the cat",
    "sentence2": "a mat",
    "question1": "who sat",
    "question2": "who read",
    "hypothesis": "the cat sat",
    "premise": "on a mat",
    "label": 1,
}
EXPECTED = {
    "squad": ("question: who sat context: the cat sat", "the cat"),
    "boolq": ("boolq passage: the cat sat question: who sat", "True"),
    "cnn_dailymail": ("summarize: long", "short"),
    "xsum": ("summarize: long", "short"),
    "wmt14-de": ("translate English to German: cat", "Katze"),
    "wmt14-fr": ("translate English to French: cat", "chat"),
    "glue/cola": ("cola sentence: the cat sat", "acceptable"),
    "glue/sst2": ("sst2 sentence: the cat sat", "positive"),
    "glue/mrpc": ("mrpc sentence1: the cat sentence2: a mat", "equivalent"),
    "glue/qqp": ("qqp question1: who sat question2: who read", "duplicate"),
    "glue/mnli": ("mnli hypothesis: the cat sat premise: on a mat", "neutral"),
    "glue/qnli": ("qnli question: who sat sentence: the cat sat", "not_entailment"),
    "glue/rte": ("rte sentence1: the cat sentence2: a mat", "not_entailment"),
}


class Hub(SimpleNamespace):
    """Stands in for the `datasets` library; remembers what was asked for."""

    def load_dataset(self, path: str, config: str | None, *, split: str, streaming: bool) -> list[dict[str, Any]]:
        self.asked.append((path, config, split, streaming))
        return self.rows


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(asked=[], rows=[ROW] * 5)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return fake


@pytest.mark.parametrize("name", list(EXPECTED))
def test_prompts_and_answers_by_hand(name: str, hub: Hub) -> None:
    assert read_dataset(name, limit=1) == [Prompted(name, *EXPECTED[name])]


@pytest.mark.parametrize("name", [name for name in DATASETS if name not in EXPECTED])
def test_data_sets_without_answers_are_plain_text(name: str, hub: Hub) -> None:
    assert read_dataset(name) == [Document(name, " = Cats = \n" * 5)]


def test_every_entry_streams_its_own_split(hub: Hub) -> None:
    for name in DATASETS:
        read_dataset(name)
    assert hub.asked == [(entry.path, entry.config, entry.split, True) for entry in DATASETS.values()]


def test_rows_of_plain_text_are_joined_to_documents(hub: Hub) -> None:
    hub.rows = [{"text": f"line {i}\n"} for i in range(130)]
    documents = read_dataset("wikitext")
    assert [text.text.count("\n") for text in documents if isinstance(text, Document)] == [64, 64, 2]
    hub.rows = [{"text": "\n"}] * 70
    assert read_dataset("wikitext") == []


def test_a_group_takes_turns(hub: Hub) -> None:
    names = [text.source for text in read_dataset("glue", limit=2)]
    assert names == tasks("glue") * 2
    assert set(names) == {name for name in DATASETS if name.startswith("glue/")}


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("squad", "all", "validation"),
        ("squad", "train", "train"),
        ("glue/mnli", "validation", "validation_matched"),
        ("glue", "all", "validation, validation_matched"),
        ("wikitext", "all", "test"),
    ],
)
def test_split_names(name: str, split: str, expected: str) -> None:
    assert split_name(name, split) == expected


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"--dataset imagenet: one of .*glue, .*wikitext.* expected"):
        read_dataset("imagenet")


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"datasets is not installed: pip install -e '.\[hub\]'"):
        read_dataset("squad")


@pytest.mark.parametrize(
    "error", [ConnectionError("no route to host\nTraceback"), ValueError("Unknown split"), KeyError()]
)
def test_a_hub_that_fails_is_one_line(error: Exception, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(hub, "load_dataset", fail)
    with pytest.raises(InputError, match="--dataset squad: rajpurkar/squad cannot be read from the hub: ") as raised:
        read_dataset("squad")
    assert "\n" not in str(raised.value)


def test_a_stream_that_breaks_is_one_line(hub: Hub) -> None:
    hub.rows = [{"question": "no context"}]
    with pytest.raises(InputError, match="--dataset squad: 'context'"):
        read_dataset("squad")


def test_prompts_and_answers_reach_an_encoder_decoder(hub: Hub, run: Collected) -> None:
    hub.rows = [{"sentence": "the cat sat on a mat", "label": i % 2} for i in range(4)]
    traces = run(text=(), dataset="glue/sst2", sequences=3)
    vocab = tiny_tokenizer().get_vocab()
    prompt = [vocab.get(word, 3) for word in ["sst2", "sentence:", "the", "cat", "sat", "on", "a", "mat"]]
    for sequence in range(3):
        assert rows_of(traces["encode"].read(), sequence).token.tolist() == [*prompt, 1]
        assert rows_of(traces["decode"].read(), sequence).token.tolist() == [0, 3]  # the answer's one unknown word
    meta = traces["encode"].meta
    assert (meta.sources, meta.split) == (("glue/sst2",), "validation")
    assert meta.corpus.startswith("glue/sst2: 3 sequences")
    assert not any("span corruption" in note for note in meta.notes)


def test_a_decoder_only_model_reads_prompt_and_answer(hub: Hub, run: Collected) -> None:
    hub.rows = [{"question": "who sat", "context": "on a mat", "answers": {"text": ["the cat"]}}]
    trace = run("olmoe", text=(), dataset="squad")["decode"]
    vocab = tiny_tokenizer().get_vocab()
    words = ["question:", "who", "sat", "context:", "on", "a", "mat", "the", "cat"]
    assert trace.token.tolist() == [vocab.get(word, 3) for word in words]


def test_long_prompts_are_cut_to_the_window(hub: Hub, run: Collected) -> None:
    hub.rows = [{"sentence": "cat " * 100, "label": 0}]
    for model, end in (("switch_transformers", [1]), ("mixtral", [])):
        trace = run(model, out=model, text=(), dataset="glue/cola")["encode"]
        assert len(trace) == 32
        assert trace.token.tolist()[31:] == (end or [5])
