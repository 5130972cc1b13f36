"""Timelines worked out on paper, every column.

The host takes 2 for a dense launch, 2 to wait for a router, 4 to decide, 3 a copy, 1 an expert; streams meet in 1.
"""

from __future__ import annotations

import pytest
from naive import as_lists, naive
from timing_cases import durations_by_hand, table_of
from tiny_routed import tiny_routed

from specmoe.errors import InputError
from specmoe.sim.event_table import event_table
from specmoe.sim.timing.engine import Timing, simulate

RARE = ("slowed", "cpu", "cpu_stall")


def columns(timing: Timing) -> dict[str, list[int]]:
    """All, but for those of what does not happen."""
    found = {name: column.tolist() for name, column in timing._asdict().items()}
    return {name: column for name, column in found.items() if name not in RARE or any(column)}


def test_a_miss_a_late_useful_prefetch_and_a_wasted_one_in_front_of_a_miss() -> None:
    # One step of three layers, two slots. Layer 1's expert is prefetched and lands late; layer 2's guess is wrong.
    loads = [(0, 0, 0, True, 0), (0, 8, 1, False, 0), (1, 17, 0, False, 0), (2, 16, 1, True, 0)]
    uses = [(0, 0, 1, 0, 0, False, 0), (1, 8, 1, 1, 1, True, 0), (2, 16, 1, 1, 3, False, 0)]
    table = table_of(loads, uses, steps=1, layers=3, slots=2)
    assert columns(simulate(table, durations_by_hand(table))) == {
        "begin": [0, 25, 67],
        "ready": [14, 59, 84],  # 2 + 10 + 2; 47 + 10 + 2; 72 + 10 + 2
        "host": [13, 10, 12],  # 2 + 4 + 3 + 3 + 1; 2 + 4 + 3 + 1; the same and 2 for the end of the step
        "stall": [17, 0, 20],
        "end": [47, 72, 117],
        "step_end": [125],  # 117 + 6 + 2
        "use_start": [42, 67, 112],
        "use_end": [47, 72, 117],
        "issued": [21, 24, 66, 91],
        "fetched": [21, 24, 66, 91],
        "started": [21, 41, 66, 91],
        "landed": [41, 61, 86, 111],
    }


def test_what_computes_while_a_copy_is_under_way_takes_longer() -> None:
    # The same, but that half of the time of a copy is added to what computes meanwhile.
    loads = [(0, 0, 0, True, 0), (0, 8, 1, False, 0), (1, 17, 0, False, 0), (2, 16, 1, True, 0)]
    uses = [(0, 0, 1, 0, 0, False, 0), (1, 8, 1, 1, 1, True, 0), (2, 16, 1, 1, 3, False, 0)]
    table = table_of(loads, uses, steps=1, layers=3, slots=2)
    assert columns(simulate(table, durations_by_hand(table)._replace(interference=0.5))) == {
        "begin": [0, 25, 74],
        "ready": [14, 66, 98],  # 49 + 10 + 5 + 2; 81 + 10 + 5 + 2
        "host": [13, 10, 12],
        "stall": [17, 0, 20],
        "slowed": [2, 7, 5],  # half of 5, rounded to even; 5 and 2; 5 and nothing
        "end": [49, 81, 131],
        "step_end": [139],
        "use_start": [42, 74, 126],
        "use_end": [49, 81, 131],
        "issued": [21, 24, 73, 105],
        "fetched": [21, 24, 73, 105],
        "started": [21, 41, 73, 105],
        "landed": [41, 61, 93, 125],
    }


PREDICTING = (  # the same decisions, with 7 for each layer's prediction
    [(0, 0, 0, True, 0), (0, 8, 1, False, 0), (1, 17, 0, False, 0), (2, 16, 1, True, 0)],
    [(0, 0, 1, 0, 0, False, 0), (1, 8, 1, 1, 1, True, 0), (2, 16, 1, 1, 3, False, 0)],
)


def test_predicting_before_the_launch_keeps_experts_waiting() -> None:
    table = table_of(*PREDICTING, steps=1, layers=3, slots=2)
    assert columns(simulate(table, durations_by_hand(table)._replace(predict=[7] * 3))) == {
        "begin": [0, 32, 74],
        "ready": [14, 59, 91],
        "host": [20, 17, 19],
        "stall": [10, 0, 13],  # the first expert is launched at 32 and lands at 42
        "end": [47, 79, 124],
        "step_end": [132],
        "use_start": [42, 74, 119],
        "use_end": [47, 79, 124],
        "issued": [21, 31, 73, 98],  # demand loads do not wait for the prediction
        "fetched": [21, 31, 73, 98],
        "started": [21, 41, 73, 98],
        "landed": [41, 61, 93, 118],
    }


def test_predicting_after_the_launch_keeps_only_the_prefetches_and_the_next_layer_waiting() -> None:
    table = table_of(*PREDICTING, steps=1, layers=3, slots=2)._replace(after_launch=True)
    assert columns(simulate(table, durations_by_hand(table)._replace(predict=[7] * 3))) == {
        "begin": [0, 32, 74],
        "ready": [14, 59, 88],
        "host": [20, 17, 19],
        "stall": [20, 0, 20],
        "end": [47, 69, 121],
        "step_end": [129],
        "use_start": [42, 64, 116],
        "use_end": [47, 69, 121],
        "issued": [21, 32, 74, 95],
        "fetched": [21, 32, 74, 95],
        "started": [21, 41, 74, 95],
        "landed": [41, 61, 94, 115],
    }


def test_prefetches_after_the_launch_cost_experts_nothing_without_a_prediction_either() -> None:
    table = table_of(*PREDICTING, steps=1, layers=3, slots=2)._replace(after_launch=True)
    timing = simulate(table, durations_by_hand(table))
    assert timing.issued.tolist() == [21, 25, 67, 88]  # launched at 22, 64
    assert timing.use_start.tolist() == [42, 64, 109]


def test_waves_resident_experts_first_and_the_heaviest_of_them_first() -> None:
    # One layer, two slots. Step 0 demands three experts; step 1 a miss and a hit; step 2 two hits, of 1 and 3 tokens.
    loads = [(0, 0, 0, True, 0), (0, 1, 1, True, 0), (0, 2, 0, True, 1), (1, 0, 0, True, 0)]
    first = [(0, 0, 1, 0, 0, False, 0), (0, 1, 1, 1, 1, False, 0), (0, 2, 1, 0, 2, False, 1)]
    second = [(1, 0, 1, 0, 3, False, 0), (1, 1, 1, 1, 1, True, 0)]
    third = [(2, 0, 1, 0, 3, True, 0), (2, 1, 3, 1, 1, True, 0)]
    table = table_of(loads, first + second + third, steps=3, layers=1, slots=2)
    timing = simulate(table, durations_by_hand(table, expert=[5, 5, 5, 5, 7, 5, 9]))
    assert columns(timing) == {
        "begin": [0, 95, 150],
        "ready": [14, 109, 164],
        "host": [20, 13, 10],
        "stall": [17 + 15 + 15, 13, 0],
        "end": [87, 142, 183],
        "step_end": [95, 150, 191],
        "use_start": [42, 62, 82, 137, 117, 178, 169],
        "use_end": [47, 67, 87, 142, 124, 183, 178],
        "issued": [21, 24, 29, 116],
        "fetched": [21, 24, 29, 116],
        "started": [21, 41, 61, 116],
        "landed": [41, 61, 81, 136],
    }


def test_nvme_is_read_first_and_a_copy_waits_for_the_kernel_that_reads_its_slot() -> None:
    # One layer, one slot, experts of 50, reads of 30. Step 0 demands two experts, step 1 hits, step 2 misses.
    loads = [(0, 0, 0, True, 0), (0, 1, 0, True, 1), (2, 0, 0, True, 0)]
    uses = [
        (0, 0, 1, 0, 0, False, 0),
        (0, 1, 1, 0, 1, False, 1),
        (1, 1, 1, 0, 1, True, 0),
        (2, 0, 1, 0, 2, False, 0),
    ]
    table = table_of(loads, uses, steps=3, layers=1, slots=1)
    assert columns(simulate(table, durations_by_hand(table, expert=[50] * 4, read=30))) == {
        "begin": [0, 201, 278],
        "ready": [14, 215, 292],
        "host": [16, 9, 12],
        "stall": [50 + 21, 0, 50],
        "end": [193, 270, 400],
        "step_end": [201, 278, 408],
        "use_start": [72, 143, 220, 350],
        "use_end": [122, 193, 270, 400],
        "issued": [21, 25, 299],
        "fetched": [51, 81, 329],
        "started": [51, 122, 329],  # the second: the first expert's kernel ends at 122
        "landed": [71, 142, 349],
    }


@pytest.mark.parametrize(("copy", "late"), [(20, [0, 1, 0]), (18, [0, 0, 0])])
def test_a_hit_is_late_if_it_lands_after_the_routers_result_is_known(copy: int, late: list[int]) -> None:
    # Layer 1's expert lands at 61, its router is ready at 59; with copies of 18 both are at 57, which is in time.
    loads = [(0, 0, 0, True, 0), (0, 8, 1, False, 0)]
    uses = [(0, 0, 1, 0, 0, False, 0), (1, 8, 1, 1, 1, True, 0), (2, 16, 1, 2, -1, True, 0)]
    table = table_of(loads, uses, steps=1, layers=3, slots=3)
    durations = durations_by_hand(table, copy=copy)
    timing = simulate(table, durations)
    assert (timing.landed[1], timing.ready[1]) == ((61, 59) if copy == 20 else (57, 57))
    workload = tiny_routed(1, num_layers=3, num_experts=8, top_k=1).workload
    assert event_table(workload, table, durations, timing, 100)["late_hits"].tolist() == late


def test_a_load_that_finds_its_expert_compressed_waits_for_its_slot_only() -> None:
    # The third load copies nothing: it overtakes the second, and its slot's former expert is read until 67.
    loads = [(0, 0, 0, True, 0), (0, 9, 1, False, 0), (1, 8, 0, True, 0), (1, 10, 0, False, 0)]
    uses = [(0, 0, 1, 0, 0, False, 0), (1, 8, 1, 0, 2, False, 0)]
    table = table_of(loads, uses, steps=1, layers=2, slots=2)
    timing = simulate(table, durations_by_hand(table)._replace(copy=[40, 400, 0, 40]))
    assert timing.issued.tolist() == [21, 24, 86, 89]
    assert timing.started.tolist() == [21, 61, 86, 461]
    assert timing.landed.tolist() == [61, 461, 86, 501]
    assert timing.use_start.tolist() == [62, 90]  # launched at 90
    with pytest.raises(InputError, match="compressed in VRAM: fifo expected"):
        simulate(table, durations_by_hand(table)._replace(copy=[40, 400, 0, 40]), "priority")


def test_a_copy_waits_for_a_load_that_waits_for_its_slot() -> None:
    # In the second round, one load finds its expert compressed and waits for the kernel until 92; it is evicted unused.
    loads = [(0, 0, 0, True, 0), (0, 1, 0, True, 1), (0, 2, 0, True, 1)]
    uses = [(0, 0, 1, 0, 0, False, 0), (0, 2, 1, 0, 2, False, 1)]
    table = table_of(loads, uses, steps=1, layers=1, slots=1)
    timing = simulate(table, durations_by_hand(table, expert=[50, 5])._replace(copy=[20, 0, 20]))
    assert timing.use_end[0] == 92
    assert timing.started.tolist() == [21, 92, 92]


BEHIND = (  # a demand, two prefetches that nobody uses, and the next layer's demand behind them; copies of 40
    [(0, 0, 0, True, 0), (0, 9, 1, False, 0), (0, 10, 2, False, 0), (1, 8, 3, True, 0)],
    [(0, 0, 1, 0, 0, False, 0), (1, 8, 1, 3, 3, False, 0)],
)


@pytest.mark.parametrize(
    ("order", "started", "landed", "stall"),
    [
        ("fifo", [21, 61, 101, 141], [61, 101, 141, 181], 95),
        ("priority", [21, 61, 141, 101], [61, 101, 181, 141], 55),
        ("chunked", [21, 61, 141, 91], [61, 141, 181, 131], 45),  # parts of 15: 61-76-91, demand, 131-141
    ],
)
def test_a_demand_behind_prefetches(order: str, started: list[int], landed: list[int], stall: int) -> None:
    table = table_of(*BEHIND, steps=1, layers=2, slots=4)
    timing = simulate(table, durations_by_hand(table, copy=40), order, chunk=15)  # type: ignore[arg-type]
    assert timing.issued.tolist() == [21, 24, 27, 86]
    assert timing.started.tolist() == started
    assert timing.landed.tolist() == landed
    assert timing.stall.tolist() == [62 - 28, stall]


@pytest.mark.parametrize(("order", "landed"), [("fifo", [181, 221]), ("priority", [141, 181]), ("chunked", [131, 171])])
def test_a_group_begins_when_its_last_load_has_landed_in_every_order(order: str, landed: list[int]) -> None:
    """Two demands, served by one launch, behind a prefetch under way and one that waits."""
    loads = [*BEHIND[0], (1, 7, 4, True, 0)]
    uses = [BEHIND[1][0], (1, 7, 1, 4, 4, False, 0), (1, 8, 1, 3, 3, False, 0)]
    table = table_of(loads, uses, steps=1, layers=2, slots=5)
    durations = durations_by_hand(table, copy=40, expert=[5, 0, 5])._replace(launching="grouped")
    timing = simulate(table, durations, order, chunk=15)  # type: ignore[arg-type]
    assert timing.landed[3:].tolist() == landed
    assert timing.use_start[1:].tolist() == [landed[-1] + 1] * 2
    assert as_lists(timing) == naive(table, durations, order, 15)


@pytest.mark.parametrize("order", ["priority", "chunked"])
def test_a_prefetch_that_was_evicted_in_flight_goes_before_the_demand_that_took_its_slot(order: str) -> None:
    # The first prefetch is for another slot; the second was evicted for the demand, so it is copied before both.
    loads = [(0, 0, 0, True, 0), (0, 9, 1, False, 0), (0, 10, 2, False, 0), (0, 11, 3, False, 0), (1, 8, 3, True, 0)]
    uses = [(0, 0, 1, 0, 0, False, 0), (1, 8, 1, 3, 4, False, 0)]
    table = table_of(loads, uses, steps=1, layers=2, slots=4)
    timing = simulate(table, durations_by_hand(table, copy=40), order, chunk=40)  # type: ignore[arg-type]
    assert timing.started.tolist() == [21, 61, 181, 101, 141]


@pytest.mark.parametrize("order", ["fifo", "priority", "chunked"])
def test_a_demand_does_not_overwrite_a_slot_that_an_earlier_wave_has_yet_to_read(order: str) -> None:
    # Event 1 demands three experts of two slots: 0 is still in flight, 1 is there; 2 takes 1's slot in the second wave.
    loads = [(0, 1, 1, True, 0), (0, 0, 0, False, 0), (1, 2, 1, True, 1)]
    uses = [
        (0, 1, 1, 1, 0, False, 0),
        (1, 0, 1, 0, 1, True, 0),
        (1, 1, 1, 1, 0, True, 0),
        (1, 2, 1, 1, 2, False, 1),
    ]
    table = table_of(loads, uses, steps=2, layers=1, slots=2)
    timing = simulate(table, durations_by_hand(table, copy=100), order, chunk=30)  # type: ignore[arg-type]
    assert timing.landed.tolist()[:2] == [121, 221]
    assert timing.use_end.tolist()[1:3] == [227, 232]
    assert timing.started[2] == 232


def test_loads_that_nobody_waits_for_are_copied_after_the_last_step() -> None:
    loads = [(0, 1, 0, False, 0), (0, 2, 1, False, 0)]
    table = table_of(loads, [], steps=1, layers=1, slots=2)
    for order in ("fifo", "priority"):
        timing = simulate(table, durations_by_hand(table), order)  # type: ignore[arg-type]
        assert timing.step_end.tolist() == [2 + 10 + 2 + 4 + 3 + 3 + 2 + 6 + 2]
        assert timing.landed.tolist() == [41, 61]
