"""What the replayer asks of a device, and what it gets back. `cuda` is real, `fake` runs without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.program import Program
from specmoe.sim.decide.table import DecisionTable

Times = NDArray[np.int64]


class Dense(NamedTuple):
    """Everything before a MoE layer, up to its router's result; `routers` above 1 are those of look-ahead."""

    layer: int
    tokens: int
    context: int
    routers: int = 1


class Work(NamedTuple):
    """Decisions, in the order of their execution, with the sizes of what is executed."""

    table: DecisionTable
    program: Program
    dense: Sequence[Dense]  # [events]
    heads: Sequence[int]  # [steps], tokens
    tokens: Sequence[int]  # [uses], that the expert's kernel computes
    expands: Sequence[bool]  # [uses], the first of a load that came in another format than the slot's
    predict: Sequence[int] = ()  # [events], ns of the host thread; empty: none


class DeviceTimes(NamedTuple):
    """When what was launched happened on the device, ns on the clock of `Device.now`; starts are -1 unless traced."""

    dense_start: Times  # [events]
    dense_end: Times  # [events], the router's result is known on the device
    use_start: Times  # [uses]
    use_end: Times  # [uses]
    started: Times  # [loads]
    landed: Times  # [loads]
    head_start: Times  # [steps]
    head_end: Times  # [steps]


class Device(Protocol):
    """A host thread's view of a device with two streams, one that computes and one that copies.

    Only `wait_for_router`, `end_step` and `think` take longer than the call itself. The device owns the rule of slot
    reuse: a copy into a slot begins after the last kernel that reads the slot's former expert has ended.
    """

    def prepare(self, work: Work) -> None:
        """Make everything ready that a run of this work launches."""

    def begin(self, traced: bool) -> None:
        """A run begins; `traced` also takes the starts of everything, which costs time."""

    def now(self) -> int:
        """The host's clock, ns."""

    def launch_dense(self, event: int) -> None:
        """Launch everything up to the router of an event."""

    def wait_for_router(self, event: int) -> None:
        """Wait until its result is in host memory."""

    def think(self, ns: int) -> None:
        """The host works so long: what stands in for a prediction."""

    def issue(self, load: int) -> None:
        """Issue a copy into its slot."""

    def launch(self, use: int) -> None:
        """Launch an expert, which waits for its load."""

    def launch_head(self, step: int) -> None:
        """Launch what is behind the last MoE layer."""

    def end_step(self, step: int) -> None:
        """Wait for everything that was launched."""

    def end(self) -> DeviceTimes:
        """The run has ended."""
