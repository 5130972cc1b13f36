"""Greedy generation with a model as it is, whose text is handed on piece by piece."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any, NamedTuple

import torch
from torch import Tensor

from specmoe.hwprofiles.measure.host import quiet
from specmoe.traces.collect_model import Checkpoint


class Ask(NamedTuple):
    """What to generate; `on_text` is called with every piece of text, and a line feed at its end.

    No `no_repeat` tokens in a row are written a second time (0: no such rule).
    """

    prompt: str
    tokens: int
    on_text: Callable[[str], object] | None = None
    no_repeat: int = 0


class Written(NamedTuple):
    """Generated ids, the time from the first pass on, and the most memory of the device."""

    ids: list[int]
    at: list[int]  # [ids], when each was known, ns
    seconds: float
    peak_bytes: int
    interrupted: bool


class Teller:
    """Takes tokens from transformers as they come, and tells their text."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], object] | None) -> None:
        self.ids: list[int] = []
        self.at: list[int] = []
        self._tokenizer, self._on_text, self._text, self._first = tokenizer, on_text, "", True

    def put(self, ids: Tensor) -> None:
        """Take the prompt, and then each token."""
        if not self._first:
            self.ids += ids.reshape(-1).tolist()
            self.at.append(perf_counter_ns())
            self._tell(final=False)
        self._first = False

    def end(self) -> None:
        """Tell the rest."""
        self._tell(final=True)

    def _tell(self, final: bool) -> None:
        if self._on_text is None:
            return
        text = self._tokenizer.decode(self.ids, skip_special_tokens=True)
        if (final or not text.endswith("\N{REPLACEMENT CHARACTER}")) and text.startswith(self._text):
            self._on_text(text[len(self._text) :])
            self._text = text


@contextmanager
def _uncollected() -> Iterator[None]:
    """Python's garbage collector rests: it would look through all modules in the middle of a step."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def write(checkpoint: Checkpoint, ask: Ask) -> Written:
    """Generate greedily with a model as it is; an interrupt keeps what there is."""
    device, model = checkpoint.device, checkpoint.model
    inputs = checkpoint.tokenizer([ask.prompt], return_tensors="pt").to(device)
    teller, interrupted, on_gpu = Teller(checkpoint.tokenizer, ask.on_text), False, device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    begin = perf_counter_ns()
    try:
        with torch.inference_mode(), quiet() if on_gpu else _uncollected():
            model.generate(
                input_ids=inputs.input_ids,
                attention_mask=inputs.attention_mask,
                max_new_tokens=ask.tokens,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                pad_token_id=0,
                streamer=teller,
                no_repeat_ngram_size=ask.no_repeat,
            )
    except KeyboardInterrupt:
        interrupted = True
    seconds = (perf_counter_ns() - begin) / 1e9
    if ask.on_text:
        ask.on_text("\n")
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else 0
    return Written(teller.ids, teller.at, seconds, peak, interrupted)
