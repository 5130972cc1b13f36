"""Recording the routing of a Hugging Face MoE model while it reads text.

Steps: load a checkpoint, cut text into sequences, run them batch by batch with recorders on the routers, save each
finished part, merge the parts. In Python: `collect(CollectJob("switch-mini-16", Path("t.parquet"),
text=(Path("README.md"),)))`. A killed collection resumes only if its `settings` are the same.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from specmoe.errors import InputError, ModelError
from specmoe.files import library_versions
from specmoe.traces.collect_batches import Encoding, TokenText, digest, encoding_for
from specmoe.traces.collect_job import CollectJob, Parts, open_parts
from specmoe.traces.collect_model import Checkpoint, load_checkpoint
from specmoe.traces.collect_run import Runner, Sampling
from specmoe.traces.pretrain_data import MEAN_SPAN, NOISE_DENSITY
from specmoe.traces.schema import Block, Origin, Phase, TraceMeta, join
from specmoe.traces.text import Document, Prompted, held_out, read_dataset, read_documents, split_name

__all__ = ["CollectJob", "OnProgress", "collect", "quieten"]
DEFAULT_CANDIDATES = 8  # recorded of each layer, unless the job sets another number
LIBRARIES = ("numpy", "tokenizers", "torch", "transformers")
SETTINGS = (
    "phase",
    "split",
    "window",
    "candidates",
    "lookahead_depth",
    "batch",
    "seed",
    "dtype",
    "generate",
    "temperature",
    "capacity",
    "random_init",
)

OnProgress = Callable[[int, int | None], None]


def collect(job: CollectJob, on_progress: OnProgress | None = None) -> dict[Phase, Path]:
    """Record the traces of a job and return their paths; equal jobs on one machine give equal bytes.

    A killed job resumes where it stopped. `on_progress` is called with the number of tokens done and their total.
    Raises InputError, ModelError or MissingExtraError; finished parts are kept for the next attempt.
    """
    job.check()
    corpus = _read_corpus(job)
    checkpoint = load_checkpoint(
        job.model,
        device=job.device,
        dtype=job.dtype,
        capacity=job.capacity,
        random_init=job.random_init,
        seed=job.seed,
    )
    encoding = encoding_for(checkpoint, job.window, job.seed)
    texts = encoding.texts(corpus, job.sequences)
    facts = describe(job, texts)
    metas = {phase: trace_meta(job, checkpoint, phase, facts) for phase in job.targets}
    parts = open_parts(job.partial, settings(job, checkpoint, facts), job.restart)
    metas = {phase: replace(meta, date=parts.date) for phase, meta in metas.items()}
    runner = Runner(checkpoint, metas, job.generate, Sampling(job.temperature, job.seed))
    _Collection(job, encoding, texts, runner, parts).run(on_progress or (lambda done, total: None))
    return job.targets


def quieten() -> None:
    """Silence the progress bars and the log of transformers, if it is installed."""
    with suppress(ImportError):
        from transformers.utils import logging as untyped

        logging: Any = untyped
        logging.set_verbosity_error()
        logging.disable_progress_bar()


@dataclass(frozen=True)
class _Collection:
    job: CollectJob
    encoding: Encoding
    texts: Sequence[TokenText]
    runner: Runner
    parts: Parts

    def run(self, on_progress: OnProgress) -> None:
        """Run the missing parts, then merge all."""
        tokens = np.cumsum([len(text.ids) for text in self.texts]).tolist()
        size = self.job.sequences_per_part
        starts = range(0, len(self.texts), size)
        for number, start in enumerate(starts):
            if not self.parts.has(number, self.runner.metas):
                blocks = self._run_part(start, start + size, lambda stop: on_progress(tokens[stop - 1], tokens[-1]))
                self.parts.write(number, blocks, self.runner.metas)
            on_progress(tokens[min(start + size, len(tokens)) - 1], tokens[-1])
        self.parts.merge(len(starts), self.job.targets, self.runner.metas)

    def _run_part(self, start: int, stop: int, on_batch: Callable[[int], None]) -> dict[Phase, Block]:
        batches = []
        for first in range(start, min(stop, len(self.texts)), self.job.batch):
            texts = self.texts[first : min(first + self.job.batch, stop)]
            examples = [self.encoding.example(text, first + i) for i, text in enumerate(texts)]
            batches.append(self.runner.run(examples, first))
            on_batch(first + len(texts))
        return {phase: join([batch[phase] for batch in batches]) for phase in self.runner.metas}


def _read_corpus(job: CollectJob) -> Sequence[Document | Prompted]:
    if job.dataset is not None:
        return read_dataset(job.dataset, job.split, job.sequences)
    return held_out(read_documents(job.text), job.split)


class Corpus(NamedTuple):
    """Summary of a collection's text."""

    description: str
    sources: tuple[str, ...]  # text domains in the order of their codes
    has_plain_text: bool


def describe(job: CollectJob, texts: Sequence[TokenText]) -> Corpus:
    """Summary of a job's text, with a hash of the tokens read."""
    origin = job.dataset or ", ".join(path.name for path in job.text)
    description = f"{origin}: {len(texts)} sequences, sha256 {digest(texts)}"
    return Corpus(
        description, tuple(sorted({text.source for text in texts})), any(text.answer is None for text in texts)
    )


def settings(job: CollectJob, checkpoint: Checkpoint, corpus: Corpus) -> dict[str, Any]:
    """Everything that determines the output, as JSON values; error messages use the names."""
    return {
        "model": [checkpoint.name, checkpoint.fingerprint, job.kind or checkpoint.kind],
        "text": corpus.description,
        "device": checkpoint.device.type,
        "part size": job.part_rows,
        "library version": library_versions(*LIBRARIES),
        **{name: getattr(job, name) for name in SETTINGS},
    }


def trace_meta(job: CollectJob, checkpoint: Checkpoint, phase: Phase, corpus: Corpus) -> TraceMeta:
    """Metadata of one phase, except the date.

    Raises ModelError if the phase has no router, InputError for more candidates or look-ahead layers than it has.
    """
    layers = checkpoint.adapter.layers(checkpoint.model, phase)
    router: Any = layers[0].router
    top_k = getattr(router, "top_k", 1)  # Switch has none: it always takes one
    if type(top_k) is not int:
        raise ModelError(f"{checkpoint.name}: top_k is {top_k!r}: a whole number of experts per token expected")
    if job.lookahead_depth > len(layers):
        raise InputError(
            f"--lookahead-depth {job.lookahead_depth}: {checkpoint.name} has {len(layers)} MoE layers in {phase}: "
            f"at most {len(layers)} expected"
        )
    config = checkpoint.model.config
    return TraceMeta(
        phase=phase,
        kind=job.kind or checkpoint.kind,
        origin=_origin(job, phase),
        model=checkpoint.name,
        num_experts=router.num_experts,
        num_layers=len(layers),
        top_k=top_k,
        candidates=_candidates(job, checkpoint.name, top_k, router.num_experts),
        lookahead_depth=job.lookahead_depth,
        sources=corpus.sources,
        corpus=corpus.description,
        split=job.split if job.dataset is None else split_name(job.dataset, job.split),
        seed=job.seed,
        dropless=job.capacity is None,
        d_model=config.hidden_size,
        d_ff=getattr(config, checkpoint.adapter.d_ff),
        tokenizer=f"{checkpoint.name} ({len(checkpoint.tokenizer)} pieces)",
        versions=library_versions(*LIBRARIES),
        notes=_notes(job, checkpoint, corpus),
    )


def _candidates(job: CollectJob, name: str, top_k: int, experts: int) -> int:
    """Number of candidates per layer; raises InputError unless it is between `top_k` and the number of experts."""
    if job.candidates is None:
        return min(max(DEFAULT_CANDIDATES, top_k), experts)
    if not top_k <= job.candidates <= experts:
        raise InputError(
            f"--candidates {job.candidates}: {name} uses {top_k} experts a token and has {experts} a layer: "
            f"{top_k} to {experts} expected"
        )
    return job.candidates


def _origin(job: CollectJob, phase: Phase) -> Origin:
    return "teacher-forced" if job.generate is None or phase == "encode" else "generated"


def _notes(job: CollectJob, checkpoint: Checkpoint, corpus: Corpus) -> tuple[str, ...]:
    notes = {
        f"span corruption: {NOISE_DENSITY:.0%} noise, spans of {MEAN_SPAN:g} on average": checkpoint.is_encoder_decoder
        and corpus.has_plain_text,
        f"{_choice(job)} generation, at most {job.generate} steps": job.generate is not None,
        f"expert capacity: {job.capacity} tokens of a sequence": job.capacity is not None,
        f"model trained on {checkpoint.trained_on}": checkpoint.trained_on is not None,
        f"ran in {job.dtype} on {checkpoint.device.type}, routers in float32": True,
    }
    return tuple(note for note, holds in notes.items() if holds)


def _choice(job: CollectJob) -> str:
    return "greedy" if job.temperature is None else f"sampled (temperature {job.temperature:g})"
