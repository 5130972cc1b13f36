"""A small corpus and pretraining runs that take less than a second."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from specmoe.traces.pretrain import PretrainJob
from specmoe.traces.pretrain_data import Batch, Corpus
from specmoe.traces.pretrain_job import PRESETS, Preset
from specmoe.traces.text import Document

Run = Callable[..., dict[str, Any]]

SENTENCE = "the cat sat on a mat and read of maps while rain fell over hills far away so nobody came"
VOCABULARY = 320
SIZES = {"experts": 4, "d_model": 16, "d_ff": 16, "layers": 2, "d_kv": 8, "heads": 2, "vocabulary": VOCABULARY}
RECIPE = SIZES | {"batch": 2, "encoder_length": 32, "steps": 24, "warmup": 4}

CHECKPOINT = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
CHECKPOINT |= {"specmoe.json", "history.json"}
UNFINISHED = {f"resume/{name}" for name in ("tokenizer.json", "tokenizer_config.json", "state.safetensors")}


def stop(step: int, terms: dict[str, float]) -> None:
    """A progress callback that interrupts: small runs report at step 20."""
    raise KeyboardInterrupt


def write_corpus(directory: Path, documents: int = 8, words: int = 60) -> Path:
    """A directory of two domains: random words, and a sentence again and again."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = random.Random(0)
    noise = [" ".join(drawn.choices(SENTENCE.split(), k=words)) for _ in range(documents)]
    verse = [" ".join((SENTENCE.split() * words)[i : i + words]) for i in range(documents)]
    for name, texts in (("noise", noise), ("verse", verse)):
        (directory / f"{name}.txt").write_text("\n\f\n".join(texts))
    return directory


def small_job(home: Path, out: Path, preset: str = "switch-mini-16", **changes: Any) -> PretrainJob:
    """A job of 24 steps; keywords are fields of the job or of the preset."""
    recipe = RECIPE | {name: value for name, value in changes.items() if name in asdict(PRESETS["dense-mini"])}
    fields: dict[str, Any] = {
        "text": (home / "text",),
        "tokenizer": home / "tokenizer",
        "device": "cpu",
        "save_every": 10,
    }
    fields |= {name: value for name, value in changes.items() if name not in recipe}
    overrides = (*recipe.items(), *fields.pop("overrides", ()))
    return PretrainJob(preset, out=out, overrides=overrides, **fields)


def small_preset(name: str = "switch-mini-16", /, **changes: float) -> Preset:
    fields: dict[str, Any] = RECIPE | changes
    return replace(PRESETS[name], **fields)


def small_batch(rows: int = 2, seed: int = 0) -> Batch:
    """Random ids, as encoder inputs and targets."""
    rng = np.random.default_rng(seed)
    return Batch(*(rng.integers(3, VOCABULARY, (rows, length), dtype=np.int32) for length in (32, 9)))


def small_corpus(windows: int, length: int = 32, seed: int = 0) -> Corpus:
    """A corpus of so many windows, each of one repeated id from 100 on."""

    def encode(texts: list[str]) -> list[list[int]]:
        return [[100 + int(text)] * 60 for text in texts]

    documents = [Document("a", str(i)) for i in range(windows)]
    return Corpus(documents, encode, length, np.arange(99, 0, -1, dtype=np.int32), 1, seed)


def left_in(directory: Path) -> set[str]:
    """Every file below a directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def tensors_equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
