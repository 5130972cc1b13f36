"""The replayer by hand: what it asks of a device and when, and what it writes down."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fake_cases import costs_from, replayed, two_layers, work_from
from fake_device import FakeDevice, noisy
from timing_cases import durations_by_hand, table_of

from specmoe.hwprofiles.costs import HostCosts
from specmoe.validate.replayer import DeviceTimes, Work, latencies, replay


def test_a_step_worked_out_on_paper() -> None:
    recording, _ = replayed(*two_layers())
    assert recording.begin.tolist() == [0, 26]
    assert recording.ready.tolist() == [15, 64]  # dense part launched at 2, begun at 3, ended at 13
    assert recording.issued.tolist() == [22, 25]  # 4 of bookkeeping, then 3 each
    assert recording.order.tolist() == [0, 0]
    assert recording.called.tolist() == [26, 69]
    assert recording.launched.tolist() == [26, 69]
    assert recording.head_launched.tolist() == [71]  # 2 after the last expert's launch
    assert recording.step_end.tolist() == [83]
    device = recording.device
    assert (device.dense_start.tolist(), device.dense_end.tolist()) == ([3, 52], [13, 62])
    assert (device.started.tolist(), device.landed.tolist()) == ([26, 46], [46, 66])
    assert (device.use_start.tolist(), device.use_end.tolist()) == ([47, 70], [52, 75])  # 46 and 1 to hand over
    assert (device.head_start.tolist(), device.head_end.tolist()) == ([75], [81])
    assert latencies(recording).tolist() == [83]


def test_prefetches_after_the_launch_keep_no_expert_waiting() -> None:
    before, _ = replayed(*two_layers())
    after, _ = replayed(*two_layers(after_launch=True))
    assert (before.called[0], after.called[0]) == (26, 23)
    assert (before.issued[1], after.issued[1]) == (25, 26)


class Spy:
    """Writes down what it is asked, but for the clock, and is as fast as light."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            self.calls.append(" ".join(map(str, (name, *arguments))))
            return DeviceTimes(*[np.zeros(0, np.int64)] * 10)

        return call

    def now(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("after_launch", "first_event"),
    [
        (False, ["issue 0", "think 7", "issue 1", "launch 0"]),
        (True, ["issue 0", "launch 0", "think 7", "issue 1"]),
    ],
)
def test_the_order_of_calls(after_launch: bool, first_event: list[str]) -> None:
    table, durations = two_layers(after_launch)
    spy = Spy()
    replay(work_from(table, durations._replace(predict=[7, 7])), spy, traced=True)
    second_event = ["think 7", "launch 1"] if not after_launch else ["launch 1", "think 7"]
    assert spy.calls == [
        "begin True",
        *["launch_dense 0", "wait_for_router 0", *first_event],
        *["launch_dense 1", "wait_for_router 1", *second_event],
        *("launch_head 0", "end_step 0"),
        "end",
    ]


def test_no_predictions_no_thinking() -> None:
    spy = Spy()
    replay(work_from(*two_layers()), spy)
    assert not [call for call in spy.calls if call.startswith("think")]


def test_a_step_of_every_number_of_layers_ends_once() -> None:
    table = table_of([], [(event, event % 3, 1, 0, -1, True, 0) for event in range(6)], steps=2, layers=3, slots=1)
    recording, _ = replayed(table, durations_by_hand(table))
    assert len(recording.step_end) == 2
    assert recording.begin[3] == recording.step_end[0]
    assert latencies(recording).tolist() == [recording.step_end[0], recording.step_end[1] - recording.step_end[0]]


def test_starts_are_unknown_unless_traced() -> None:
    table, durations = two_layers()
    device, work = FakeDevice(lambda _: costs_from(durations)), work_from(table, durations)
    device.prepare(work)
    plain, traced = replay(work, device).device, replay(work, device, traced=True).device
    for name in DeviceTimes._fields:
        expected = np.full_like(getattr(traced, name), -1) if "start" in name else getattr(traced, name)
        assert getattr(plain, name).tolist() == expected.tolist(), name


def test_costs_are_asked_for_each_work() -> None:
    table, durations = two_layers()
    asked: list[Work] = []

    def costs_of(work: Work) -> object:
        asked.append(work)
        return costs_from(durations)

    device, work = FakeDevice(costs_of), work_from(table, durations)
    device.prepare(work)
    replay(work, device)
    replay(work, device)
    assert [len(asked), asked[0] is work] == [1, True]


def noisy_latency(seed: int, spread: float) -> int:
    table, durations = two_layers()
    device = FakeDevice(lambda _: costs_from(durations), noisy(spread, np.random.default_rng(seed)))
    return int(latencies(replayed(table, durations, device)[0])[0])


def test_noise_is_the_generators() -> None:
    assert noisy_latency(1, 0.3) == noisy_latency(1, 0.3)
    assert len({noisy_latency(seed, 0.3) for seed in range(20)}) > 5
    assert noisy_latency(3, 0.0) == 83


def test_noise_is_relative_with_a_median_of_one() -> None:
    vary = noisy(0.2, np.random.default_rng(0))
    factors = np.array([vary(1_000_000) for _ in range(4000)]) / 1e6
    assert np.median(factors) == pytest.approx(1, abs=0.02)
    assert np.log(factors).std() == pytest.approx(0.2, abs=0.01)


def test_every_host_cost_is_charged() -> None:
    """None may be forgotten: each makes the step longer by itself."""
    table, durations = two_layers()
    free = HostCosts(*[0] * len(HostCosts._fields))
    least = latencies(replayed(table, durations._replace(host=free))[0])[0]
    for name in HostCosts._fields:
        host = free._replace(**{name: 1000})
        assert latencies(replayed(table, durations._replace(host=host))[0])[0] > least, name
