"""How long a network takes for one event, as a runtime would ask it. Import only where torch is wanted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from specmoe.sim.speculate.learned.inputs import Inputs, Tables, inputs_at
from specmoe.traces.workload import Workload

EVENTS = 100
WARMUP = 10


@torch.inference_mode()
def event_seconds(net: nn.Module, tables: Tables, workload: Workload) -> float:
    """Median seconds of a pass for the tokens of one step, from tensors in place to probabilities.

    Up to 100 steps are asked, spread over the workload, after some that warm up. On CUDA a pass is the replay of a
    captured graph, which a runtime would keep its tensors in, and is waited for, as a runtime would wait for it.
    """
    steps = np.linspace(0, workload.num_steps - 1, min(EVENTS, workload.num_steps)).astype(np.int64)
    steps = np.append(steps[:WARMUP], steps)
    device = tables.token.device
    rows = [
        torch.from_numpy(workload.rows[workload.row_offsets[s] : workload.row_offsets[s + 1]]).to(device) for s in steps
    ]
    graphs = Graphs(net) if device.type == "cuda" else None
    taken = []
    for part in rows:
        seen = inputs_at(tables, part)
        taken.append(_timed(partial(answer, net, seen)) if graphs is None else graphs.seconds(seen))
    return median(taken[min(WARMUP, len(taken) // 2) :])


def answer(net: nn.Module, seen: Inputs) -> Tensor:
    """The probability of the best expert at each layer and depth."""
    return torch.topk(net(seen).softmax(-1), 1).values


def _timed(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def _replay(graph: torch.cuda.CUDAGraph) -> None:
    graph.replay()
    torch.cuda.synchronize()


class Graphs:
    """One CUDA graph for each number of tokens."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.captured = net, dict[int, tuple[torch.cuda.CUDAGraph, Inputs]]()

    def seconds(self, seen: Inputs) -> float:
        """Of one replay and the wait for it."""
        size = len(seen.token)
        if size not in self.captured:
            self.captured[size] = self._capture(seen)
        graph, held = self.captured[size]
        for place, value in zip(held, seen, strict=True):
            place.copy_(value)
        torch.cuda.synchronize()
        return _timed(partial(_replay, graph))

    def _capture(self, seen: Inputs) -> tuple[torch.cuda.CUDAGraph, Inputs]:
        held = Inputs._make(value.clone() for value in seen)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                answer(self.net, held)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer(self.net, held)
        return graph, held
