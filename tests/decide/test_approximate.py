"""Approximate miss rules: the routers' weights they go by, what they change, and that it is all counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from decide_cases import policy_of
from random_traces import META, random_block

from specmoe.errors import InputError
from specmoe.sim.claims import about_changes
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import MILLION, Context, gate_of
from specmoe.sim.decide.policy import POLICIES, policy
from specmoe.sim.decide.table import CPU, DEFERRED, DROPPED, EXACT, LOW, NOWHERE, DecisionTable
from specmoe.sim.event_table import decision_columns
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.predictor import no_predictions
from specmoe.traces import Block
from specmoe.traces.workload import Workload, build

APPROXIMATE = [name for name, row in POLICIES.items() if row.approximate]
every_policy = pytest.mark.parametrize("name", APPROXIMATE)
ONE_LAYER = dataclasses.replace(META, num_layers=1, top_k=3, candidates=3, num_experts=6)


def block_of(tokens: Sequence[dict[int, float]]) -> Block:
    """Tokens of one sequence each, with the probabilities of the experts they use."""
    block = random_block(len(tokens), ONE_LAYER)
    experts = np.array([list(token) for token in tokens], np.int16)[:, None]
    probs = np.array([list(token.values()) for token in tokens], np.float16)[:, None]
    return block._replace(
        sequence=np.arange(len(tokens), dtype=np.int32),
        position=np.zeros(len(tokens), np.int32),
        experts=experts,
        probs=probs,
    )


ALONE = block_of([{4: 0.375, 0: 0.0625, 2: 0.0625}])  # of 1: 0.75, 0.125, 0.125
TOGETHER = block_of([{4: 0.375, 0: 0.0625, 2: 0.0625}, {0: 0.5, 5: 0.25, 4: 0.25}])


def decided(block: Block, miss: str, slots: int = 3, steps: int = 1) -> tuple[Workload, DecisionTable]:
    workload = build(block, ONE_LAYER, len(block.token) // steps)
    context = Context(slots, workload, weigh=lambda: gate_of(workload, block))
    return workload, decide(workload, no_predictions(steps), policy_of(miss=miss), slots, context)


def test_weights_of_one_token_by_hand() -> None:
    gate = gate_of(build(ALONE, ONE_LAYER), ALONE)
    assert gate.before.tolist() == [0.75, 0.875, 0]  # experts 0, 2 and 4
    assert gate.after.tolist() == [1, 0, 2]
    assert gate.mass.tolist() == [125_000, 125_000, 750_000]


def test_an_expert_of_several_tokens_is_as_important_as_to_the_one_that_needs_it_most() -> None:
    gate = gate_of(build(TOGETHER, ONE_LAYER, batch=2), TOGETHER)
    assert gate.before.tolist() == [0, 0.875, 0, 0.5]  # experts 0, 2, 4 and 5
    assert gate.after.tolist() == [2, 0, 2, 1]
    assert gate.mass.tolist() == [625_000, 125_000, 1_000_000, 250_000]
    assert gate.mass.sum() == 2 * MILLION


def test_hobbit_by_hand() -> None:
    """Before expert 0 stands a weight of 0.75 and before expert 2 one of 0.875: few bits, up to 0.9."""
    _, table = decided(ALONE, "hobbit")
    assert table.changes is not None
    assert table.uses.key.tolist() == [0, 2, 4]
    assert table.changes.kind.tolist() == [LOW, LOW, EXACT]
    assert (table.demand_loads, table.low_uses, table.dropped_uses, table.changed_mass) == (3, 2, 0, 250_000)


def test_hobbit_drops_what_little_weight_is_left_for() -> None:
    block = block_of([{4: 0.9375, 0: 0.03125, 2: 0.03125}])
    workload, table = decided(block, "hobbit")
    assert table.uses.key.tolist() == [0, 2, 4]
    assert table.uses.where.tolist() == [NOWHERE, NOWHERE, 0]
    assert table.changes is not None and table.changes.kind.tolist() == [DROPPED, DROPPED, EXACT]
    assert (table.demand_loads, table.dropped_uses, table.changed_mass) == (1, 2, 62_500)
    columns = decision_columns(workload, table)
    assert [columns[name].tolist() for name in ("dropped_uses", "low_uses", "changed_mass")] == [[2], [0], [62_500]]
    assert list(about_changes(table)) == [
        "approximate: of the uses are 66.7% dropped, with 6.2% of the routers' weight"
    ]


def test_a_copy_of_few_bits_is_given_up_after_its_event_and_a_resident_expert_is_exact() -> None:
    twice = block_of([{4: 0.375, 0: 0.0625, 2: 0.0625}] * 2)
    twice = twice._replace(sequence=np.zeros(2, np.int32), position=np.arange(2, dtype=np.int32))
    _, table = decided(twice, "hobbit", steps=2)
    assert table.changes is not None
    assert table.uses.hit.tolist() == [False, False, False, False, False, True]
    assert table.changes.kind.tolist() == [LOW, LOW, EXACT] * 2
    assert table.loads.evicted.tolist() == [-1] * 5


def test_deferral_by_hand() -> None:
    _, table = decided(TOGETHER, "defer:1")
    assert table.changes is not None
    assert table.uses.key.tolist() == [0, 2, 4, 5] and (table.uses.where == CPU).all()
    assert table.changes.kind.tolist() == [EXACT, DEFERRED, EXACT, EXACT]  # 4 is last of a token, and first of another
    assert (table.deferred_uses, table.changed_mass, table.cpu_uses) == (1, 125_000, 4)
    assert decided(TOGETHER, "defer:3")[1].deferred_uses == 4
    assert decided(TOGETHER, "defer:0")[1].changes is None


def test_changes_since_a_step() -> None:
    twice = TOGETHER._replace(sequence=np.zeros(2, np.int32), position=np.arange(2, dtype=np.int32))
    _, table = decided(twice, "defer:1", steps=2)
    later = table.since(1)
    assert (table.deferred_uses, later.deferred_uses) == (2, 1)
    assert later.changed_mass == 250_000


@every_policy
def test_every_demand_is_counted_once(name: str, make_trace: Callable[..., Path]) -> None:
    settings = (("miss.t1", 0.5),) if name == "hobbit" else ()  # experts of random routing weigh much the same
    scenario = Scenario(RunConfig(str(make_trace(n=200)), slots=9, batch=2, settings=settings))
    workload = scenario.routed.workload
    table = scenario.routing.decide(scenario.policy(name), 9)
    assert table.changes is not None and table.changes.kind.any()
    assert table.hits + table.demand_loads + table.cpu_uses + table.dropped_uses == len(table.uses.key)
    assert ((table.changes.kind == DROPPED) == (table.uses.where == NOWHERE)).all()
    weight = MILLION * workload.step_tokens.sum() * workload.meta.num_layers
    assert abs(table.changes.mass.sum() - weight) < len(table.uses.key)
    with pytest.raises(InputError, match=f"policy {name}: approximate: .*not timed yet"):
        scenario.run(name)


@every_policy
def test_without_router_probabilities_there_is_nothing_to_go_by(name: str, make_trace: Callable[..., Path]) -> None:
    scenario = Scenario(RunConfig(str(make_trace(has_probs=False)), slots=9))
    with pytest.raises(InputError, match="router probabilities, which this trace lacks"):
        scenario.run(name)


def test_of_one_expert_a_token_none_is_changed_by_hobbit() -> None:
    scenario = Scenario(RunConfig("switch-mini-128/decode/test", steps=5, slots=40))
    table, plain = (scenario.decide(policy(name), 40) for name in ("hobbit", "on-demand-lru"))
    assert table.changes is None
    for column, same in zip((*table.uses, *table.loads), (*plain.uses, *plain.loads), strict=True):
        assert column.tolist() == same.tolist()


def test_thresholds_in_the_wrong_order_are_named() -> None:
    scenario = Scenario(RunConfig("switch-mini-128/decode/test", steps=5, slots=40, settings=(("miss.t1", 0.95),)))
    with pytest.raises(InputError, match=r"miss.t1=0.95 and miss.t2=0.9: t1 of at most t2 expected"):
        scenario.decide(scenario.policy("hobbit"), 40)
