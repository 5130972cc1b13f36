"""Workers of a sweep: processes of this machine or a dask cluster, both as `concurrent.futures` executors.

A worker process ends with the process that started it, however that ends: it waits for the end of a pipe whose other
end only that process holds.
"""

import logging
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

from specmoe.errors import InputError, MissingExtraError

PATIENCE = 5  # seconds to wait for a scheduler
ADDRESS = re.compile(r"(\w+://)?[^/\s]+:\d+")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(NamedTuple):
    """An executor and its number of workers."""

    executor: Executor
    number: int

    def each(self, work: Callable[..., Result], items: Sequence[Item], *more: Any) -> Iterator[tuple[Item, Result]]:
        """Yield each item with `work(item, *more)` as it finishes; raises InputError if a worker fails."""
        try:
            futures = {self.executor.submit(work, item, *more): item for item in items}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenExecutor:
            raise InputError("a worker process died (out of memory?): try fewer --workers") from None
        except Exception as error:  # an error of the executor: the work itself reports errors in rows
            why = (str(error).splitlines() or [""])[0]
            raise InputError(f"the workers failed: {type(error).__name__} {why}") from None


@contextmanager
def processes(number: int) -> Iterator[Workers]:
    """Start `number` processes; they end at once if the block raises."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(number, context, _attach, (theirs,))
    try:
        yield Workers(executor, number)
        executor.shutdown()
    finally:
        ours.close()
        executor.shutdown(cancel_futures=True)
        theirs.close()


@contextmanager
def dask_workers(address: str) -> Iterator[Workers]:
    """Workers of a dask scheduler, e.g. tcp://host:8786; raises InputError if it does not answer."""
    try:
        import distributed
    except ModuleNotFoundError:
        raise MissingExtraError("distributed", "scale") from None
    if not ADDRESS.fullmatch(address):
        raise InputError(f"--dask {address}: tcp://host:port expected")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # its errors come as exceptions
    try:
        client: Any = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"--dask {address}: no scheduler answers ({why})") from None
    with client:
        yield Workers(client.get_executor(), sum(client.nthreads().values()))


def _attach(lifeline: Connection) -> None:
    """Initialise a worker: it ignores interrupts of the terminal and ends when its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    lifeline.poll(None)  # until the other end is closed
    os._exit(0)
