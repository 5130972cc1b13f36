"""Check that every policy computes the same outputs as a model with all its experts in VRAM.

Outputs of experts on the GPU have the same bits. The CPU's products round in another order, so of a layer with experts
on the CPU the sum of all its experts is compared: it may differ by `TOLERANCE` of its norm, a few roundings of the
format. An expert that was exchanged for another one differs by about its whole norm.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError, MissingExtraError
from specmoe.hwprofiles.shape import ComputeFormat, compute_format
from specmoe.sim.run import Scenario
from specmoe.validate.replayer import Device, Work, replay, work_of

TOLERANCE: dict[ComputeFormat, float] = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 1.6e-2}


class CheckedDevice(Device, Protocol):
    """A device that also reports checksums of its experts' outputs."""

    def outputs(self) -> NDArray[np.int64]:
        """Checksum of every expert's output in the last run, [uses]; the same as `truth` of uses on the CPU."""

    def truth(self) -> NDArray[np.int64]:
        """Correct checksum of every expert's output, independent of its slot, [uses]."""

    def errors(self) -> NDArray[np.float64]:
        """Distance of each layer's sum from that of the same experts all on the device, as a share, [events].

        It is a share of the sum's norm; 0 where the CPU computes none.
        """


class Checked(NamedTuple):
    """Result of checking one policy; `problem` is the reason if it could not be checked."""

    policy: str
    slots: int
    uses: int
    loads: int
    wrong: int  # outputs, and sums of layers
    problem: str = ""
    cpu_uses: int = 0
    error: float = 0.0  # the largest of the layers' sums with experts on the CPU, as a share


def check(work: Work, device: CheckedDevice, tolerance: float) -> tuple[int, float]:
    """Replay once: the number of outputs and sums that differ from those with all experts in VRAM, and by how much.

    The latter is of sums only, whose distance may be `tolerance`.
    """
    device.prepare(work)
    replay(work, device)
    wrong, errors = int((device.outputs() != device.truth()).sum()), device.errors()
    return wrong + int((~(errors <= tolerance)).sum()), float(errors.max(initial=0))


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
        wrong, distance = check(work, device, TOLERANCE[compute_format(scenario.format)])
        counts = table.slots, len(table.uses.key), len(table.loads.key)
        yield Checked(name, *counts, wrong, cpu_uses=table.cpu_uses, error=distance)
