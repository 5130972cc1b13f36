"""Check that every policy computes the same outputs as a model with all its experts in VRAM."""

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
    """A device that also reports checksums of its experts' outputs."""

    def outputs(self) -> NDArray[np.int64]:
        """Checksum of every expert's output in the last run, [uses]."""

    def truth(self) -> NDArray[np.int64]:
        """Correct checksum of every expert's output, independent of its slot, [uses]."""


class Checked(NamedTuple):
    """Result of checking one policy; `problem` is the reason if it could not be checked."""

    policy: str
    slots: int
    uses: int
    loads: int
    wrong: int
    problem: str = ""


def check(work: Work, device: CheckedDevice) -> int:
    """Replay once and count the outputs that differ from those with all experts in VRAM."""
    device.prepare(work)
    replay(work, device)
    return int((device.outputs() != device.truth()).sum())


def check_policies(scenario: Scenario, names: Iterable[str], device: CheckedDevice) -> Iterator[Checked]:
    """Check policies by name with the scenario's slots; one that cannot be replayed has a problem."""
    for name in names:
        try:
            policy = scenario.policy(name)
            table = scenario.decide(policy, scenario.slots)
            work = work_of(scenario, policy, table)
        except (InputError, MissingExtraError) as error:
            yield Checked(name, scenario.slots, 0, 0, 0, str(error))
            continue
        yield Checked(name, table.slots, len(table.uses.key), len(table.loads.key), check(work, device))
