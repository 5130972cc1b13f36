"""The decisions of one policy on one workload: what every later stage, simulated or real, executes.

Two tables of parallel arrays. A key names an expert of a layer: `layer * num_experts + expert`. An event is one (step,
layer): `step * num_layers + layer`. Within an event, loads are issued in the order of their rows, demand loads of the
first wave first; uses run in the order of their rows. Prefetches are predicted and issued before the experts of the
event's last wave are launched, or, `after_launch`, behind them.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]


class Uses(NamedTuple):
    """One row for every demanded expert."""

    event: Ints
    key: Ints
    tokens: Ints  # tokens the expert serves
    slot: Ints  # where its weights are
    load: Ints  # row of `Loads` that brought it there; -1 if it was there from the start
    hit: NDArray[np.bool_]  # resident when asked for, landed or not
    wave: Ints  # 0, unless the demand did not fit the slots at once


class Loads(NamedTuple):
    """One row for every load."""

    event: Ints  # during which it is issued
    key: Ints
    slot: Ints
    evicted: Ints  # the key that left the slot; -1 if it was free
    demand: NDArray[np.bool_]  # asked for by the router, or else predicted
    used: NDArray[np.bool_]  # before it was evicted
    wave: Ints  # of the uses it is issued for; prefetches come after the last


class DecisionTable(NamedTuple):
    """All decisions, with the shape of the workload they belong to."""

    uses: Uses
    loads: Loads
    num_steps: int
    num_layers: int
    num_experts: int
    slots: int
    after_launch: bool = False

    @property
    def hits(self) -> int:
        """Demanded experts that were resident."""
        return int(self.uses.hit.sum())

    @property
    def demand_loads(self) -> int:
        """Loads a router asked for."""
        return int(self.loads.demand.sum())

    @property
    def prefetch_loads(self) -> int:
        """Loads a prediction asked for."""
        return len(self.loads.demand) - self.demand_loads

    @property
    def prefetch_useful(self) -> int:
        """Prefetched experts that were used before they left."""
        return int((self.loads.used & ~self.loads.demand).sum())


class Recorder:
    """Collects rows while decisions are made."""

    def __init__(self) -> None:
        self._uses = array("i")
        self._loads = array("i")
        self._used = bytearray()

    @property
    def num_loads(self) -> int:
        """Rows of loads so far."""
        return len(self._used)

    def use(self, event: int, key: int, tokens: int, slot: int, load: int, hit: bool, wave: int) -> None:
        """Write down a use; its load was a useful one."""
        self._uses.extend((event, key, tokens, slot, load, hit, wave))
        if load >= 0:
            self._used[load] = True

    def load(self, event: int, key: int, slot: int, evicted: int, demand: bool, wave: int) -> int:
        """Write down a load; its row."""
        self._loads.extend((event, key, slot, evicted, demand, wave))
        self._used.append(False)
        return len(self._used) - 1

    def table(
        self, num_steps: int, num_layers: int, num_experts: int, slots: int, after_launch: bool = False
    ) -> DecisionTable:
        """Everything written down."""
        event, key, tokens, slot, load, hit, wave = _columns(self._uses, 7)
        uses = Uses(event, key, tokens, slot, load, hit.astype(np.bool_), wave)
        event, key, slot, evicted, demand, wave = _columns(self._loads, 6)
        used = np.array(self._used, np.bool_)
        loads = Loads(event, key, slot, evicted, demand.astype(np.bool_), used, wave)
        return DecisionTable(uses, loads, num_steps, num_layers, num_experts, slots, after_launch)


def _columns(rows: array[int], width: int) -> list[Ints]:
    return list(np.array(rows, np.int32).reshape(-1, width).T.copy())
