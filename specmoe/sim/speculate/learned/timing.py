"""How long a network takes for one event, as a runtime would run it, and how memory errors are reported.

Import only where torch is wanted.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specmoe.errors import InputError
from specmoe.sim.speculate.learned.inputs import Inputs, Tables, inputs_at
from specmoe.sim.speculate.learned.predictor import Learned
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.predictors import measured_time
from specmoe.traces.collect_model import pick_device
from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.workload import Workload, build

__all__ = ["memory_errors", "pick_device"]
ROWS = 320
LENGTH = {"decode": 20, "encode": 80}  # of the sequences that the rows are cut into
BATCHES = {"decode": (1, 16), "encode": (1, 2)}
REPEATS = 2
EVENTS = 100
WARMUP = 10


def running_times(
    checkpoint: Path, architecture: str, meta: TraceMeta, block: Block, device: torch.device
) -> dict[str, dict[str, int]]:
    """`fixed_ns` and `per_token_ns` of a checkpoint by device, on rows like these: of the device and of the host.

    On the host one thread predicts, as in `running_time.toml`.
    """
    one, many = (Routed(build(block, meta, batch), block) for batch in BATCHES[meta.phase])
    found = {}
    for kind in sorted({"cpu", device.type}):
        with one_thread():
            time = measured_time(Learned(1, architecture, str(checkpoint), kind), one, many, REPEATS)
        found[kind] = {"fixed_ns": time.fixed_ns, "per_token_ns": time.per_token_ns}
    return found


def sample(block: Block, rows: NDArray[np.int64], phase: str) -> Block:
    """`ROWS` of the rows, over again where there are fewer, as sequences of one length: their content costs nothing."""
    taken = Block._make(column[np.resize(rows, ROWS)] for column in block)
    sequence, position = np.divmod(np.arange(ROWS, dtype=np.int32), np.int32(LENGTH[phase]))
    return taken._replace(sequence=sequence, position=position)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread only."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


@contextmanager
def memory_errors(batch: int) -> Iterator[None]:
    """Raise InputError when memory runs out, on a GPU or off it."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise InputError(f"out of memory ({type(error).__name__}): try --batch {max(1, batch // 2)}") from None
