"""Experts on the CPU, as a run meets them: between waits for the device, out of memory, and beside copies.

A worker thread computes them, as the host thread goes on launching meanwhile; torch's threads compute one expert
together. Formats that torch has a product for on this CPU: 32 and 16 bits, int8 with a scale a row, and its own int4.
Replays compute experts with the same worker and the same products (`specmoe.validate.on_cpu`).
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from specmoe.errors import InputError
from specmoe.hwprofiles.kernels import Size
from specmoe.hwprofiles.measure.bench import WARM_UPS, Bench, Effort, Sample, sampled
from specmoe.hwprofiles.measure.layers import DTYPES, SCALE, Run
from specmoe.hwprofiles.shape import GROUP, Format, bytes_of, is_compressed

FORMATS: tuple[Format, ...] = ("fp32", "bf16", "int8", "q4_0")  # q4_0's bits are those of torch's own int4
INNER_TILES = 2
TASKS = Path("/proc/self/task")  # of Linux
COPIES = 8
HIDDEN_BYTES = 128  # of what is copied to and fro: the host's part takes as long for any size
EVENTS, SAMPLE_NS = 8, 25_000_000  # of a sample: events, or fewer if their experts take longer
BESIDE = 4  # experts beside copies
Product = Callable[[Tensor], Tensor]
T = TypeVar("T")


def counts() -> tuple[int, ...]:
    """Numbers of threads: powers of two, and all cores but one, which is the host thread's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = max(1, cores - 1)
    return tuple(sorted({1 << power for power in range(most.bit_length())} | {most}))


def reading(size: int, worker: "Worker", bench: Bench, effort: Effort) -> Sample:
    """Time of reading 10^9 bytes out of a larger tensor of `size` bytes."""
    words = worker.submit(lambda: torch.ones(size // 8, dtype=torch.int64)).result()

    def once() -> float:
        before = bench.now()
        words.sum()
        return (bench.now() - before) * 1e9 / size

    return sampled(lambda: worker.submit(once).result(), effort.samples)


def compute_alone() -> None:
    """Have this thread, the host thread, compute without others.

    libgomp counts the threads of all pools. Where these are more than the cores, they sleep as soon as they wait;
    otherwise they spin for some milliseconds, and experts that follow each other need not wake them.
    """
    torch.set_num_threads(1)


class Worker:
    """A thread that computes with `number` of torch's threads, itself included, each pinned to a core of its own.

    The last core is left to the host thread, which is not pinned yet when it makes a worker.
    """

    def __init__(self, number: int) -> None:
        before = _tasks()
        self._pool = ThreadPoolExecutor(1, "experts", torch.set_num_threads, (number,))
        self.wake()
        _pin(sorted(_tasks() - before))

    def submit(self, run: Callable[[], T]) -> "Future[T]":
        """Have the thread run something."""
        return self._pool.submit(run)

    def wake(self) -> None:
        """Have torch's threads start, or wake from a long sleep."""
        self.submit(lambda: torch.ones(1 << 20).sum()).result()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()


def _tasks() -> set[int]:
    """Numbers of this process's threads, where the system says them."""
    return {int(task.name) for task in TASKS.iterdir()} if TASKS.is_dir() else set()


def _pin(tasks: Sequence[int]) -> None:
    """Pin threads to cores, one to each as long as there are some, and none to the last."""
    *cores, last = sorted(os.sched_getaffinity(0)) if tasks else [0]
    for task, core in zip(tasks, cycle(cores or [last])):
        os.sched_setaffinity(task, {core})


def feed_forward(up: Product, down: Product, d_ff: int, gated: bool) -> Product:
    """An expert made of its two products."""

    def expert(x: Tensor) -> Tensor:
        inner = up(x)
        return down(functional.silu(inner[:, :d_ff]) * inner[:, d_ff:] if gated else functional.relu(inner))

    return expert


def plain(weights: Tensor) -> Product:
    """Product with weights [rows, columns] in 16 or 32 bits."""
    return lambda x: functional.linear(x, weights)


class CpuKernels:
    """Copies of an expert of a size in a format, which no cache holds; raises InputError where torch has no product."""

    def __init__(self, size: Size, held: Format, bytes_held: int) -> None:
        self.size, self.held, self.dtype = size, held, DTYPES["fp32" if held == "fp32" else "bf16"]
        places = max(2, -(-bytes_held // bytes_of(size.weights, held)))
        d_model, d_ff, gated = size
        try:
            up, down = self._weights(d_ff * (2 if gated else 1), d_model), self._weights(d_model, d_ff)
            experts = [feed_forward(self._copy(up), self._copy(down), d_ff, gated) for _ in range(places)]
            experts[0](torch.zeros((1, d_model), dtype=self.dtype))
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            raise InputError(f"{held}: torch has no product of it on this CPU: {str(error).splitlines()[0]}") from None
        self._turn = cycle(experts)

    def run(self, tokens: int) -> Run:
        """Run of the next expert each time, on `tokens` tokens; its output is added to others'."""
        x = torch.randn((tokens, self.size.d_model)).to(self.dtype)
        result = torch.zeros_like(x)
        return lambda: result.add_(next(self._turn)(x))

    def _weights(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """A matrix in the layout of its product, and its scales."""
        if not is_compressed(self.held):
            return (torch.randn((rows, columns)) * SCALE).to(self.dtype), torch.empty(0)
        if self.held == "int8":
            whole = torch.randint(-127, 128, (rows, columns), dtype=torch.int8)
            return whole, torch.full((rows,), SCALE / 128, dtype=self.dtype)
        numbers = torch.randint(0, 16, (rows, columns), dtype=torch.int32)
        packed = torch._convert_weight_to_int4pack_for_cpu(numbers, INNER_TILES)
        return packed, torch.full((columns // GROUP, rows, 2), SCALE, dtype=self.dtype)  # scales and zeros

    def _copy(self, weights: tuple[Tensor, Tensor]) -> Product:
        """Product with a copy of a matrix."""
        data, scales = weights[0].clone(), weights[1].clone()
        if not is_compressed(self.held):
            return plain(data)
        if self.held == "int8":
            return lambda x: torch._weight_int8pack_mm(x, data, scales)
        return lambda x: torch._weight_int4pack_mm_for_cpu(x, data, GROUP, scales)


class InARun(NamedTuple):
    """Times of events in which a worker computes experts, each a mean over several events, as a step adds up many."""

    start: Sample  # from the end of a wait for the device until the worker, which slept, has the hidden state
    expert: Sample
    join: Sample  # from the last expert's end until the host has issued the copy of the result and its addition
    whole: Sample  # the sum of all that

    def rest(self, around: float, experts: int) -> Sample:
        """What an expert takes where start and join are said to take `around`, ns; the whole stays the same."""
        return Sample(tuple(max(1.0, time - around) / experts for time in self.whole.raw))


def in_a_run(run: Run, experts: int, dense: Run, worker: Worker, bench: Bench, effort: Effort) -> InARun:
    """Times of `experts` runs of a worker behind a launch on the device, and of what a replay does around them."""
    at_host, result = (bench.pinned(HIDDEN_BYTES).view(torch.float16).zero_() for _ in range(2))
    hidden, sent, total = (torch.zeros_like(result, device=bench.device) for _ in range(3))

    def compute() -> tuple[int, int]:
        bench.await_last()
        begun = bench.now()
        result.zero_()
        for _ in range(experts):
            run()
        return begun, bench.now()

    def event() -> tuple[float, ...]:
        bench.launch(dense)
        bench.launch(lambda: at_host.copy_(hidden, non_blocking=True))
        bench.await_last()
        ready = bench.now()
        begun, ended = worker.submit(compute).result()
        bench.launch(lambda: sent.copy_(result, non_blocking=True))
        bench.launch(lambda: total.add_(sent))
        joined = bench.now()
        return begun - ready, (ended - begun) / experts, joined - ended, joined - ready

    *_, whole = [event() for _ in range(WARM_UPS)][-1]
    events = round(max(1, min(EVENTS, SAMPLE_NS // max(1, whole))))
    times = [
        [sum(some) / events for some in zip(*(event() for _ in range(events)), strict=True)]
        for _ in range(effort.samples)
    ]
    return InARun(*(Sample(tuple(some)) for some in zip(*times, strict=True)))


def beside_copies(
    run: Run, copy: Run, alone_ns: float, copy_ns: float, worker: Worker, bench: Bench, effort: Effort
) -> Sample:
    """Time of one of a worker's runs while copies are under way throughout."""
    copies = max(2, -(-int(2 * BESIDE * alone_ns) // max(1, int(copy_ns))))

    def timed() -> float:
        before = bench.now()
        for _ in range(BESIDE):
            run()
        return (bench.now() - before) / BESIDE

    def once() -> float:
        for _ in range(copies):
            bench.issue(copy)
        taken = worker.submit(timed).result()
        bench.wait()
        return taken

    return sampled(once, effort.samples)


def copies(copy: Run, bench: Bench, effort: Effort) -> Sample:
    """Time of one of several copies back to back."""
    return sampled(lambda: bench.copied_ns(copy, COPIES), effort.samples)


def copies_beside(run: Run, copy: Run, worker: Worker, bench: Bench, effort: Effort) -> Sample:
    """The same while a worker computes experts on the CPU throughout."""
    going = [True]

    def compute() -> None:
        while going[0]:
            run()

    computed = worker.submit(compute)
    try:
        sample = copies(copy, bench, effort)
    finally:
        going[0] = False
    computed.result()
    return sample


def more(beside: Sample, alone: Sample, least: float = 0.001) -> Sequence[float]:
    """Share by which something takes longer beside something else: of the medians, and the least and the most."""
    shares = (beside.median / alone.median, beside.ends[0] / alone.median, beside.ends[1] / alone.median)
    return [max(least, share - 1) for share in shares]
