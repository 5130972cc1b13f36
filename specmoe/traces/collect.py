"""Recording the routing of a Hugging Face MoE model while it reads text.

Load a checkpoint, cut text into sequences, run them batch by batch with recorders on the routers, keep each finished
part, merge the parts. In Python: `collect(CollectJob("switch-mini-16", Path("t.parquet"), text=(Path("README.md"),)))`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from specmoe.traces.blocks import join
from specmoe.traces.collect_batches import Encoding, TokenText, encoding_for
from specmoe.traces.collect_job import CollectJob
from specmoe.traces.collect_meta import describe, settings, trace_meta
from specmoe.traces.collect_model import load_checkpoint
from specmoe.traces.collect_parts import Parts, open_parts
from specmoe.traces.collect_run import Runner
from specmoe.traces.datasets import Prompted, read_dataset
from specmoe.traces.schema import Block, Phase
from specmoe.traces.text import Document, held_out, read_documents

__all__ = ["CollectJob", "OnProgress", "collect", "quieten"]

OnProgress = Callable[[int, int | None], None]


def collect(job: CollectJob, on_progress: OnProgress | None = None) -> dict[Phase, Path]:
    """Record the traces of a job and return where they are; equal jobs on one machine give equal bytes.

    A job that was killed goes on where it stopped. `on_progress` is called with the tokens of text that are done and
    all there are. Raises InputError, ModelError or MissingExtraError; finished parts are kept for the next attempt.
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
    runner = Runner(checkpoint, metas, job.generate)
    _Collection(job, encoding, texts, runner, parts).run(on_progress or (lambda done, total: None))
    return job.targets


def quieten() -> None:
    """Silence the model library's own progress bars and log, where it is installed."""
    with suppress(ImportError):
        from transformers.utils import logging as untyped

        logging: Any = untyped
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _read_corpus(job: CollectJob) -> Sequence[Document | Prompted]:
    if job.dataset is not None:
        return read_dataset(job.dataset, job.split, job.sequences)
    return held_out(read_documents(job.text), job.split)


@dataclass(frozen=True)
class _Collection:
    job: CollectJob
    encoding: Encoding
    texts: Sequence[TokenText]
    runner: Runner
    parts: Parts

    def run(self, on_progress: OnProgress) -> None:
        """Run the parts that are missing, then merge all."""
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
