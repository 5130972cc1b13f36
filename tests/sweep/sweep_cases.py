"""Cells for tests, and what `Scenario` says of one: the reference for its row."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from specmoe.hwprofiles.catalogue import load_profile
from specmoe.hwprofiles.what_if import scaled
from specmoe.results import summary
from specmoe.sim.routing import Routing
from specmoe.sim.run import RunSpec, Scenario
from specmoe.sim.sweep.cell import Cell, RoutingKey

LINK = "host_to_device.pinned.bandwidth"
TRACE = "switch-mini-128/decode/test"
BASE = Cell(TRACE, "on-demand-lru", "rtx3090", format="fp16", slots=60, steps=40)


def cell(policy: str = "on-demand-lru", settings: dict[str, Any] | None = None, **changes: Any) -> Cell:
    """`BASE`, changed."""
    return dataclasses.replace(BASE, policy=policy, settings=tuple((settings or {}).items()), **changes)


def spec_of(one: Cell) -> RunSpec:
    """What a cell stands for."""
    shared = {f.name: getattr(one, f.name) for f in dataclasses.fields(RunSpec) if hasattr(one, f.name)}
    profile = scaled(load_profile(one.profile), dict(one.scales))
    return RunSpec(**shared | {"profile": profile, "overrides": dict(one.settings)})


@cache
def scenario_of(one: Cell) -> Scenario:
    """Of all but the policy, prepared by itself, but for what was routed."""
    return Scenario(spec_of(one), routing_of(one.routing))


@cache
def routing_of(key: RoutingKey) -> Routing:
    """What cells of one workload share."""
    return Routing(*key)


def expected(one: Cell) -> dict[str, Any]:
    """The summary of a run under the names of a row, with what only the manifest tells."""
    result = scenario_of(dataclasses.replace(one, policy="")).run(one.policy).result
    found = summary(result)
    flat = {**found, **{f"latency_{name}_ns": value for name, value in found["latency_ns"].items()}, **found["bounds"]}
    manifest = result.manifest
    flat |= {"num_layers": manifest.num_layers, "expert_bytes": manifest.expert_bytes}
    flat |= {"assumed": list(manifest.assumed), "warnings": list(manifest.warnings)}
    flat |= {"link": manifest.parameters["link"], "host": manifest.parameters["host"]}
    flat |= {"tier": manifest.parameters["tier"], "home_format": manifest.parameters["home_format"] or ""}
    return flat | {"compressed_slots": manifest.parameters["compressed_slots"]}
