"""What the replayer is given: sizes as the simulator prices them, and a refusal of what it has no counterpart of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_machine import TRACES, prices
from timing_cases import table_of

from specmoe.errors import InputError
from specmoe.hwprofiles.kernels import USUAL
from specmoe.hwprofiles.launches import padded, whole_context
from specmoe.sim.config import AT_HOME, RunConfig
from specmoe.sim.run import Scenario
from specmoe.validate.replayer import Work, first_uses, work_of

INT8 = AT_HOME._replace(format="int8")


@cache
def scenario(phase: Any = "decode", batch: int = 3, steps: int = 4, **changes: Any) -> Scenario:
    spec = RunConfig(TRACES[phase], format="fp16", slots=40, batch=batch, steps=steps, padded=True, style=USUAL)
    return Scenario(dataclasses.replace(spec, **changes))


def work(name: str, of: Scenario) -> Work:
    chosen = of.policy(name)
    return work_of(of, chosen, of.decide(chosen, of.slots))


def depth(deep: int) -> Scenario:
    return Scenario(dataclasses.replace(scenario().config, settings=(("prefetch.depth", deep),)))


def test_sizes_of_dense_parts_and_heads() -> None:
    """Three sequences decode, so kernels are for four; a context is that of the step, in whole steps."""
    found = work("on-demand-lru", scenario())
    assert [dense.layer for dense in found.dense] == [*range(6)] * 4
    assert {dense.tokens for dense in found.dense} == {4}
    assert found.heads == [4] * 4
    assert [dense.context for dense in found.dense[::6]] == [whole_context(n) for n in scenario().contexts]
    assert all(
        found.dense[6 * step + layer].context == found.dense[6 * step].context
        for step in range(4)
        for layer in range(6)
    )
    assert {dense.routers for dense in found.dense} == {1}


def test_contexts_grow_in_whole_steps(make_trace: Callable[..., Path]) -> None:
    """Of a model that attends to what was decoded only."""
    path = str(make_trace(60, num_layers=2, num_experts=8))
    of = Scenario(RunConfig(path, shape="mixtral-8x7b", format="fp16", slots=8, steps=3, padded=True))
    assert max(of.contexts) < 32
    assert {dense.context for dense in work("on-demand-lru", of).dense} == {32}


def test_sizes_of_experts() -> None:
    found = work("on-demand-lru", scenario("encode", 1, 2))
    assert found.tokens == padded(found.table.uses.tokens).tolist()
    assert max(found.tokens) > 2
    tokens = scenario("encode", 1, 2).routed.workload.step_tokens
    assert [dense.tokens for dense in found.dense[::6]] == found.heads == padded(tokens).tolist()


@pytest.mark.parametrize(
    ("deep", "routers"),
    [(1, [2, 2, 2, 2, 2, 1]), (2, [3, 3, 3, 3, 2, 1]), (3, [4, 4, 4, 3, 2, 1])],
)
def test_routers_of_look_ahead_end_at_the_last_layer(deep: int, routers: list[int]) -> None:
    found = work("lookahead", depth(deep))
    assert [dense.routers for dense in found.dense] == routers * 4


@pytest.mark.parametrize("name", ["transition", "pregated", "oracle", "gpu-only"])
def test_others_have_their_own_router_only(name: str) -> None:
    assert {dense.routers for dense in work(name, scenario()).dense} == {1}


def test_predictions_of_the_host() -> None:
    """They are charged to the host thread; what is free, or runs on the device, is not."""
    found = work("transition", scenario())
    assert found.predict == scenario().charge(scenario().policy("transition")).ns
    assert len(found.predict) == 24 and min(found.predict) > 0
    for name in ("lookahead", "pregated", "oracle", "on-demand-lru"):
        assert not any(work(name, scenario()).predict), name


def test_a_host_that_predicts_has_a_round_more() -> None:
    for name, rounds in (("frequency", 2), ("transition", 2), ("oracle", 1)):  # before the launch, behind it, never
        assert list(work(name, scenario()).program.rounds)[-1] == rounds * 24, name


def test_first_uses_by_hand() -> None:
    loads = [(0, 1, 0, True, 0), (0, 2, 1, False, 0), (0, 9, 2, False, 0)]
    uses = [(0, 1, 1, 0, 0, False, 0), (1, 5, 1, 3, -1, True, 0), (2, 1, 1, 0, 0, True, 0), (3, 2, 1, 1, 1, True, 0)]
    table = table_of(loads, uses, steps=4, layers=1, slots=4)
    assert first_uses(table).tolist() == [True, False, False, True]


def test_nothing_is_used_for_the_first_time_where_all_is_there() -> None:
    table = table_of([], [(0, 1, 1, 0, -1, True, 0)], steps=1, layers=1, slots=4)
    assert first_uses(table).tolist() == [False]


def test_what_comes_compressed_is_expanded_once_for_each_load_that_is_used() -> None:
    found = work("on-demand-lru", scenario(home=INT8))
    uses = found.table.uses
    assert sum(found.expands) == len(np.unique(uses.load[uses.load >= 0])) == len(found.table.loads.key)
    assert not any(expands for expands, load in zip(found.expands, uses.load.tolist(), strict=True) if load < 0)
    assert not any(work("gpu-only", scenario(home=INT8)).expands)


@pytest.mark.parametrize("changes", [{}, {"home": AT_HOME._replace(format="fp16")}, {"format": "int8"}])
def test_what_comes_as_it_is_held_is_not_expanded_on_arrival(changes: dict[str, Any]) -> None:
    assert not any(work("on-demand-lru", scenario(**changes)).expands)


@pytest.mark.parametrize("home", [AT_HOME, INT8])
@pytest.mark.parametrize("phase", ["decode", "encode"])
@pytest.mark.parametrize(
    "name", ["gpu-only", "on-demand", "on-demand-lru", "lookahead", "frequency", "transition", "oracle"]
)
def test_a_work_is_of_the_sizes_that_the_simulator_prices(name: str, phase: str, home: Any) -> None:
    """Another route to the same durations: from sizes, each by itself."""
    of = scenario(phase, 4 if phase == "decode" else 1, 2, home=home)
    run = of.run(name)
    found = prices(of)(work_of(of, of.policy(name), run.decisions))
    assert list(found.expert) == list(run.durations.expert)
    assert list(found.head) == list(run.durations.after)
    assert list(found.copy) == list(run.durations.copy)
    assert found.host == run.durations.host
    assert list(found.dense) == list(run.durations.before)


REFUSED = [
    ({"link": "priority"}, "link order priority cannot be replayed: fifo expected"),
    ({"link": "chunked"}, "link order chunked cannot be replayed: fifo expected"),
    ({"home": AT_HOME._replace(tier="nvme")}, "experts in nvme cannot be replayed: host-pinned expected"),
    ({"home": AT_HOME._replace(tier="host-pageable")}, "experts in host-pageable cannot be replayed"),
    ({"home": INT8._replace(compressed_slots=3)}, "compressed slots in VRAM cannot be replayed"),
    ({"home": INT8, "format": "bf16"}, "int8 at home is expanded to fp16: --format fp16 expected"),
    ({"home": INT8, "format": "fp32"}, "int8 at home is expanded to fp16: --format fp16 expected"),
    ({"host_set": "eager"}, "host costs eager cannot be replayed: the replayer captures graphs: graph expected"),
]


@pytest.mark.parametrize(("changes", "complaint"), REFUSED)
def test_what_cannot_be_replayed(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        work("on-demand-lru", scenario(**changes))


def test_a_network_on_the_device_is_not_replayed() -> None:
    of = Scenario(dataclasses.replace(scenario().config, settings=(("predictor.device", "cuda"),)))
    chosen = of.policy("transition")
    table = of.decide(scenario().policy("transition"), 40)
    with pytest.raises(InputError, match="transition: a network on the device is not replayed: predictor"):
        work_of(of, chosen, table)


def test_a_random_trace_is_replayable(make_trace: Callable[..., Path]) -> None:
    """Layers beyond the shape's are priced as its last and keep their own number."""
    path = make_trace(30, num_layers=8)
    spec = RunConfig(str(path), shape="switch-base-128", format="fp16", slots=30, steps=3, padded=True)
    of = Scenario(dataclasses.replace(spec, truncated=True))
    run = of.run("on-demand-lru")
    found = work_of(of, of.policy("on-demand-lru"), run.decisions)
    assert [dense.layer for dense in found.dense[:8]] == [*range(8)]
