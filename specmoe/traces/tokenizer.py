"""A T5-style unigram tokenizer, trained on the same text as the model (Kudo 2018; byte fallback as in SentencePiece).

Ids: 0 pad, 1 end, 2 unknown, 256 bytes, the learned pieces, and finally 100 sentinels in reverse order (<extra_id_0> is
the last id), as in T5. White space is kept, because text may be code.

Decoding restores any text, except that ▁ (U+2581), which stands for a space in the pieces, decodes to a space. Text
that spells the name of pad, end, a sentinel or a byte does not yield its id.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"
SENTINELS = 100
BYTES = [f"<0x{value:02X}>" for value in range(256)]
RESERVED = len([PAD, EOS, UNKNOWN, *BYTES])
# Text that spells a reserved piece is cut after its "<". Then: runs of spaces except the last, a word with the space
# before it, other spaces, line ends.
_NAME = r"(?:pad>|/s>|unk>|0x[0-9A-F]{2}>)"
WORDS = rf"<(?={_NAME})|▁+(?=▁[^▁\n])|▁?(?:[^▁\n<]|<(?!{_NAME}))+|▁+|\n+"


def train_tokenizer(texts: Iterable[str], pieces: int) -> Any:
    """Train a tokenizer with at most `pieces` ids (specials and bytes included) plus 100 sentinels.

    Returns a `transformers.PreTrainedTokenizerFast`; `save_pretrained` stores it. Training twice gives pieces in
    slightly different order, because the library randomises the order of words. Raises InputError for
    too few pieces or no text.
    """
    from tokenizers import Tokenizer, models

    learned = _learn(texts, pieces)
    lowest = min(score for _, score in learned) - 10.0
    reserved = [(piece, lowest) for piece in (PAD, EOS, UNKNOWN, *BYTES)]
    return _wrap(_with_white_space(Tokenizer(models.Unigram([*reserved, *learned], 2, byte_fallback=True))))


def load_tokenizer(directory: Path) -> Any:
    """Load the tokenizer of a checkpoint directory; raises InputError if there is none."""
    from transformers import AutoTokenizer

    file = directory / "tokenizer.json"
    if not file.is_file():
        raise InputError(f"{directory}: no tokenizer.json")
    try:
        return AutoTokenizer.from_pretrained(directory)
    except Exception as error:  # tokenizers raises no narrower class
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"{file}: not a tokenizer ({type(error).__name__}: {reason})") from None


def sentinel_ids(tokenizer: Any) -> NDArray[np.int32]:
    """Ids of <extra_id_0>, <extra_id_1>, ... of any T5-style tokenizer; raises ModelError if it has none."""
    vocab = tokenizer.get_vocab()
    names = [f"<extra_id_{i}>" for i in range(SENTINELS)]
    if names[0] not in vocab:
        raise ModelError(f"{tokenizer.name_or_path or 'tokenizer'}: no sentinels <extra_id_0>, ... in the vocabulary")
    return np.array([vocab[name] for name in names if name in vocab], dtype=np.int32)


def _learn(texts: Iterable[str], pieces: int) -> list[tuple[str, float]]:
    """Learned pieces and their log probabilities."""
    from tokenizers import Tokenizer, models, trainers

    if pieces <= RESERVED + 1:
        raise InputError(f"a vocabulary of {pieces}: {RESERVED} ids are reserved: a few hundred more expected")
    learner = _with_white_space(Tokenizer(models.Unigram()))
    trainer = trainers.UnigramTrainer(
        vocab_size=pieces - RESERVED + 1, unk_token=UNKNOWN, special_tokens=[UNKNOWN], show_progress=False
    )
    try:
        learner.train_from_iterator(texts, trainer)
    except Exception as error:  # tokenizers raises no narrower class
        raise InputError(f"a vocabulary of {pieces}, {RESERVED} of them reserved: {error}") from None
    vocab = json.loads(learner.to_str())["model"]["vocab"]
    if len(vocab) < 2:
        raise InputError("no text to train a tokenizer on")
    return [(piece, score) for piece, score in vocab if piece != UNKNOWN]


def _with_white_space(tokenizer: "Tokenizer") -> "Tokenizer":
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def _wrap(tokenizer: "Tokenizer") -> Any:
    from transformers import PreTrainedTokenizerFast

    sentinels = [f"<extra_id_{i}>" for i in reversed(range(SENTINELS))]
    tokenizer.add_special_tokens([PAD, EOS, UNKNOWN, *sentinels])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=sentinels,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,  # so that text spelling a special token stays text
    )
