"""What was routed, batched into a workload: all of a simulation that no machine, model or policy changes."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import specmoe.traces
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.policies import POLICIES
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.predictions import Predictions, hash_of_bytes
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.train_split import open_train, train_beside
from specmoe.sim.timing.durations import contexts
from specmoe.traces.store import Trace
from specmoe.traces.validation import read_valid
from specmoe.traces.workload import build


class Routing:
    """A trace in batches of so many sequences, at most `steps` steps of it, and what is learnt from its train split.

    `train` names the trace that popularity and predictors are learnt from, else that beside a bundled one is;
    `directory` keeps predictions from one run to the next. Raises InputError and TraceError.
    """

    def __init__(
        self,
        trace: str,
        batch: int = 1,
        steps: int | None = None,
        train: str | None = None,
        directory: Path | None = None,
    ) -> None:
        self.trace: Trace = specmoe.traces.open(trace)
        self.routed = _routed(self.trace, batch, steps)
        self.train_name = train or train_beside(trace)
        self._train_trace = None if self.train_name is None else open_train(self.train_name, self.trace.meta)
        self._batching, self._directory = (batch, steps), directory
        self._contexts: dict[int, list[int]] = {}

    @property
    def num_keys(self) -> int:
        """Experts of all layers."""
        return self.trace.meta.num_layers * self.trace.meta.num_experts

    def contexts(self, cross: int) -> list[int]:
        """Positions that the tokens of each step attend to: `cross` at least."""
        if cross not in self._contexts:
            self._contexts[cross] = contexts(self.routed.workload, self.routed.block.position, cross)
        return self._contexts[cross]

    def decide(self, chosen: Policy, slots: int) -> DecisionTable:
        """The decisions of a policy."""
        workload = self.routed.workload
        context = Context(slots, workload, lambda: self.popularity)
        return decide(workload, self.predictions.of(chosen), chosen, slots, context)

    @cached_property
    def all_resident(self) -> DecisionTable:
        """Decisions with a slot for every expert."""
        return self.decide(POLICIES["gpu-only"], self.num_keys)

    @cached_property
    def predictions(self) -> Predictions:
        """What predictors say of the workload."""
        return Predictions(self.trace.path, self.routed, self._batching, lambda: self._train, self._directory)

    @property
    def train(self) -> Routed | None:
        """The train split, if there is one."""
        return None if self._train is None else self._train[0]

    @cached_property
    def _train(self) -> tuple[Routed, Path] | None:
        if self._train_trace is None:
            return None
        return _routed(self._train_trace, self._batching[0], None), self._train_trace.path

    @cached_property
    def popularity(self) -> NDArray[np.int64] | None:
        """Demands of each key in the train split, [keys]."""
        if self._train_trace is None:
            return None
        block = self._train_trace.read(("sequence", "experts"))
        workload = build(block, self._train_trace.meta, self._batching[0])
        counts: NDArray[np.int64] = np.bincount(workload.keys, minlength=self.num_keys)
        return counts

    @cached_property
    def trace_hash(self) -> str:
        """Of the trace's file."""
        return hash_of_bytes(self.trace.path.read_bytes())


def _routed(trace: Trace, batch: int, steps: int | None) -> Routed:
    block = read_valid(trace)
    return Routed(build(block, trace.meta, batch, steps), block)
