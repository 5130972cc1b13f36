"""What a comparison needs of runs of the same decisions: how long every step took, and its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.results import DECISIONS, RunResult, Table, latencies, same_decisions

Times = NDArray[np.int64]


class Steps(NamedTuple):
    """Times of every step in every repeat, ns, [repeats, steps] each; a simulation has one repeat."""

    latency: Times
    compute: Times  # of it, the compute stream works
    stall: Times  # of it, the compute stream waits for loads
    decisions: str  # SHA-256 of the decisions that were executed

    @property
    def typical(self) -> NDArray[np.float64]:
        """Median over the repeats, [steps]."""
        typical: NDArray[np.float64] = np.median(self.latency, axis=0)
        return typical


def steps_of(runs: Sequence[RunResult]) -> Steps:
    """Runs of the same decisions, at least one; raises InputError if their decisions differ."""
    for run in runs[1:]:
        same_decisions(runs[0], run)
    latency = np.stack([latencies(run) for run in runs])
    return Steps(latency, _summed(runs, "compute_ns"), _summed(runs, "stall_ns"), hash_of_decisions(runs[0].table))


def hash_of_decisions(table: Table) -> str:
    """SHA-256 of the columns that runs must agree in to be compared."""
    columns = [np.ascontiguousarray(table[name], "<i8").tobytes() for name in DECISIONS]
    return hashlib.sha256(b"".join(columns)).hexdigest()


def _summed(runs: Sequence[RunResult], column: str) -> Times:
    """A column summed over the layers of each step, [repeats, steps]."""
    return np.stack([run.table[column].reshape(-1, run.manifest.num_layers).sum(axis=1) for run in runs])
