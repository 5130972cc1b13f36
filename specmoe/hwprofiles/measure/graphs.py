"""Capturing a part as a CUDA graph."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch.cuda import CUDAGraph, Stream

from specmoe.hwprofiles.measure.layers import Run

WARM_UPS = 3  # libraries choose their kernels and take their workspaces before anything is captured


class Graph(CUDAGraph):
    """A CUDA graph that keeps what it was captured of, for it knows the buffers that it reads by address only."""

    run: Run


def captured(run: Run, stream: Stream, pool: Any = None) -> Graph:
    """A graph of what `run` launches, captured on `stream`, which must not be the default one.

    Graphs with one `pool` share the memory of what they need in between: they may follow each other only.
    """
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    graph = Graph()
    graph.run = run
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            run()
        stream.synchronize()
        # `torch.cuda.graph` would empty the caches of memory around every capture, which takes longer than capturing.
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            run()
        except BaseException:
            with suppress(RuntimeError):  # the capture has failed already; what made it fail is to be told
                graph.capture_end()
            raise
        graph.capture_end()
    return graph
