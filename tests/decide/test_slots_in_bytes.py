"""What it costs that slots of a file with unequal layers have their mean size: an LRU that counts bytes beside ours."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import specmoe.traces
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.speculate.predictor import no_predictions
from specmoe.traces.workload import Workload, build

MEDIUM = [3 * 144, 2 * 144 + 210] * 3  # bytes of 256 weights of an expert: every second down projection at Q6_K
UNLIKE = [3 * 210, 3 * 110, 3 * 110, 3 * 110, 3 * 110, 3 * 110]  # the first layer at Q6_K, the others at Q3_K


def misses_in_bytes(workload: Workload, sizes: list[int], capacity: float) -> int:
    """Misses of an LRU that evicts until a missing expert's bytes fit, and never an expert of the same demand."""
    held, used, misses = OrderedDict[int, int](), 0, 0
    keys, offsets = workload.keys.tolist(), workload.offsets.tolist()
    for event in range(workload.num_events):
        demand = keys[offsets[event] : offsets[event + 1]]
        for key in demand:
            if key in held:
                held.move_to_end(key)
                continue
            held[key] = size = sizes[event % len(sizes)]
            misses, used = misses + 1, used + size
            while used > capacity:
                used -= held.pop(next(other for other in held if other not in demand))
    return misses


@pytest.mark.parametrize(("sizes", "most"), [([1] * 6, 0.0), (MEDIUM, 0.005), (UNLIKE, 0.02)])
def test_slots_of_mean_size_miss_nearly_as_often_as_slots_in_bytes(sizes: list[int], most: float) -> None:
    trace = specmoe.traces.open("switch-mini-128/decode/test")
    workload, slots = build(trace.read(), trace.meta, steps=500), 154
    table = decide(workload, no_predictions(workload.num_events), POLICIES["on-demand-lru"], slots)
    counted = misses_in_bytes(workload, sizes, slots * sum(sizes) / len(sizes))
    assert len(table.loads.key) == pytest.approx(counted, rel=most)
