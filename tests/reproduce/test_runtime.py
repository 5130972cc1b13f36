"""The authors' runtime, worked out on paper with round numbers, and the routing that is put through it."""

from __future__ import annotations

import numpy as np
import pytest

from specmoe.hwprofiles import load_profile, load_shape
from specmoe.sim.reproduce.isca24 import PROFILE, Runtime, costs_of, every_expert, forced, uniform

SHAPE = load_shape("switch-base-8")  # 6 MoE layers
US = 1000
HUGE = 1e30  # a rate at which nothing takes time

# us: attention 100 (as a dense layer), router 10, round trip 15, bookkeeping and one launch 3 + 6, issue 1, hand-over
# 2, two copies of 4, experts in two products of 25. From a block's end, the host's wait of 15, a launch of 5 and a
# dense layer of 100 bring the next one.
PAPER = {
    "dense.layer_floor": 100 * US,
    "router.floor": 10 * US,
    "device.kernel_floor": 25 * US,
    "device.memory_bandwidth": HUGE,
    "gemm.fp32.rate": HUGE,
    "device_copy.latency": 4 * US,
    "device_copy.bandwidth": HUGE,
    "host_to_device.pinned.bandwidth": HUGE,
    "host.eager.launch": 6 * US,
    "host.eager.launch_dense": 5 * US,
    "host.eager.issue": 1 * US,
    "host.eager.event": 2 * US,
    "host.eager.sync": 15 * US,
    "host.eager.bookkeeping": 3 * US,
}
HIDDEN = [495, 193, 193, 193, 193, 192]
EXPOSED = [595, 280, 280, 280, 280, 280]


def runtime(load_us: int) -> Runtime:
    values = PAPER | {"host_to_device.pinned.latency": load_us * US}
    return Runtime(costs_of(SHAPE, load_profile(PROFILE).with_overrides(values)))


@pytest.mark.parametrize(
    ("method", "load_us", "blocks_us"),
    [
        # 100 + 10 + 15 + 9, then the experts' 50.
        ("gpu-only", 300, [184] * 6),
        # 134 + issue 1 + load 300 + hand-over 2 + copies 8 + experts 50.
        ("on-demand", 300, [495] * 6),
        # First as on demand, until 495; its fetch ahead follows its own on the link, 435 .. 735. The second block
        # starts at 615 and wants its expert at 749: 134 + issue 1 + 58. So do all, but the last has nothing to issue.
        ("pregated", 300, HIDDEN),
        # The first ends at 595, its fetch ahead runs 535 .. 935. The second starts at 715, wants it at 849, has it at
        # 937, ends at 995. From then on the link never rests: a block every 400, of which 120 lie between blocks.
        ("pregated", 400, EXPOSED),
        # The first waits for 8 loads: 134 + 1 + 2400 + 2 + 58. Then 8 loads a block on a link that never rests.
        ("prefetch-all", 300, [2595, 2280, 2280, 2280, 2280, 2280]),
    ],
)
def test_by_hand_blocks_of_a_step(method: str, load_us: int, blocks_us: list[int]) -> None:
    paper = runtime(load_us)
    run = paper.run(method, uniform(SHAPE, "decode", 3, np.random.default_rng(1)))
    from_attention = (100 + 10 + 15) * US
    blocks = run.timing.end - run.timing.ready + from_attention
    assert blocks.reshape(3, 6).tolist() == [[block * US for block in blocks_us]] * 3
    assert paper.block_ms(run, tokens=1) == pytest.approx(sum(blocks_us) / 6 / 1000)


def test_by_hand_active_experts_share_one_launch() -> None:
    paper = runtime(300)
    routed = forced(SHAPE, active=4, sequences=8, steps=1)
    assert paper.block_ms(paper.run("gpu-only", routed), tokens=8) == pytest.approx(0.184)
    # 134 + 1 + 4 loads + hand-over, then the last one's copies and the experts.
    assert paper.block_ms(paper.run("on-demand", routed), tokens=8) == pytest.approx(1.395)


@pytest.mark.parametrize(("method", "loads"), [("gpu-only", 0), ("on-demand", 18), ("pregated", 18)])
def test_one_load_for_every_use_but_of_residents(method: str, loads: int) -> None:
    run = runtime(300).run(method, uniform(SHAPE, "decode", 3, np.random.default_rng(1)))
    assert len(run.decisions.loads.key) == loads
    assert run.decisions.demand_loads == {"gpu-only": 0, "on-demand": 18, "pregated": 3}[method]


def test_prefetch_all_loads_every_expert_in_every_step() -> None:
    run = runtime(300).run("prefetch-all", uniform(SHAPE, "decode", 3, np.random.default_rng(1)))
    assert len(run.decisions.loads.key) == 3 * 6 * 8
    assert run.decisions.demand_loads == 3 * 8
    assert run.decisions.loads.slot.max() < 2 * 8


def test_forced_routing_is_even() -> None:
    workload = forced(SHAPE, active=4, sequences=64, steps=2).workload
    assert workload.num_steps == 2
    assert workload.experts.tolist() == [0, 1, 2, 3] * 12
    assert set(workload.tokens.tolist()) == {16}


def test_uniform_routing_reaches_every_expert_alike() -> None:
    workload = uniform(SHAPE, "encode", 8000, np.random.default_rng(0)).workload
    assert workload.num_steps == 1
    assert workload.tokens.reshape(6, 8) == pytest.approx(1000, abs=150)


def test_every_expert_is_asked_for_and_no_token_is_lost() -> None:
    workload = uniform(SHAPE, "decode", 3, np.random.default_rng(0)).workload
    whole = every_expert(workload)
    assert np.diff(whole.offsets).tolist() == [8] * 18
    assert whole.experts.tolist() == list(range(8)) * 18
    busy = np.flatnonzero(whole.tokens)
    assert whole.experts[busy].tolist() == workload.experts.tolist()
    assert whole.tokens.sum() == workload.tokens.sum()
