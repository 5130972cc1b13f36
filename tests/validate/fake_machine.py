"""A machine without a GPU: a fake device that takes as long as the simulator says of the sizes that it is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fake_device import FakeCosts, FakeDevice, Vary, exact

from specmoe.hwprofiles.catalogue import load_profile
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.decide.table import CPU
from specmoe.sim.run import Scenario
from specmoe.sim.timing.cpu_lane import NO_CPU, CpuCosts
from specmoe.validate.fit import Constants, Traces
from specmoe.validate.replayer import Dense, Device, Work
from specmoe.validate.validation import Machine

TRACES: Traces = {phase: f"switch-mini-128/{phase}/test" for phase in ("decode", "encode")}
NAME = "a fake device"
GRID = """
[[group]]
shape = "switch-base-128"
phase = "decode"
format = "fp16"
batch = 4
steps = 6
cells.gpu-only = [768]
cells.on-demand = [40]
cells.on-demand-lru = [40, 80]
cells.lookahead = [80]
cells.transition = [80]
cells.oracle = [80]
fit.gpu-only = [768]
fit.on-demand = [40]
fit.lookahead = [80]

[[group]]
shape = "switch-base-128"
phase = "decode"
format = "fp16"
home_format = "int8"
batch = 1
steps = 8
cells.on-demand-lru = [40]
cells.lookahead = [40]
cells.pregated = [40]
fit.pregated = [40]

[[group]]
shape = "switch-base-128"
phase = "encode"
format = "fp16"
batch = 1
steps = 2
cells.on-demand-lru = [16]
"""


def machine_profile(**costs: float) -> HardwareProfile:
    """The RTX 3090's, as if it had been measured on the fake device; costs of the host, ns, may be told."""
    bare = dataclasses.replace(load_profile("rtx3090"), name="fake", machine={"device": NAME})
    return bare.with_calibrated({f"host.graph.{name}": value for name, value in (HOST | costs).items()}, "made up")


HOST = {
    "launch": 10_000,
    "launch_dense": 10_000,
    "issue": 40_000,
    "event": 5_000,
    "sync": 25_000,
    "bookkeeping": 20_000,
}


def grid_file(directory: Path, text: str = GRID) -> Path:
    path = directory / "small.toml"
    path.write_text(text)
    return path


def prices(scenario: Scenario, constants: Constants | None = None) -> Callable[[Work], FakeCosts]:
    """What a work of the scenario takes, from its sizes alone; the profile's own constants unless told."""
    own, phase, home = scenario.costs, scenario.trace.meta.phase, scenario.config.home.format
    told = {} if constants is None else constants.values()
    costs = dataclasses.replace(own, profile=own.profile.with_calibrated(told, "made up"))
    expansion = costs.dequantise_ns(home) if home not in (None, scenario.format) else 0

    def priced(work: Work) -> FakeCosts:
        used = [costs.use_ns(n) + expansion * first for n, first in zip(work.tokens, work.expands, strict=True)]
        on_cpu = np.flatnonzero(work.table.uses.where == CPU).tolist()
        if on_cpu:
            cpu = scenario.costs_on_cpu.cpu
            assert cpu
            for use in on_cpu:
                used[use] = cpu.expert_ns(int(work.table.uses.tokens[use]))
        return FakeCosts(
            costs.host,
            [_before(costs, phase, dense) for dense in work.dense],
            used,
            [costs.head_ns(phase, tokens) for tokens in work.heads],
            [costs.load_ns("host-pinned", home)] * len(work.table.loads.key),
            *_of_cpu(costs, work, bool(on_cpu)),
        )

    return priced


def _of_cpu(costs: Costs, work: Work, computes: bool) -> tuple[CpuCosts, list[int], list[int]]:
    """Hand-over and small copies; the fake's copies and experts on the CPU never slow each other."""
    if not computes:
        return NO_CPU, [], []
    to_host, to_device = zip(*map(costs.hidden_ns, work.heads), strict=True)
    names = ("cpu.start", "cpu.join", "device.kernel_floor")
    return CpuCosts(*(costs.profile.ns(name) for name in names)), list(to_host), list(to_device)


def _before(costs: Costs, phase: Any, dense: Dense) -> int:
    more = (dense.routers - 1) * costs.router_ns(dense.tokens, phase)
    return costs.before_ns(phase, dense.tokens, dense.context, dense.layer) + more


def fake_machine(vary: Vary = exact, constants: Constants | None = None) -> Machine:
    """As `this_machine` gives a real one."""

    def make(scenario: Scenario, slots: int) -> Device:
        return FakeDevice(prices(scenario, constants), vary)

    return Machine(make, {"device": NAME})


def unsteady_machine(*factors: float) -> Machine:
    """One run after the other, all takes so many times as long; again from the first after the last."""

    class Unsteady(FakeDevice):
        runs = 0

        def begin(self, traced: bool) -> None:
            factor = factors[self.runs % len(factors)]
            self._vary = lambda ns: round(ns * factor)
            self.runs += 1
            super().begin(traced)

    return Machine(lambda scenario, _: Unsteady(prices(scenario)), {"device": NAME})
