"""Contract of every policy that can be asked online: a stream's decisions equal the table of its recorded trace."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from specmoe.errors import InputError
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.policy import POLICIES, policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.speculate.predictor import Predictor, Routed
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.sim.stream import Stream, online_names
from specmoe.traces.schema import Block, Phase, TraceMeta, select
from specmoe.traces.workload import Workload, build
from tests.learned.learned_cases import drawn_network
from tests.random_traces import META, random_block

SLOTS = 18  # six for each layer, more than a step of three tokens needs
POPULARITY = np.arange(META.num_layers * META.num_experts)[::-1].copy()
RATES = {"copy_ns": 9.0, "cpu_ns": 4.0, "both_ns": 6.0, "gpu_ns": 1.0}


def arranged(name: str) -> dict[str, object]:
    """Overrides that a policy needs without a machine."""
    needs = {"freetoken": ("copy_ns", "cpu_ns"), "law-split": ("copy_ns", "cpu_ns", "both_ns")}
    needs["hybrimoe"] = ("copy_ns", "cpu_ns", "gpu_ns")
    return {f"miss.{rate}": RATES[rate] for rate in needs.get(name, ())}


def fitted(name: str, meta: TraceMeta, home: Path) -> Predictor:
    """The predictor of a policy, which learnt another trace."""
    chosen = POLICIES[name]
    keywords: dict[str, object] = {"depth": chosen.prefetch.depth} if chosen.prefetch else {}
    if chosen.predictor.startswith("learned-"):
        pytest.importorskip("torch")
        keywords["checkpoint"] = str(drawn_network(chosen.predictor.removeprefix("learned-"), meta, home))
    predictor = make_predictor(chosen.predictor, keywords)
    block = random_block(50, meta, seed=9)
    predictor.fit(Routed(build(block, meta), block))
    return predictor


def masked(block: Block, layer: int) -> Block:
    """What is known of a step once a layer has routed."""
    experts, probs, lookahead = block.experts.copy(), block.probs.copy(), block.lookahead.copy()
    experts[:, layer + 1 :], probs[:, layer + 1 :], lookahead[:, layer + 1 :] = -1, np.nan, -1
    return block._replace(experts=experts, probs=probs, lookahead=lookahead)


def streamed(stream: Stream, workload: Workload, block: Block) -> DecisionTable:
    """Decisions of a stream that shows each step layer by layer."""
    for step in range(workload.num_steps):
        rows = workload.rows[workload.row_offsets[step] : workload.row_offsets[step + 1]]
        for layer in range(workload.meta.num_layers):
            stream.event(masked(select(block, rows), layer))
    return stream.table()


def same(online: DecisionTable, offline: DecisionTable, depth: int) -> bool:
    """Whether tables agree, row by row, but for prefetches for a step after the last."""
    last = offline.num_steps * offline.num_layers - depth
    kept = [table.loads.event < last for table in (online, offline)]
    loads = [[column[mask] for column in t.loads] for t, mask in zip((online, offline), kept, strict=True)]
    pairs = [*zip(online.uses, offline.uses, strict=True), *zip(*loads, strict=True)]
    return all(np.array_equal(left, right) for left, right in pairs) and online.slots == offline.slots


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("phase", ["decode", "encode"])
@pytest.mark.parametrize("name", online_names())
def test_online_decisions_are_those_of_the_recorded_trace(name: str, phase: Phase, batch: int, tmp_path: Path) -> None:
    meta = replace(META, phase=phase)
    block = random_block(24 if name.startswith("learned-") else 60, meta, seed=1)
    workload, chosen = build(block, meta, batch), policy(name, arranged(name))
    slots = SLOTS if name not in ("n-cpu-moe", "llama-fit") else 20
    predictor = fitted(name, meta, tmp_path)
    context = Context(slots, workload, lambda: POPULARITY)
    offline = decide(workload, predictor.predict(Routed(workload, block)), chosen, slots, context)
    online = streamed(Stream(meta, chosen, predictor, slots, POPULARITY), workload, block)
    assert same(online, offline, chosen.prefetch.depth if chosen.prefetch else 1)


def test_most_policies_can_be_asked_online() -> None:
    names = online_names()
    assert {"gpu-only", "on-demand-lru", "lookahead", "frequency", "adaptive", "moe-infinity", "lru-cpu"} <= set(names)
    assert not {"oracle", "belady", "pregated", "noisy-oracle", "hobbit"} & set(names)


def test_a_policy_that_peeks_is_refused_and_others_are_named() -> None:
    with pytest.raises(InputError, match=r"policy oracle: it cannot be asked online: .*lookahead"):
        Stream(META, policy("oracle"), make_predictor("oracle"), SLOTS)


def test_a_stream_tells_the_rows_that_each_event_adds() -> None:
    stream = Stream(META, policy("on-demand-lru"), make_predictor("none"), SLOTS)
    block = select(random_block(1, META), slice(0, 1))
    first = stream.event(masked(block, 0))
    assert [use.key for use in first.uses] == sorted(block.experts[0, 0, : META.top_k].tolist())
    assert [load.row for load in first.loads] == [0, 1]
    assert [load.slot for load in first.loads] == [use.slot for use in first.uses]
    second = stream.event(masked(block, 1))
    assert [load.row for load in second.loads] == [2, 3]
