"""Whether every policy computes what a model with all its experts resident computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, MissingExtraError
from specmoe.sim.run import Scenario
from specmoe.validate.device import Device, Work
from specmoe.validate.replayer import replay
from specmoe.validate.work import work_of


class CheckedDevice(Device, Protocol):
    """A device that can tell what its experts computed."""

    def outputs(self) -> NDArray[np.int64]:
        """A checksum of every expert's output in the last run, [uses]."""

    def truth(self) -> NDArray[np.int64]:
        """What it must be, wherever the expert is, [uses]."""


class Checked(NamedTuple):
    """One policy's outputs; `problem` is why it could not be checked."""

    policy: str
    slots: int
    uses: int
    loads: int
    wrong: int
    problem: str = ""


def check(work: Work, device: CheckedDevice) -> int:
    """How many experts of a replay computed something else than with all of them resident."""
    device.prepare(work)
    replay(work, device)
    return int((device.outputs() != device.truth()).sum())


def check_policies(scenario: Scenario, names: Iterable[str], device: CheckedDevice) -> Iterator[Checked]:
    """Check policies by name on the scenario's slots; one that cannot be replayed is a row with its problem."""
    for name in names:
        try:
            chosen = scenario.policy(name)
            table = scenario.decide(chosen, scenario.slots)
            work = work_of(scenario, chosen, table)
        except (InputError, MissingExtraError) as error:
            yield Checked(name, scenario.slots, 0, 0, 0, str(error))
            continue
        yield Checked(name, table.slots, len(table.uses.key), len(table.loads.key), check(work, device))
