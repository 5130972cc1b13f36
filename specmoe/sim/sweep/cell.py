"""One configuration of a sweep: a trace, a policy, a machine, a model, and what is changed of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from specmoe.sim.decide.policies import policy
from specmoe.sim.decide.policy import Policy
from specmoe.sim.overrides import PREDICT_NS, is_of_policy
from specmoe.sim.run import AT_HOME
from specmoe.sim.timing.durations import Home
from specmoe.sim.timing.engine import Order

Pairs = tuple[tuple[str, Any], ...]


class RoutingKey(NamedTuple):
    """What cells share that have one workload and learn from the same."""

    trace: str
    batch: int
    steps: int | None
    train: str | None


@dataclass(frozen=True)
class Cell:
    """What is simulated; names are those of `RunSpec`.

    `settings` are dotted names of the policy or the profile and their values, in base units; `scales` dotted names of
    the profile (see `hwprofiles.scaling`) and the factors that multiply them, before anything is set.
    """

    trace: str
    policy: str
    profile: str
    shape: str = "switch-base-128"
    format: str | None = None
    slots: int | None = None
    vram: int | None = None
    batch: int = 1
    steps: int | None = None
    link: Order = "fifo"
    home: Home = AT_HOME
    host_set: str = "graph"
    train: str | None = None
    settings: Pairs = ()
    scales: tuple[tuple[str, float], ...] = ()

    @property
    def routing(self) -> RoutingKey:
        """What it may share with others."""
        return RoutingKey(self.trace, self.batch, self.steps, self.train)

    @property
    def key(self) -> str:
        """SHA-256 of all that its row depends on, what files hold and the package's version included.

        Raises InputError and TraceError where a file cannot be read. Of many cells: `contents.Contents().key(cell)`,
        which reads each file once.
        """
        from specmoe.sim.sweep.contents import Contents

        return Contents().key(self)


def policy_of(cell: Cell) -> Policy:
    """Its policy with what the cell sets of it; raises InputError for an unknown one."""
    settings = {name: value for name, value in cell.settings if is_of_policy(name) and name != PREDICT_NS}
    return policy(cell.policy, settings)
