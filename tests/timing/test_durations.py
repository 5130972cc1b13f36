"""What a run's durations are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from timing_cases import table_of
from tiny_routed import tiny_routed

from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.kernels import Style
from specmoe.hwprofiles.what_if import with_values
from specmoe.sim.config import Home
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.speculate.predictor import Routed, no_predictions
from specmoe.sim.timing.durations import contexts, durations_of


def costs_of(shape: str = "switch-base-8", held: Any = None, **fields: Any) -> Costs:
    known = load_shape(shape)
    return Costs(load_profile("rtx3090"), known, held or known.format, **fields)


def on_demand(routed: Routed, slots: int = 8) -> DecisionTable:
    workload = routed.workload
    return decide(workload, no_predictions(workload.num_events), POLICIES["on-demand-lru"], slots)


@pytest.mark.parametrize("batch", [1, 4])
def test_every_duration_is_what_the_costs_say(batch: int) -> None:
    routed = tiny_routed(20, batch=batch, num_layers=3, num_experts=8)
    table, costs, workload = on_demand(routed), costs_of(), routed.workload
    found = durations_of(workload, table, costs, Home(), [33] * workload.num_steps)
    step_tokens = workload.step_tokens.tolist()
    assert found.before == [
        costs.dense_ns("decode", tokens, 64, layer) + costs.router_ns(tokens)
        for tokens in step_tokens
        for layer in range(3)
    ]
    assert list(found.expert) == [costs.expert_ns(tokens) for tokens in table.uses.tokens.tolist()]
    assert found.after == [costs.head_ns("decode", tokens) for tokens in step_tokens]
    assert list(found.copy) == [costs.load_ns("host-pinned")] * len(table.loads.key)
    assert (found.read, found.host, found.sync_each_layer) == (0, costs.host, False)


def test_more_layers_than_the_shape_has_cost_what_its_last_one_does() -> None:
    routed = tiny_routed(3, num_layers=9, num_experts=8)
    workload, costs = routed.workload, costs_of()
    before = durations_of(workload, on_demand(routed, 9), costs, Home(), [1] * workload.num_steps).before
    last = costs.shape.stack("decode").moe_layers - 1
    assert before[:9] == [*before[:last], *[before[last]] * (9 - last)]


def test_compressed_experts_are_expanded_before_use() -> None:
    routed = tiny_routed(3, num_experts=8)
    costs = costs_of(held="int8", style=Style("expand", "separate"))
    found = durations_of(routed.workload, on_demand(routed), costs, Home(), [1] * routed.workload.num_steps)
    assert costs.dequantise_ns() > 0
    assert set(found.expert) == {costs.expert_ns(1) + costs.dequantise_ns()}
    assert found.copy[0] < costs_of(held="fp16").load_ns("host-pinned")


def test_tiers() -> None:
    routed = tiny_routed(3, num_experts=8)
    table, steps = on_demand(routed), [1] * routed.workload.num_steps
    both = ("host-pinned", "host-pageable", "nvme")
    costs = costs_of(moves=both)
    found = {tier: durations_of(routed.workload, table, costs, Home(tier), steps) for tier in both}
    assert {tier: (part.copy[0], part.read) for tier, part in found.items()} == {
        "host-pinned": (costs.load_ns("host-pinned"), 0),
        "host-pageable": (costs.load_ns("host-pageable"), 0),
        "nvme": (costs.load_ns("host-pinned"), costs.load_ns("nvme")),
    }


def test_by_hand_loads_from_compressed_slots_cross_no_link_and_are_expanded() -> None:
    routed = tiny_routed(40, num_experts=8)
    costs, steps = costs_of(also_held=("int4",)), [1] * routed.workload.num_steps
    table = on_demand(routed)
    from_host = durations_of(routed.workload, table, costs, Home(format="int4"), steps)
    tiered = durations_of(routed.workload, table, costs, Home(format="int4", compressed_slots=10**6), steps)
    keys = table.loads.key.tolist()
    again = [key in keys[:row] for row, key in enumerate(keys)]
    assert set(from_host.copy) == {costs.load_ns("host-pinned", "int4")}
    assert [copy == 0 for copy in tiered.copy] == again
    assert any(again)
    assert tiered.expert == from_host.expert
    expanded = costs.expert_ns(1) + costs.dequantise_ns("int4")
    assert from_host.expert.count(expanded) == len(keys)  # the first use of every load, and no other
    assert set(from_host.expert) == {expanded, costs.expert_ns(1)}


def test_contexts_of_decoding_are_mean_positions_and_no_less_than_the_encoder() -> None:
    routed = tiny_routed(6, batch=2, mean_length=10**6, num_layers=1)
    position = np.array([0, 1, 2, 0, 1, 2])
    sequence = np.array([0, 0, 0, 1, 1, 1])
    from specmoe.traces.workload import build

    block = routed.block._replace(position=position.astype(np.int32), sequence=sequence.astype(np.int32))
    workload = build(block, routed.workload.meta, 2)
    assert contexts(workload, block.position, 1) == [1, 2, 3]
    assert contexts(workload, np.array([0, 1, 2, 5, 6, 7]), 1) == [4, 5, 6]  # 1 and 6 are 3.5
    assert contexts(workload, block.position, 3) == [3, 3, 3]


def test_contexts_of_encoding_are_whole_sequences() -> None:
    routed = tiny_routed(9, batch=1, mean_length=3, seed=4, phase="encode", num_layers=1)
    lengths = np.bincount(routed.block.sequence).tolist()
    assert len(lengths) > 1
    assert contexts(routed.workload, routed.block.position, 1) == lengths


@pytest.mark.parametrize("launch", ["separate", "grouped"])
def test_kernels_of_centuries_are_refused(launch: Any) -> None:
    routed = tiny_routed(3, num_experts=8)
    endless = with_values(load_profile("rtx3090"), {"device.memory_bandwidth": 1e-10})
    costs = Costs(endless, load_shape("switch-base-8"), "fp16", style=Style("fused", launch))
    with pytest.raises(InputError, match=r"^durations: .* ns in all: at most 4.61e\+18 \(146 years\) expected$"):
        durations_of(routed.workload, on_demand(routed), costs, Home(), [1] * routed.workload.num_steps)


def test_a_table_without_uses_or_loads() -> None:
    routed = tiny_routed(1, num_layers=1, num_experts=8)
    empty = table_of([], [], steps=1, layers=1, slots=1)
    found = durations_of(routed.workload, empty, costs_of(), Home(), [1])
    assert (list(found.expert), list(found.copy)) == ([], [])
