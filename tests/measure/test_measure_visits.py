"""Several measurements of one machine as one profile."""

from dataclasses import replace

import pytest
from host_bench import QUICK, HostBench, encoder_decoder

from specmoe.hwprofiles import HardwareProfile, load_profile
from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.measure.findings import merged, over_visits
from specmoe.hwprofiles.measure.job import measure
from specmoe.hwprofiles.quantity import Quantity

HAND = load_profile("rtx3090")


def visit(issue: tuple[int, int, int], times: tuple[int, int], factors: tuple[float, float]) -> HardwareProfile:
    value, low, high = issue
    numbers = {
        "link.lanes": Quantity(16, "1", "measured", "driver"),
        "host.graph.issue": Quantity(value, "ns", "measured", "calls", low, high),
    }
    return replace(
        HAND, quantities=numbers, points={"nvme.points": Points((1, 2), times, "B", "measured", "r", *factors)}
    )


def test_values_are_medians_and_ranges_hold_all_visits() -> None:
    seen = [
        visit((10, 9, 12), (100, 200), (0.9, 1.1)),
        visit((20, 18, 21), (200, 400), (0.95, 1.05)),
        visit((14, 14, 15), (100, 200), (1.0, 1.2)),
    ]
    whole = merged(seen)
    assert whole.quantities["link.lanes"] == seen[0].quantities["link.lanes"]
    issue = whole.quantities["host.graph.issue"]
    assert (issue.value, issue.range) == (14, (9, 21))
    assert "the median of 3 visits" in issue.ref
    reads = whole.points["nvme.points"]
    assert reads.times_ns == (100, 200)
    assert reads.factors == (0.9, 2.1), "the second visit took twice as long, 1.05 at its slowest"


def test_visits_are_apart_and_one_is_itself() -> None:
    pauses: list[float] = []
    one = visit((10, 9, 12), (100, 200), (0.9, 1.1))
    assert over_visits(lambda: one, 1, 300, pauses.append) is one
    over_visits(lambda: one, 3, 300, pauses.append)
    assert pauses == [300, 300]


@pytest.fixture(scope="module")
def twice() -> HardwareProfile:
    bench = HostBench()
    shapes = [encoder_decoder()]
    return over_visits(lambda: measure(shapes, ["fp16"], lambda at: None, bench, plan=QUICK), 2, 0)


def test_what_is_timed_gets_a_range(twice: HardwareProfile) -> None:
    timed = {name for name, quantity in twice.quantities.items() if "IQR" in quantity.ref}
    assert timed and timed <= set(twice.ranges)
    assert set(twice.named_points) <= set(twice.ranges)
    numbers = {name: twice[name] for name in twice.quantities}
    assert all(low <= numbers.get(name, 1) <= high for name, (low, high) in twice.ranges.items())
