"""How long a network just trained takes to guess, for its `metrics.json`. Import only where torch is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from specmoe.sim.speculate.learned.predictor import Learned
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.running_time import measure
from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.workload import build

ROWS = 320
LENGTH = {"decode": 20, "encode": 80}  # of the sequences that the rows are cut into
BATCHES = {"decode": (1, 16), "encode": (1, 2)}
REPEATS = 2


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
            time = measure(Learned(1, architecture, str(checkpoint), kind), one, many, REPEATS)
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
