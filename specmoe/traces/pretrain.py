"""Train a Switch Transformer from scratch with span corruption, so that there is real routing to trace.

The recipe avoids three traps: the library starts routers at N(0, 1) and balances all layers as one, padding included,
which kills experts (here: a small router, a balance loss of each layer's own, no padding); AdamW at one rate for all of
T5's tensors either diverges or stalls (here: rates relative to each tensor's initial scale); bf16 autocast rounds
router logits (here: routers in float32).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.errors import InputError
from specmoe.traces.pretrain_data import Batch, Corpus, unigram_loss
from specmoe.traces.pretrain_presets import PRESETS, Preset
from specmoe.traces.store import library_versions, today
from specmoe.traces.text import Document, Split, held_out, read_documents
from specmoe.traces.tokenizer import load_tokenizer, sentinel_ids, train_tokenizer

if TYPE_CHECKING:
    from specmoe.traces.pretrain_loop import History, Trainer

MEASURED_WINDOWS = 560
RECORD_EVERY = 20
TOKENIZER_TEXTS = 4  # the tokenizer sees every fourth training document

OnProgress = Callable[[int, dict[str, float]], None]  # step, its terms


@dataclass(frozen=True)
class PretrainJob:
    """One training run; everything that determines its outcome.

    `text` are files or directories, `out` the checkpoint directory, `tokenizer` a directory with a trained tokenizer
    (None trains one), `overrides` replaces fields of the preset, `save_every` and `measure_every` count steps.
    """

    preset: str
    text: tuple[Path, ...]
    out: Path
    tokenizer: Path | None = None
    seed: int = 0
    device: str = "auto"
    save_every: int = 1000
    measure_every: int = 500
    overrides: tuple[tuple[str, float], ...] = ()

    def resolved(self) -> Preset:
        """The preset with its overrides; raises InputError for an unknown preset or field."""
        if self.preset not in PRESETS:
            raise InputError(f"preset {self.preset!r}: one of {', '.join(PRESETS)} expected")
        kinds = {name: type(value) for name, value in asdict(PRESETS[self.preset]).items()}
        for name, _ in self.overrides:
            if name not in kinds:
                raise InputError(f"{name}: not a field of a preset; they are {', '.join(kinds)}")
        return replace(PRESETS[self.preset], **{name: kinds[name](value) for name, value in self.overrides})


def pretrain(job: PretrainJob, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Train, or go on training, and save a checkpoint that `specmoe collect --model` reads.

    Returns what `specmoe.json` beside the checkpoint says: kind, corpus, recipe, held-out loss in nats a target token
    beside a unigram guess, versions. A finished run is returned as it is; a killed one goes on from its last save.
    """
    from specmoe.traces.pretrain_loop import Trainer

    preset = job.resolved()
    if (job.out / "specmoe.json").exists():
        return dict(json.loads((job.out / "specmoe.json").read_text()))
    documents = read_documents(job.text)
    tokenizer = _tokenizer(job, held_out(documents, "train"))
    train, validation = (_corpus(preset, documents, split, tokenizer, job.seed) for split in ("train", "validation"))
    measured = validation.all_batches(preset.batch, MEASURED_WINDOWS)
    trainer = Trainer(preset, len(tokenizer), job.seed, job.device)
    history = trainer.resume(job.out / "resume", _identity(job))
    _train(job, preset, trainer, train, measured, history, on_progress)
    loss = {**trainer.measure(measured), "unigram": unigram_loss(train, measured, len(tokenizer))}
    return _finish(job, preset, trainer, tokenizer, history, loss)


def _train(
    job: PretrainJob,
    preset: Preset,
    trainer: Trainer,
    train: Corpus,
    measured: Sequence[Batch],
    history: History,
    on_progress: OnProgress | None,
) -> None:
    """Run the remaining steps, writing down losses and saving as the job says."""
    for step in range(trainer.step + 1, preset.steps + 1):
        trainer.train(train.batch(step - 1, preset.batch))
        if step % RECORD_EVERY == 0:
            history["training"].append({"step": step, **trainer.terms()})
            if on_progress:
                on_progress(step, history["training"][-1])
        if step % job.measure_every == 0:
            history["held_out"].append({"step": step, **trainer.measure(measured)})
        if step % job.save_every == 0 and step < preset.steps:
            trainer.save(job.out / "resume", _identity(job), history)


def _finish(
    job: PretrainJob, preset: Preset, trainer: Trainer, tokenizer: Any, history: History, loss: dict[str, float]
) -> dict[str, Any]:
    """Write the checkpoint, `specmoe.json` last: it marks the run as finished."""
    job.out.mkdir(parents=True, exist_ok=True)
    trainer.export(job.out)
    tokenizer.save_pretrained(job.out)
    card: dict[str, Any] = {
        "kind": "trained-here",
        "preset": job.preset,
        "corpus": ", ".join(sorted(path.name for path in job.text)),
        "seed": job.seed,
        "recipe": asdict(preset),
        "held_out": loss,
        "date": today(),
        "versions": library_versions("torch", "transformers", "tokenizers", "numpy"),
    }
    (job.out / "history.json").write_text(json.dumps(history))
    (job.out / "specmoe.json").write_text(json.dumps(card, indent=2) + "\n")
    shutil.rmtree(job.out / "resume", ignore_errors=True)
    return card


def _identity(job: PretrainJob) -> dict[str, Any]:
    """What a resumed run must agree on."""
    return {"preset": job.preset, "seed": job.seed, **asdict(job.resolved())}


def _tokenizer(job: PretrainJob, documents: Sequence[Document]) -> Any:
    """The given tokenizer, the one a killed run trained, or a new one."""
    for directory in (job.tokenizer, job.out):
        if directory is not None and (directory / "tokenizer.json").exists():
            return load_tokenizer(directory)
    if job.tokenizer is not None:
        raise InputError(f"{job.tokenizer}: no tokenizer.json")
    tokenizer = train_tokenizer((d.text for d in documents[::TOKENIZER_TEXTS]), job.resolved().vocabulary)
    tokenizer.save_pretrained(job.out)
    return tokenizer


def _corpus(preset: Preset, documents: Sequence[Document], split: Split, tokenizer: Any, seed: int) -> Corpus:
    def encode(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    eos = int(tokenizer.eos_token_id)
    return Corpus(held_out(documents, split), encode, preset.encoder_length, sentinel_ids(tokenizer), eos, seed)
