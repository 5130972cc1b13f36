"""A T5-style unigram tokenizer, trained on the same text as the model (Kudo 2018; byte fallback as in SentencePiece).

Layout of the ids: 0 pad, 1 end, 2 unknown, 256 bytes, the learned pieces, and at the very end 100 sentinels counted
backwards (<extra_id_0> is the last id), as in T5. White space is kept: code is text too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"
SENTINELS = 100
BYTES = [f"<0x{value:02X}>" for value in range(256)]
# Runs of spaces but the last, a word with the space before it, other spaces, line ends.
WORDS = r"▁+(?=▁[^▁\n])|▁?[^▁\n]+|▁+|\n+"


def train_tokenizer(texts: Iterable[str], pieces: int) -> Any:
    """Train a tokenizer with `pieces` ids (specials and bytes included) plus 100 sentinels.

    Returns a `transformers.PreTrainedTokenizerFast`; `save_pretrained` stores it.
    """
    from tokenizers import Tokenizer, models, trainers

    learner = _with_white_space(Tokenizer(models.Unigram()))
    trainer = trainers.UnigramTrainer(
        vocab_size=pieces - 2 - len(BYTES), unk_token=UNKNOWN, special_tokens=[UNKNOWN], show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    vocab = json.loads(learner.to_str())["model"]["vocab"]
    learned = [(piece, score) for piece, score in vocab if piece != UNKNOWN]
    lowest = min(score for _, score in learned) - 10.0
    specials = [(PAD, 0.0), (EOS, 0.0), (UNKNOWN, lowest)]
    model = models.Unigram([*specials, *((byte, lowest) for byte in BYTES), *learned], 2, byte_fallback=True)
    return _wrap(_with_white_space(Tokenizer(model)))


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer saved in a checkpoint directory."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)


def sentinel_ids(tokenizer: Any) -> NDArray[np.int32]:
    """Ids of <extra_id_0>, <extra_id_1>, ... of any T5-style tokenizer; raises ModelError if it has none."""
    vocab = tokenizer.get_vocab()
    names = [f"<extra_id_{i}>" for i in range(SENTINELS)]
    if names[0] not in vocab:
        raise ModelError(f"{tokenizer.name_or_path or 'tokenizer'}: no sentinels <extra_id_0>, ... in the vocabulary")
    return np.array([vocab[name] for name in names if name in vocab], dtype=np.int32)


def _with_white_space(tokenizer: Tokenizer) -> Tokenizer:
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def _wrap(tokenizer: Tokenizer) -> Any:
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
    )
