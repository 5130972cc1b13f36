"""The current CUDA device as a `Bench`, and capturing of CUDA graphs."""

import ctypes
import gc
import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.cuda import CUDAGraph, Event, Stream

from specmoe.errors import InputError
from specmoe.hwprofiles.curves import Fact
from specmoe.hwprofiles.measure.bench import Beside
from specmoe.hwprofiles.measure.layers import Run
from specmoe.hwprofiles.measure.machine import machine_facts

WARM_UPS = 3  # before a capture, so that libraries have chosen kernels and allocated workspaces
MAX_DEVICE_BYTES = 40 << 30  # used for measuring
CALL_NS = 15_000  # upper bound of the host time per launch; the device is held up until all are queued
MAX_TRIES = 8  # the hold-up doubles with each try
CYCLES_PER_NS = 2  # approximate clock rate of the device


class Graph(CUDAGraph):
    """A CUDA graph that keeps a reference to its run, because the graph refers to buffers only by address."""

    run: Run


def captured(run: Run, stream: Stream, pool: Any = None) -> Graph:
    """Capture `run` as a graph on `stream`, which must not be the default stream.

    Graphs with the same `pool` share memory for intermediate results, so they must not run at the same time.
    """
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    graph = Graph()
    graph.run = run
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            run()
        stream.synchronize()
        # `torch.cuda.graph` empties the memory caches around every capture, which takes longer than the capture.
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            run()
        except BaseException:
            with suppress(RuntimeError):  # the capture has already failed; report the original error
                graph.capture_end()
            raise
        graph.capture_end()
    return graph


def cuda_bench() -> "CudaBench":
    """Bench on the current CUDA device; raises InputError if there is none."""
    if not torch.cuda.is_available():
        raise InputError(f"no CUDA device: torch {torch.__version__} finds none, and measuring needs one")
    return CudaBench()


class CudaBench:
    """`Bench` on the current CUDA device; its compute stream is made the current stream."""

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        self._properties = torch.cuda.get_device_properties(self.device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, MAX_DEVICE_BYTES / self.vram_bytes), self.device)
        self._compute, self._copy = _stream(self.device), _stream(self.device)
        torch.cuda.set_stream(self._compute)
        self._driver = _driver("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        self._start, self._end, self._past, self._last, self._copied = (_event() for _ in range(5))
        self._past.record(self._compute)
        self._last.record(self._compute)
        self._small = torch.zeros(1, device=self.device)
        self.release()

    @property
    def l2_bytes(self) -> int:
        """Size of the device's last cache."""
        return int(self._properties.L2_cache_size)

    @property
    def vram_bytes(self) -> int:
        """Size of the device's memory."""
        return int(self._properties.total_memory)

    def facts(self) -> Mapping[str, Fact]:
        """Facts about the machine from the driver and the system."""
        return machine_facts(self.device)

    def pinned(self, size: int) -> Tensor:
        """Allocate `size` bytes of pinned host memory."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def captured(self, run: Run) -> Run:
        """Capture `run` as a graph and return its launch; existing graphs share memory for intermediate results."""
        graph = captured(run, self._compute, self._graph_pool)
        return graph.replay

    def release(self) -> None:
        """Return unused device memory to the driver."""
        self.wait()
        gc.collect()  # launches refer to the weights whose launches they are
        self._graph_pool = torch.cuda.graph_pool_handle()
        # A pool accepts no new graph once all of its graphs are gone, so one stays.
        self._anchor = captured(lambda: self._small.add_(1), self._compute, self._graph_pool)
        torch.cuda.empty_cache()

    def now(self) -> int:
        """The host's clock, ns."""
        return time.perf_counter_ns()

    def wait(self) -> None:
        """Wait until all launched work has ended."""
        torch.cuda.synchronize(self.device)

    def queued_ns(self, launch: Run, times: int, beside: Beside | None = None) -> float:
        """Device time of a launch among `times` that the host queues before the first begins.

        Each waits for an event and records one, as in a replay; the time includes both.
        """
        return self._between_ns(self._compute, lambda: self.launch(launch), times, times * CALL_NS, beside)

    def copied_ns(self, copy: Run, times: int, ahead: bool = True, beside: Beside | None = None) -> float:
        """Device time of a copy among `times`, each of which waits for an event and records one, as in a replay."""

        def evented() -> None:
            self._copy.wait_event(self._past)
            copy()
            self._copied.record(self._copy)

        return self._between_ns(self._copy, evented, times, times * CALL_NS * ahead, beside)

    def _between_ns(self, stream: Stream, launch: Run, times: int, held_ns: int, beside: Beside | None) -> float:
        """Hold the stream up and launch; repeat with a longer hold-up if the first began before the host was done."""
        expected = 0.0
        for _ in range(MAX_TRIES):
            self.wait()
            with torch.cuda.stream(self._compute if stream is self._copy else self._copy):
                self._keep_busy(beside, held_ns + expected)
            with torch.cuda.stream(stream):
                if held_ns:
                    _hold(held_ns)
                self._start.record(stream)
                for _ in range(times):
                    launch()
                self._end.record(stream)
                overtaken = held_ns > 0 and _has_happened(self._start)
            self._end.synchronize()
            taken = self._start_to_end_ns()
            if not overtaken and (beside is None or expected >= taken):
                break
            held_ns, expected = held_ns * (1 + overtaken), 2 * taken
        return taken / times

    def _start_to_end_ns(self) -> float:
        return float(self._start.elapsed_time(self._end)) * 1e6  # ms

    def _keep_busy(self, beside: Beside | None, ns: float) -> None:
        if beside is not None:
            for _ in range(math.ceil(ns / beside.ns) + 1):
                beside.launch()

    def launch(self, launch: Run) -> None:
        """Launch on the compute stream as a replay does."""
        self._compute.wait_event(self._past)
        launch()
        self._last.record(self._compute)

    def issue(self, copy: Run) -> None:
        """Issue a copy as a replay does."""
        torch.cuda.set_stream(self._copy)
        self._copy.wait_event(self._past)
        copy()
        self._end.record(self._copy)
        torch.cuda.set_stream(self._compute)

    def await_last(self) -> None:
        """Wait for the event recorded by the last `launch`."""
        self._last.synchronize()

    def handover_ns(self, copy: Run, launch: Run) -> float:
        """Time from the end of a copy until the end of a launch that waits for it."""
        self.wait()
        with torch.cuda.stream(self._copy):
            _hold(4 * CALL_NS)
            copy()
            self._start.record(self._copy)
        self._compute.wait_event(self._start)
        launch()
        self._end.record(self._compute)
        self._end.synchronize()
        return self._start_to_end_ns()

    def allocation_ns(self, size: int) -> float:
        """Host time of an allocation by the driver; raises torch.OutOfMemoryError if the driver refuses."""
        address = ctypes.c_uint64()
        before = self.now()
        refused = self._driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size))
        taken = self.now() - before
        if refused:
            raise torch.OutOfMemoryError(f"the driver refuses {size} bytes: error {refused}")
        self._driver.cuMemFree_v2(address)
        return taken


def _stream(device: torch.device) -> Stream:
    return Stream(device)  # type: ignore[no-untyped-call]  # torch's own gap


def _event() -> Event:
    return Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own gap


def _driver(library: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(library)
    except OSError as error:
        raise InputError(f"no CUDA device: {library}, the driver's library, cannot be used: {error}") from None


def _hold(ns: int) -> None:
    """Keep the current stream busy for about `ns`."""
    torch.cuda._sleep(ns * CYCLES_PER_NS)  # type: ignore[no-untyped-call]  # torch's own gap


def _has_happened(event: Event) -> bool:
    return bool(event.query())  # type: ignore[no-untyped-call]  # torch's own gap
