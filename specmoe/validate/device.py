"""Interface between the replayer and a device; `cuda` implements it on a GPU."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.program import Program
from specmoe.sim.decide.table import DecisionTable

Times = NDArray[np.int64]


class Dense(NamedTuple):
    """Dense part up to the router's result of a MoE layer; `routers` above 1 includes those of look-ahead."""

    layer: int
    tokens: int
    context: int
    routers: int = 1


class Work(NamedTuple):
    """Decisions in order of execution, with the sizes of their kernels."""

    table: DecisionTable
    program: Program
    dense: Sequence[Dense]  # [events]
    heads: Sequence[int]  # [steps], tokens
    tokens: Sequence[int]  # [uses], tokens of the expert's kernel
    expands: Sequence[bool]  # [uses], the first use of a load whose format is not the slot's
    predict: Sequence[int] = ()  # [events], ns of the host thread; empty: none
    runs_ahead: bool = False  # routing stays on the device: the host waits at the end of a step only


class DeviceTimes(NamedTuple):
    """Times on the device, ns on the clock of `Device.now`; starts are -1 unless the run is traced.

    Those of uses on the CPU are the CPU's, always with starts.
    """

    dense_start: Times  # [events]
    dense_end: Times  # [events], the router's result is known on the device
    use_start: Times  # [uses]
    use_end: Times  # [uses]
    started: Times  # [loads]
    landed: Times  # [loads]
    head_start: Times  # [steps]
    head_end: Times  # [steps]
    copied: Times  # [events], the CPU's result is on the device; -1 where it computes none
    added: Times  # [events], and has been added


class Device(Protocol):
    """A host thread's view of the CPU's threads, and of a device with a stream that computes and one that copies.

    Only `wait_for_router`, `join`, `end_step` and `think` block. The device enforces the rule of slot reuse: a copy
    into a slot begins after the last kernel that reads the slot's former expert has ended.
    """

    def prepare(self, work: Work) -> None:
        """Prepare everything that a run of this work launches."""

    def begin(self, traced: bool) -> None:
        """Start a run; `traced` also records all start times, which takes time."""

    def now(self) -> int:
        """The host's clock, ns."""

    def launch_dense(self, event: int) -> None:
        """Launch everything up to the router of an event."""

    def wait_for_router(self, event: int) -> None:
        """Wait until the router's result of an event is in host memory."""

    def fetch(self, event: int) -> None:
        """Issue the copy of an event's hidden state into host memory, for the CPU."""

    def hand_over(self, event: int) -> None:
        """Have the CPU compute its experts of an event, as soon as the hidden state is there."""

    def join(self, event: int) -> None:
        """Wait for the CPU's experts, and issue the copy of their result and its addition."""

    def think(self, ns: int) -> None:
        """Keep the host thread busy for `ns`, in place of a prediction."""

    def issue(self, load: int) -> None:
        """Issue a load's copy into its slot."""

    def launch(self, use: int) -> None:
        """Launch the group of experts that ends with `use`; it waits for the loads of all of them."""

    def launch_head(self, step: int) -> None:
        """Launch everything after the last MoE layer of a step."""

    def end_step(self, step: int) -> None:
        """Wait for everything launched in a step."""

    def end(self) -> DeviceTimes:
        """End the run and return the times on the device."""
