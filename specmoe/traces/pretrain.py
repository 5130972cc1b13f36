"""Training of a Switch Transformer or a decoder from scratch, to produce a model with real routing.

The recipe for Switch, which learns by span corruption, avoids three problems. transformers initialises routers with
N(0, 1) and balances all layers together, padding included, which leaves experts unused; here routers start small, each
layer has its own balance loss, and there is no padding. AdamW with one learning rate for all tensors of T5 diverges or
stalls; here rates are relative to each tensor's initial scale. bf16 autocast rounds router logits; here routers compute
in float32. The decoder follows the same rules.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from specmoe.errors import InputError, ModelError
from specmoe.files import library_versions, parsing, read_json, today
from specmoe.traces.collect_model import pick_device, require_libraries, require_switch_routing
from specmoe.traces.pretrain_data import Batch, CausalCorpus, Corpus, Windows, unigram_loss
from specmoe.traces.pretrain_job import STATE, DecoderPreset, PretrainJob, require_same
from specmoe.traces.text import Document, Split, held_out, read_documents
from specmoe.traces.tokenizer import load_tokenizer, sentinel_ids, train_tokenizer

if TYPE_CHECKING:
    from specmoe.traces.pretrain_loop import History, Trainer

__all__ = ["OnProgress", "PretrainJob", "pretrain"]

MEASURED_WINDOWS = 560
RECORD_EVERY = 20
TOKENIZER_TEXTS = 4  # the tokenizer sees every fourth training document
CARD = "specmoe.json"
WEIGHTS = "model.safetensors"  # written last: where it is, the checkpoint is whole

OnProgress = Callable[[int, dict[str, float]], None]  # step, terms of its loss


def pretrain(job: PretrainJob, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Train, or resume training, and save a checkpoint that `specmoe collect --model` reads.

    Returns the contents of `specmoe.json` in the checkpoint: kind, corpus, recipe, versions, and the held-out loss in
    nats per target token next to that of a unigram model. A finished run is only read; a killed run resumes from its
    last save.
    Raises InputError, ModelError or MissingExtraError.
    """
    preset, identity = job.resolved(), job.identity()
    job.check()
    if (job.out / WEIGHTS).exists():
        return _finished(job, identity)
    require_libraries()
    if not isinstance(preset, DecoderPreset):
        require_switch_routing()
    pick_device(job.device)
    from specmoe.traces.pretrain_loop import Trainer, memory_errors

    documents = read_documents(job.text)
    tokenizer = _tokenizer(job, held_out(documents, "train"))
    train, validation = (_corpus(job, documents, split, tokenizer) for split in ("train", "validation"))
    measured = validation.all_batches(preset.batch, MEASURED_WINDOWS)
    run = _Run(job, identity | {"text": train.digest()}, tokenizer, train, measured)
    with memory_errors(preset.batch):
        trainer = Trainer(preset, len(tokenizer), job.seed, job.device)
        history = run.train(trainer, on_progress)
    return run.finish(trainer, history)


def _finished(job: PretrainJob, identity: dict[str, Any]) -> dict[str, Any]:
    """Card of the run that finished in `out`; raises InputError if it is another run."""
    file = job.out / CARD
    try:
        with parsing(file, "the card of a checkpoint"):
            card = dict(read_json(file))
            settings = {**card, **card["recipe"]}
    except InputError:
        raise InputError(
            f"{job.out}: holds a checkpoint that `specmoe pretrain` did not make: another --out expected"
        ) from None
    require_same(file, settings, identity)
    return card


@dataclass(frozen=True)
class _Run:
    job: PretrainJob
    identity: dict[str, Any]
    tokenizer: Any
    corpus: Windows
    measured: Sequence[Batch]

    def train(self, trainer: "Trainer", on_progress: OnProgress | None) -> "History":
        """Run the remaining steps, recording losses and saving at the job's intervals; always measure the last one."""
        history = trainer.resume(self.job.partial, self.identity)
        if trainer.step == 0:
            self.tokenizer.save_pretrained(self.job.partial)
        begun = perf_counter() - trainer.seconds
        is_last = trainer.step >= trainer.preset.steps
        while not is_last:
            trainer.train(self.corpus.batch(trainer.step, trainer.preset.batch), self._share(trainer.seconds))
            trainer.seconds = perf_counter() - begun
            step = trainer.step
            is_last = step == trainer.preset.steps or self._share(trainer.seconds) >= 1
            if step % RECORD_EVERY == 0 or is_last:
                history["training"].append({"step": step, **trainer.terms()})
                if on_progress:
                    on_progress(step, history["training"][-1])
            if step % self.job.measure_every == 0 or is_last:
                history["held_out"].append({"step": step, **trainer.measure(self.measured)})
            if step % self.job.save_every == 0 and not is_last:
                trainer.save(self.job.partial, self.identity, history)
        return history

    def _share(self, seconds: float) -> float:
        """How much of the job's time is over; 0 if it is not limited."""
        return 0.0 if self.job.minutes is None else seconds / (60 * self.job.minutes)

    def finish(self, trainer: "Trainer", history: "History") -> dict[str, Any]:
        """Write the checkpoint to a temporary directory, then move its files to `out`, the weights last."""
        written = self.job.partial / "checkpoint"
        written.mkdir(exist_ok=True)
        card = self._card(trainer, history)
        (written / CARD).write_text(json.dumps(card, indent=2) + "\n")
        (written / "history.json").write_text(json.dumps(history))
        self.tokenizer.save_pretrained(written)
        trainer.export(written)
        for file in sorted(written.iterdir(), key=lambda file: file.name == WEIGHTS):
            file.replace(self.job.out / file.name)
        shutil.rmtree(self.job.partial)
        return card

    def _card(self, trainer: "Trainer", history: "History") -> dict[str, Any]:
        loss = {name: value for name, value in history["held_out"][-1].items() if name != "step"}
        return {
            "kind": "trained-here",
            "preset": self.job.preset,
            "corpus": self.job.corpus(),
            "seed": self.job.seed,
            "minutes": self.job.minutes,
            "trained": {"steps": trainer.step, "seconds": round(trainer.seconds)},
            "recipe": asdict(self.job.resolved()),
            "held_out": {**loss, "unigram": unigram_loss(self.corpus, self.measured, len(self.tokenizer))},
            "date": today(),
            "versions": library_versions("torch", "transformers", "tokenizers", "numpy"),
        }


def _tokenizer(job: PretrainJob, documents: Sequence[Document]) -> Any:
    """The job's tokenizer, else that of the run to resume, else a new one."""
    if job.tokenizer is not None:
        return load_tokenizer(job.tokenizer)
    if (job.partial / STATE).exists():
        return load_tokenizer(job.partial)
    return train_tokenizer((d.text for d in documents[::TOKENIZER_TEXTS]), job.resolved().vocabulary)


def _corpus(job: PretrainJob, documents: Sequence[Document], split: Split, tokenizer: Any) -> Windows:
    def encode(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    if tokenizer.eos_token_id is None:
        raise ModelError(f"{tokenizer.name_or_path}: the tokenizer has no end token")
    preset, eos, part = job.resolved(), int(tokenizer.eos_token_id), held_out(documents, split)
    if isinstance(preset, DecoderPreset):
        return CausalCorpus(part, encode, preset.length, eos, job.seed)
    return Corpus(part, encode, preset.encoder_length, sentinel_ids(tokenizer), eos, job.seed)
