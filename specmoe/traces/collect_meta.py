"""What a collected trace says of itself, and what a resumed collection must have in common with the killed one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.traces.collect_batches import TokenText, digest
from specmoe.traces.collect_job import CollectJob
from specmoe.traces.collect_model import Checkpoint
from specmoe.traces.datasets import split_name
from specmoe.traces.schema import Origin, Phase, TraceMeta
from specmoe.traces.spans import MEAN_SPAN, NOISE_DENSITY
from specmoe.traces.store import library_versions

CANDIDATES = 8  # kept of each layer unless the job says otherwise
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
    "capacity",
    "random_init",
)


class Corpus(NamedTuple):
    """The text of a collection in a few facts."""

    description: str
    sources: tuple[str, ...]  # text domains in the order of their codes
    has_plain_text: bool


def describe(job: CollectJob, texts: Sequence[TokenText]) -> Corpus:
    """The facts about a job's text, with a hash of the tokens that are read."""
    origin = job.dataset or ", ".join(path.name for path in job.text)
    description = f"{origin}: {len(texts)} sequences, sha256 {digest(texts)}"
    return Corpus(
        description, tuple(sorted({text.source for text in texts})), any(text.answer is None for text in texts)
    )


def settings(job: CollectJob, checkpoint: Checkpoint, corpus: Corpus) -> dict[str, Any]:
    """Everything that determines the output, as JSON values under the names that an error message shall use."""
    return {
        "model": [checkpoint.name, checkpoint.fingerprint, job.kind or checkpoint.kind],
        "text": corpus.description,
        "device": checkpoint.device.type,
        "part size": job.part_rows,
        "library version": library_versions(*LIBRARIES),
        **{name: getattr(job, name) for name in SETTINGS},
    }


def trace_meta(job: CollectJob, checkpoint: Checkpoint, phase: Phase, corpus: Corpus) -> TraceMeta:
    """The metadata of one phase, but for the date.

    Raises ModelError if the phase has no router, InputError for candidates or a look-ahead that it does not have.
    """
    layers = checkpoint.adapter.layers(checkpoint.model, phase)
    router: Any = layers[0].router
    top_k = getattr(router, "top_k", 1)  # Switch has none: it always takes one
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
    """How many are kept; raises InputError for fewer than are used and for more than there are."""
    if job.candidates is None:
        return min(max(CANDIDATES, top_k), experts)
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
        f"greedy generation, at most {job.generate} steps": job.generate is not None,
        f"expert capacity: {job.capacity} tokens of a sequence": job.capacity is not None,
        f"model trained on {checkpoint.trained_on}": checkpoint.trained_on is not None,
        f"ran in {job.dtype} on {checkpoint.device.type}, routers in float32": True,
    }
    return tuple(note for note, holds in notes.items() if holds)
