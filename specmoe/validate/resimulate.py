"""Simulating cells, again and again with other costs of the host: what is decided is decided once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from specmoe.errors import InputError
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import Phase
from specmoe.sim.decide.packed import packed
from specmoe.sim.run import AT_HOME, Run, RunSpec, Scenario
from specmoe.validate.calibrate import MILLION, Constants
from specmoe.validate.cells import Cell, Group
from specmoe.validate.steps import Steps, Times, hash_of_decisions

Traces = Mapping[Phase, str]  # the trace of each phase, by name or path


def spec_of(group: Group, traces: Traces, profile: str | HardwareProfile) -> RunSpec:
    """What is simulated of a group, as it is replayed; raises InputError if there is no trace of its phase."""
    if group.phase not in traces:
        raise InputError(f"{group.name}: no trace of phase {group.phase}: one of {', '.join(traces)} expected")
    return RunSpec(
        traces[group.phase],
        profile,
        group.shape,
        group.format,
        batch=group.batch,
        steps=group.steps,
        home=AT_HOME._replace(format=group.home_format),
        padded=True,
    )


class Resimulation:
    """Cells on one machine: a profile by name or path, or at hand."""

    def __init__(self, traces: Traces, profile: str | HardwareProfile) -> None:
        self._traces, self._profile = traces, profile
        self._scenarios: dict[Group, Scenario] = {}
        self._runs: dict[Cell, Run] = {}

    def scenario(self, group: Group) -> Scenario:
        """What a group's cells share; raises InputError for what cannot be simulated."""
        if group not in self._scenarios:
            self._scenarios[group] = Scenario(spec_of(group, self._traces, self._profile))
        return self._scenarios[group]

    def run(self, cell: Cell) -> Run:
        """A cell with the profile's own costs of the host."""
        if cell not in self._runs:
            self._runs[cell] = self.scenario(cell.group).run(cell.policy, cell.slots)
        return self._runs[cell]

    def constants(self, group: Group) -> Constants:
        """The profile's own."""
        costs = self.scenario(group).costs
        shares = (costs.profile.contention, costs.profile.interference)
        return Constants(costs.host, *(round(share * MILLION) for share in shares))

    def steps(self, cell: Cell, constants: Constants) -> Steps:
        """The steps of a cell with other constants than the profile's; one repeat."""
        result, decisions, durations, own = self.run(cell)
        longer = constants.contention / self.constants(cell.group).contention
        copy = packed(np.round(np.array(durations.copy) * longer))
        slows = constants.interference / MILLION
        changed = durations._replace(host=constants.host, copy=copy, interference=slows)
        timing = self.scenario(cell.group).time(decisions, changed)
        layers = decisions.num_layers
        latency = timing.step_end - timing.begin[::layers]
        computed = result.table["compute_ns"] - own.slowed + timing.slowed
        compute, stall = (_by_step(column, layers) for column in (computed, timing.stall))
        return Steps(latency[None], compute, stall, hash_of_decisions(result.table))

    def all_steps(self, cells: Iterable[Cell], constants: Constants) -> dict[Cell, Steps]:
        """The steps of some cells: what `calibrate.fit` asks for."""
        return {cell: self.steps(cell, constants) for cell in cells}


def _by_step(column: Times, layers: int) -> Times:
    """Sums over the layers, [1, steps]."""
    sums: Times = column.reshape(1, -1, layers).sum(axis=2)
    return sums
