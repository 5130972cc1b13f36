"""Capturing what runs on a device as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.cuda import CUDAGraph, Stream

WARM_UPS = 3  # runs before a capture: libraries choose their kernels and take their workspaces


def captured(run: Callable[[], Any], stream: Stream, pool: Any = None) -> CUDAGraph:
    """A graph of what `run` launches; graphs of one `pool` share the memory of what they forget, one after the other.

    `torch.cuda.graph` does the same, but collects garbage and empties caches at every capture.
    """
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            run()
        stream.synchronize()
        graph = CUDAGraph()
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            run()
        finally:
            graph.capture_end()
    return graph
