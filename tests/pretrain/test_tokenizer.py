"""The tokenizer: any text comes back, and no text yields a reserved id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import SENTENCE, VOCABULARY
from transformers import PreTrainedTokenizerFast

from specmoe.errors import InputError, ModelError
from specmoe.traces.tokenizer import BYTES, RESERVED, SENTINELS, load_tokenizer, sentinel_ids, train_tokenizer

TEXTS = [SENTENCE, "def f(x):\n    return x + 1\n\n\n\tclass A: pass\r\n", "<b>0x41 unk pad</b> extra_id_0 ▁"] * 10
ODD = ["<extra_id_0>", "<pad>", "</s>", "<unk>", "<0x41>", "<0x", "<", "<<", ">", " ", "  ", "\n", "\t", "\r\n", "\0"]
ODD += ["the", " cat", "é", "e\u0301", "日本", "\U0001f600", "\ufeff", "\u2028", "\u00a0", "0xFF>", "\f"]


@pytest.fixture(scope="module")
def trained() -> Any:
    return train_tokenizer(TEXTS, 400)


@pytest.fixture(scope="module")
def loaded(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("tokenizer")
    trained.save_pretrained(directory)
    return load_tokenizer(directory)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def assert_comes_back(tokenizer: Any, text: str, expected: str | None = None) -> None:
    ids = ids_of(tokenizer, text)
    assert tokenizer.decode(ids) == (text if expected is None else expected)
    assert all(3 <= i < len(tokenizer) - SENTINELS for i in ids)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁")))
def test_any_text_comes_back(loaded: Any, text: str) -> None:
    assert_comes_back(loaded, text)


@given(st.lists(st.sampled_from(ODD), max_size=12))
def test_white_space_and_names_of_reserved_pieces_come_back(loaded: Any, pieces: list[str]) -> None:
    assert_comes_back(loaded, "".join(pieces))


@pytest.mark.parametrize("text", [*ODD, "", f"{SENTENCE} <0x41></s>", *TEXTS[:2]])
def test_texts_by_hand_come_back_before_and_after_saving(text: str, trained: Any, loaded: Any) -> None:
    assert_comes_back(trained, text)
    assert_comes_back(loaded, text)
    assert ids_of(trained, text) == ids_of(loaded, text)


def test_the_sign_for_a_space_comes_back_as_one(loaded: Any) -> None:
    assert_comes_back(loaded, "a▁b ▁<pad>", "a b  <pad>")


def test_an_unknown_letter_falls_back_to_its_bytes(loaded: Any) -> None:
    assert ids_of(loaded, "日") == [3 + byte for byte in "日".encode()]


def test_layout_of_the_ids(loaded: Any) -> None:
    reserved = ["<pad>", "</s>", "<unk>", *BYTES]
    assert loaded.convert_ids_to_tokens(range(RESERVED)) == reserved
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id) == (0, 1, 2)
    last = range(len(loaded) - SENTINELS, len(loaded))
    assert loaded.convert_ids_to_tokens(last) == [f"<extra_id_{i}>" for i in reversed(range(100))]
    assert len(loaded) <= 400 + SENTINELS
    assert len(loaded.get_vocab()) == len(loaded)


def test_a_large_enough_text_fills_the_vocabulary() -> None:
    words = [f"{a}{b}{c}" for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwx"]
    assert len(train_tokenizer([" ".join(words)] * 3, VOCABULARY)) == VOCABULARY + SENTINELS


def test_names_of_reserved_pieces_are_not_learned() -> None:
    tokenizer = train_tokenizer([SENTENCE + " </s><0x41><pad>" * 40] * 5, 400)
    vocab = tokenizer.get_vocab()
    assert [piece for piece in ("</s>", "<0x41>", "<pad>") if vocab[piece] >= RESERVED] == []


def test_sentinels_are_counted_backwards(loaded: Any) -> None:
    assert sentinel_ids(loaded).tolist() == list(range(len(loaded) - 1, len(loaded) - 101, -1))


def bare_tokenizer(names: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of these names only."""
    from tokenizers import Tokenizer, models

    vocab = {name: i for i, name in enumerate(["<unk>", *names])}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocab, "<unk>")), unk_token="<unk>")


def test_sentinels_of_a_t5_like_tokenizer() -> None:
    assert sentinel_ids(bare_tokenizer(["a", "<extra_id_1>", "<extra_id_0>"])).tolist() == [3, 2]


def test_a_tokenizer_without_sentinels_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="tokenizer: no sentinels <extra_id_0>"):
        sentinel_ids(bare_tokenizer(["a"]))


@pytest.mark.parametrize(
    ("texts", "pieces", "message"),
    [
        (TEXTS, 0, "a vocabulary of 0: 259 ids are reserved"),
        (TEXTS, 260, "a vocabulary of 260: 259 ids are reserved"),
        (TEXTS, 265, "a vocabulary of 265, 259 of them reserved: .* not large enough to contain all chars"),
        ([], 400, "no text to train a tokenizer on"),
        ([""], 400, "no text to train a tokenizer on"),
    ],
)
def test_what_cannot_be_trained_is_one_line(texts: list[str], pieces: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        train_tokenizer(texts, pieces)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["", "{", '{"version": "1.0"}', "[]"])
def test_a_damaged_tokenizer_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"tokenizer\.json: not a tokenizer") as raised:
        load_tokenizer(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_directory_without_a_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
