"""What measuring asks of a machine. `cuda` is a real one; tests put the host in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from specmoe.hwprofiles.measure.layers import Run
from specmoe.hwprofiles.profile import Fact


class Beside(NamedTuple):
    """Work that keeps the compute stream busy while something else is measured: one launch, and its time."""

    launch: Run
    ns: float


class Bench(Protocol):
    """A host thread with a device that has a stream to compute and one to copy, and nothing else to do."""

    device: torch.device

    @property
    def l2_bytes(self) -> int:
        """Of the device's last cache."""

    @property
    def vram_bytes(self) -> int:
        """Of the device's memory."""

    def facts(self) -> Mapping[str, Fact]:
        """What the driver and the system say of the machine; what they do not say is left out."""

    def pinned(self, size: int) -> Tensor:
        """Bytes of host memory that the device copies from by itself."""

    def captured(self, run: Run) -> Run:
        """The launch of a graph of what `run` launches."""

    def release(self) -> None:
        """Give back device memory that nobody holds any more."""

    def now(self) -> int:
        """The host's clock, ns."""

    def wait(self) -> None:
        """Wait until all that was launched has ended."""

    def queued_ns(self, launch: Run, times: int) -> float:
        """Device time of a launch to the compute stream, among `times` back to back that the host does not hold up."""

    def copied_ns(self, copy: Run, times: int, ahead: bool = True, beside: Beside | None = None) -> float:
        """Device time of a copy among `times` back to back.

        Unless `ahead`, the first begins at once: needed where a call blocks until its copy has been made.
        """

    def launch(self, launch: Run) -> None:
        """Launch to the compute stream as a replay does: behind an event, and with one at its end."""

    def issue(self, copy: Run) -> None:
        """Issue a copy as a replay does: on the other stream, behind an event, and with one at its end."""

    def await_last(self) -> None:
        """Wait for the event at the end of what `launch` launched last."""

    def handover_ns(self, copy: Run, launch: Run) -> float:
        """From the end of a copy until the end of a launch that waits for it."""

    def allocation_ns(self, size: int) -> float:
        """Host time of allocating so many bytes of device memory from the driver."""
