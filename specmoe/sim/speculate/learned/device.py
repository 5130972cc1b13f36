"""Where a network runs, and what to say when memory runs out. Import only where torch is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from specmoe.errors import InputError
from specmoe.traces.collect_model import pick_device

__all__ = ["memory_errors", "pick_device"]


@contextmanager
def memory_errors(batch: int) -> Iterator[None]:
    """Raise InputError when memory runs out, on a GPU or off it."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise InputError(f"out of memory ({type(error).__name__}): try --batch {max(1, batch // 2)}") from None
