"""A host thread that is disturbed as little as possible: on one core, without garbage collection.

What the host thread pays, and how long it and the device wait for each other.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from specmoe.hwprofiles.measure.bench import Bench, Effort, computing, copying
from specmoe.hwprofiles.measure.copies import Link
from specmoe.hwprofiles.measure.layers import Run
from specmoe.hwprofiles.measure.records import Sample, sampled


@contextmanager
def quiet() -> Iterator[None]:
    """Keep this thread on one core, where the system can, and collect no garbage until the end."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        if cores:
            os.sched_setaffinity(0, {max(cores)})
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
        gc.enable()
        gc.unfreeze()


CALLS = 64  # of which each is timed
AT_ONCE = 8  # calls before the host waits: a full queue would block it
CONTEXT = 256
UNKNOWN = -1  # in the router's result before it is there
HANDED = 1 << 20  # bytes of the copy that is waited for


class Parts(NamedTuple):
    """What the host launches: an expert and everything up to a router, each captured and eager; the router's result."""

    expert: Run
    expert_eager: Run
    before: Run
    before_eager: Run
    chosen: Tensor


def launch(bench: Bench, run: Run) -> Sample:
    """Host time of a launch."""
    return calls(bench, lambda: bench.launch(run))


def issue(bench: Bench, link: Link) -> Sample:
    """Host time of issuing a copy."""
    copy = link.one(HANDED)
    return calls(bench, lambda: bench.issue(copy))


def calls(bench: Bench, call: Run) -> Sample:
    """Host time of each of many calls, ns, with a wait after every few."""
    raw = []
    for at in range(CALLS + AT_ONCE):
        before = bench.now()
        call()
        raw.append(float(bench.now() - before))
        if at % AT_ONCE == AT_ONCE - 1:
            bench.wait()
    return Sample(tuple(raw[AT_ONCE:]))


def begin(bench: Bench, parts: Parts, effort: Effort) -> Sample:
    """From the host's return out of a launch to an idle device until that begins.

    The host sees the router's result appear in its memory; the device's own time for it is taken off.
    """
    taken = computing(bench, [parts.before], effort).median
    return _less(_until_seen(bench, lambda: bench.launch(parts.before), parts.chosen), taken)


def begin_copy(bench: Bench, link: Link, effort: Effort) -> Sample:
    """The same of a copy on an idle link: a few bytes that the device sends to the host."""
    seen, sent = link.pinned[:8].view(torch.int64), link.vram[:8].view(torch.int64)
    sent.zero_()

    def send() -> None:
        seen.copy_(sent, non_blocking=True)

    taken = copying(bench, [send], effort).median
    return _less(_until_seen(bench, lambda: bench.issue(send), seen), taken)


def sync(bench: Bench, parts: Parts, begin: Sample, effort: Effort) -> Sample:
    """From the end of the router's graph on the device until the host knows of it."""
    taken = computing(bench, [parts.before], effort).median + begin.median
    return _less(sampled(lambda: _round_trip(bench, parts.before), CALLS), taken)


def handover(bench: Bench, link: Link, run: Run, effort: Effort) -> Sample:
    """From a copy's end until a launch on the other stream that waits for it begins."""
    copy, taken = link.one(HANDED), computing(bench, [run], effort).median
    return _less(sampled(lambda: bench.handover_ns(copy, run), CALLS), taken)


def bookkeeping(bench: Bench) -> Sample:
    """What the loop of a replay takes for an event with nothing to do: looks at the clock and at two empty lists."""
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
    """From the return of a launch until its result, whose last number was unknown, is in the host's memory."""
    seen = result.view(-1).numpy()

    def once() -> float:
        bench.wait()
        result.fill_(UNKNOWN)
        launch()
        returned = bench.now()
        while seen[-1] == UNKNOWN:
            pass
        return float(bench.now() - returned)

    return sampled(once, CALLS)


def _round_trip(bench: Bench, run: Run) -> float:
    """From the return of a launch until the host has waited for its end."""
    bench.wait()
    bench.launch(run)
    returned = bench.now()
    bench.await_last()
    return float(bench.now() - returned)


def _less(sample: Sample, known: float) -> Sample:
    """Without a part that is known; what is left is 0 or more."""
    return Sample(tuple(max(0.0, time - known) for time in sample.raw))
