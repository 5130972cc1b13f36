"""A real run is drawn in the lanes and words of a simulated one, from its own times."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from timing_cases import RUNNABLE, Case, cases, durations_by_hand, table_of

from specmoe.errors import InputError
from specmoe.sim.decide.program import program_of
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.event_table import simulated_spans
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Timing, simulate
from specmoe.timeline import Span
from specmoe.validate.measured import measured_spans
from specmoe.validate.replayer import DeviceTimes, Recording, Work

LATER = 10**12  # the device's clock, at the beginning


def work_of(table: DecisionTable) -> Work:
    """No spans depend on sizes."""
    return Work(table, program_of(table), [], [], [], [])


def recorded(durations: Durations, timing: Timing, layers: int) -> Recording:
    """A device on which everything happens just when the simulator says so, on another clock."""
    host, events = durations.host, np.arange(len(timing.begin))
    ends_step = events % layers == layers - 1
    dense_end, head_end = timing.ready - host.sync_ns, timing.step_end - host.sync_ns
    device = DeviceTimes(
        dense_end - np.array(durations.before, np.int64),
        dense_end,
        timing.use_start,
        timing.use_end,
        timing.started,
        timing.landed,
        head_end - np.array(durations.after, np.int64),
        head_end,
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
    )
    known = {
        "begin": timing.begin,
        "dense_launched": timing.begin + host.launch_dense_ns,
        "ready": timing.ready,
        "launched": timing.ready + timing.host - host.launch_dense_ns * (1 + ends_step),
        "joined": timing.ready + timing.host - host.launch_dense_ns * (1 + ends_step),
        "step_end": timing.step_end,
        "issued": timing.issued,
        "device": DeviceTimes(*(times + LATER for times in device)),
    }
    later = {name: times + LATER for name, times in known.items() if isinstance(times, np.ndarray)}
    others = {name: np.zeros(0, np.int64) for name in Recording._fields if name not in known}  # that no span shows
    return Recording(**known | others | later)  # type: ignore[arg-type]


def moved(spans: list[Span]) -> list[tuple[str, str, int, int, object]]:
    return [(s.lane, s.name, s.start_ns - LATER, s.end_ns - LATER, dict(s.args)) for s in spans]


@examples(80)
@given(case=cases(read=False), name=st.sampled_from(RUNNABLE), steps=st.integers(1, 4))
def test_a_device_that_does_what_the_simulator_says_gives_the_same_spans(case: Case, name: str, steps: int) -> None:
    case = case._replace(machine=case.machine._replace(sync_each_layer=False))
    table = case.decide(name)
    durations = case.durations(name, table)
    timing = simulate(table, durations)
    measured = moved(measured_spans(work_of(table), recorded(durations, timing, table.num_layers), steps))
    simulated = simulated_spans(table, durations, timing, steps)
    on_device = [tuple(span) for span in simulated if span.lane != "host"]
    assert [span for span in measured if span[0] != "host"] == on_device
    assert {span[:4] for span in measured if span[0] == "host"} <= {span[:4] for span in simulated}


def test_the_host_by_hand() -> None:
    uses = [(event, 8 * (event % 2), 1, 0, -1, True, 0) for event in range(4)]
    table = table_of([], uses, steps=2, layers=2, slots=1)
    durations = durations_by_hand(table)
    recording = recorded(durations, simulate(table, durations), 2)
    # By the durations of durations_by_hand: dense 2 + 10 + 2 to the router's result, 4 + 1 to the last launch.
    host = [span[1:4] for span in moved(measured_spans(work_of(table), recording, steps=1)) if span[0] == "host"]
    assert host == [
        ("step 0 layer 0: launch dense part and router", 0, 2),
        ("step 0 layer 0: wait for the router", 2, 14),
        ("step 0 layer 0: decide, issue, launch", 14, 19),
        ("step 0 layer 1: launch dense part and router", 19, 21),
        ("step 0 layer 1: wait for the router", 21, 36),
        ("step 0 layer 1: decide, issue, launch", 36, 41),
        ("step 0 layer 1: end the step", 41, 54),
    ]


@pytest.mark.parametrize("name", ["dense_start", "use_start", "started", "head_start"])
def test_a_run_that_was_not_traced_has_no_spans(name: str) -> None:
    table = table_of([(0, 0, 0, True, 0)], [(0, 0, 1, 0, 0, False, 0)], steps=1, layers=1, slots=1)
    durations = durations_by_hand(table)
    recording = recorded(durations, simulate(table, durations), 1)
    untraced = recording.device._replace(**{name: np.full(1, -1)})
    with pytest.raises(InputError, match="a traced run expected"):
        measured_spans(work_of(table), recording._replace(device=untraced))
    assert measured_spans(work_of(table), recording)
