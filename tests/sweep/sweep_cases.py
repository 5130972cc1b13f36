"""Cells for tests, and what `Scenario` says of one: the reference for its row."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from specmoe.sim.config import RoutingKey, RunConfig
from specmoe.sim.routing import Routing
from specmoe.sim.run import Scenario
from specmoe.summary import summary

LINK = "host_to_device.pinned.bandwidth"
TRACE = "switch-mini-128/decode/test"
BASE = RunConfig(TRACE, "on-demand-lru", "rtx3090", format="fp16", slots=60, steps=40)


def cell(policy: str = "on-demand-lru", settings: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    """`BASE`, changed."""
    return dataclasses.replace(BASE, policy=policy, settings=tuple((settings or {}).items()), **changes)


@cache
def scenario_of(one: RunConfig) -> Scenario:
    """Of all but the policy, prepared by itself, but for what was routed."""
    return Scenario(one, routing=routing_of(one.routing))


@cache
def routing_of(key: RoutingKey) -> Routing:
    """What cells of one workload share."""
    return Routing(*key)


def expected(one: RunConfig) -> dict[str, Any]:
    """The summary of a run under the names of a row, with what only the manifest tells."""
    result = scenario_of(dataclasses.replace(one, policy="")).run(one.policy).result
    return summary(result)
