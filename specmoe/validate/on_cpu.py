"""Experts on the CPU in a replay: a worker thread computes them from host memory while the host thread goes on.

Their weights lie a second time in host memory, in the order in which the CPU's products read them, [rows, columns] of
each matrix; slots hold the transposed ones. A layer's result is the sum of its experts' outputs in the format of the
experts. The hidden state arrives in pinned memory and the result leaves from there, one row for each token; an expert
with n tokens computes the first n.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import torch
from torch import Tensor

from specmoe.hwprofiles.measure.cpu import Product, Worker, feed_forward, plain
from specmoe.hwprofiles.measure.layers import DTYPES, matrices
from specmoe.hwprofiles.shape import ModelShape, compute_format
from specmoe.sim.decide.table import DecisionTable, uses_on_cpu
from specmoe.validate.slots import Pool


class OnCpu(NamedTuple):
    """A use: its row, expert and tokens."""

    row: int
    expert: Product
    tokens: int


class CpuLane:
    """The experts of a pool on `threads` threads; hidden states and results have up to `tokens` rows."""

    def __init__(self, shape: ModelShape, pool: Pool, threads: int, tokens: int, pinned: bool) -> None:
        self.threads, self._worker = threads, Worker(threads)
        keys = range(len(pool))
        self._experts = self._worker.submit(lambda: [self._expert(shape, pool[key], pool) for key in keys]).result()
        size, dtype = (tokens, shape.d_model), DTYPES[compute_format(pool.held)]
        self.hidden, self.result = (torch.zeros(size, dtype=dtype, pin_memory=pinned) for _ in range(2))
        self._pending: Future[None] | None = None

    @staticmethod
    def _expert(shape: ModelShape, weights: Tensor, pool: Pool) -> Product:
        up, down = (part.T.contiguous() for part in matrices(weights, shape, compute_format(pool.held)))
        return feed_forward(plain(up), plain(down), shape.experts.d_ff, shape.experts.gated)

    def prepare(self, table: DecisionTable) -> None:
        """Prepare the calls of every event."""
        keys, tokens = table.uses.key.tolist(), table.uses.tokens.tolist()
        self._uses: Mapping[int, Sequence[OnCpu]] = {
            event: [OnCpu(row, self._experts[keys[row] % len(self._experts)], tokens[row]) for row in rows]
            for event, rows in uses_on_cpu(table).items()
        }
        self.start, self.end = ([-1] * len(keys) for _ in range(2))  # of each use, ns

    def wake(self) -> None:
        """Wake the worker's threads, as in a run that goes on for long."""
        self._worker.wake()

    def hand_over(self, event: int, arrived: Callable[[], object]) -> None:
        """Have the worker compute the experts of an event; `arrived` waits for the hidden state."""
        self._pending = self._worker.submit(lambda: self._compute(self._uses[event], arrived))

    def _compute(self, uses: Sequence[OnCpu], arrived: Callable[[], object]) -> None:
        arrived()
        now = time.perf_counter_ns()
        self.result.zero_()
        for row, expert, tokens in uses:
            self.start[row] = now
            self.result[:tokens].add_(expert(self.hidden[:tokens]))
            self.end[row] = now = time.perf_counter_ns()

    def join(self) -> None:
        """Wait for the worker."""
        assert self._pending
        self._pending.result()

    def compute_with(self, threads: int) -> None:
        """Have another worker compute, with another number of threads."""
        if threads != self.threads:
            self._worker.close()
            self.threads, self._worker = threads, Worker(threads)

    def close(self) -> None:
        """End the worker."""
        self._worker.close()
