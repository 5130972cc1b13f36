"""Costs of the host thread, and the delays between host and device, measured on an undisturbed thread."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from specmoe.hwprofiles.measure.bench import Bench, Effort, Sample, computing, copying, sampled
from specmoe.hwprofiles.measure.copies import Link
from specmoe.hwprofiles.measure.layers import Run

SWITCH_S = 1e-5  # after which a thread that waits for the interpreter gets it
CALLS = 64  # timed one by one
CALLS_PER_WAIT = 8  # a full queue would block the host
CONTEXT = 256
NOT_YET = -1  # marks a router's result that has not arrived
HANDOVER_BYTES = 1 << 20  # size of the copy that a launch waits for


@contextmanager
def quiet() -> Iterator[None]:
    """Pin this thread to one core, if the system can, and disable garbage collection inside the block.

    A thread that computes experts gets the interpreter soon when it asks for it. What was frozen stays frozen.
    """
    frozen = gc.get_freeze_count()
    interval = sys.getswitchinterval()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(SWITCH_S)
    try:
        if cores:
            os.sched_setaffinity(0, {max(cores)})
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
        sys.setswitchinterval(interval)
        gc.enable()
        if not frozen:
            gc.unfreeze()


class Parts(NamedTuple):
    """Launches to time: an expert and everything up to a router, each captured and eager; and the router's result."""

    expert: Run
    expert_eager: Run
    before: Run
    before_eager: Run
    chosen: Tensor


def launch(bench: Bench, run: Run) -> Sample:
    """Host time of a launch on the compute stream."""
    return calls(bench, lambda: bench.launch(run))


def issue(bench: Bench, link: Link) -> Sample:
    """Host time of issuing a copy."""
    copy = link.one(HANDOVER_BYTES)
    return calls(bench, lambda: bench.issue(copy))


def calls(bench: Bench, call: Run) -> Sample:
    """Host time of each call, ns, waiting for the device after every few calls."""
    raw = []
    for at in range(CALLS + CALLS_PER_WAIT):
        before = bench.now()
        call()
        raw.append(float(bench.now() - before))
        if at % CALLS_PER_WAIT == CALLS_PER_WAIT - 1:
            bench.wait()
    return Sample(tuple(raw[CALLS_PER_WAIT:]))


def begin(bench: Bench, parts: Parts, effort: Effort) -> Sample:
    """Time from the return of a launch until an idle device begins it.

    The host polls for the router's result in its memory; the device time of the launch is subtracted.
    """
    taken = computing(bench, [parts.before], effort).median
    return _less(_until_seen(bench, lambda: bench.launch(parts.before), parts.chosen), taken)


def begin_copy(bench: Bench, link: Link, effort: Effort) -> Sample:
    """Time from the issue of a copy of a few bytes to the host until an idle link begins it."""
    seen, sent = link.pinned[:8].view(torch.int64), link.vram[:8].view(torch.int64)
    sent.zero_()

    def send() -> None:
        seen.copy_(sent, non_blocking=True)

    taken = copying(bench, [send], effort).median
    return _less(_until_seen(bench, lambda: bench.issue(send), seen), taken)


def sync(bench: Bench, parts: Parts, begin: Sample, effort: Effort) -> Sample:
    """Time from the end of the router's graph on the device until the host has waited for it."""
    taken = computing(bench, [parts.before], effort).median + begin.median
    return _less(sampled(lambda: _round_trip(bench, parts.before), CALLS), taken)


def handover(bench: Bench, link: Link, run: Run, effort: Effort) -> Sample:
    """Time from the end of a copy until a launch on the other stream that waits for it begins."""
    copy, taken = link.one(HANDOVER_BYTES), computing(bench, [run], effort).median
    return _less(sampled(lambda: bench.handover_ns(copy, run), CALLS), taken)


def bookkeeping(bench: Bench) -> Sample:
    """Time of a replay's loop for an event without work: two reads of the clock and two empty loops."""
    empty: list[int] = []

    def event() -> float:
        before = bench.now()
        for _ in empty[0:0]:
            bench.now()
        for _ in empty[0:0]:
            bench.now()
        return float(bench.now() - before)

    return sampled(event, CALLS)


def _until_seen(bench: Bench, launch: Run, result: Tensor) -> Sample:
    """Time from the return of a launch until the last number of its result is in host memory."""
    seen = result.view(-1).numpy()

    def once() -> float:
        bench.wait()
        result.fill_(NOT_YET)
        launch()
        returned = bench.now()
        while seen[-1] == NOT_YET:
            pass
        return float(bench.now() - returned)

    return sampled(once, CALLS)


def _round_trip(bench: Bench, run: Run) -> float:
    """Time from the return of a launch until the host has waited for its end."""
    bench.wait()
    bench.launch(run)
    returned = bench.now()
    bench.await_last()
    return float(bench.now() - returned)


def _less(sample: Sample, known: float) -> Sample:
    """Sample with a known part subtracted from each time; at least 0."""
    return Sample(tuple(max(0.0, time - known) for time in sample.raw))
