"""Timelines are valid Chrome traces: known lanes, nothing overlaps within a lane, times add up."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from timing_cases import RUNNABLE, Case, cases, durations_by_hand, table_of

from specmoe.errors import InputError
from specmoe.sim.event_table import simulated_spans, uninterrupted, write_timeline
from specmoe.sim.timing.engine import simulate
from specmoe.timeline import LANES, Span, write_spans


def lanes_of(path: Path, pid: int = 1) -> dict[str, list[tuple[int, int, str]]]:
    """(start, end, name) in ns by lane of a process, sorted."""
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event["pid"] == pid]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    lanes: dict[str, list[tuple[int, int, str]]] = {name: [] for name in names.values()}
    for event in events:
        if event["ph"] == "X":
            start = round(event["ts"] * 1000)
            lanes[names[event["tid"]]].append((start, start + round(event["dur"] * 1000), event["name"]))
    return {name: sorted(slices) for name, slices in lanes.items()}


def test_by_hand(tmp_path: Path) -> None:
    # The first timeline of test_by_hand.
    loads = [(0, 0, 0, True, 0), (0, 8, 1, False, 0), (1, 17, 0, False, 0), (2, 16, 1, True, 0)]
    uses = [(0, 0, 1, 0, 0, False, 0), (1, 8, 1, 1, 1, True, 0), (2, 16, 1, 1, 3, False, 0)]
    table = table_of(loads, uses, steps=1, layers=3, slots=2)
    durations = durations_by_hand(table)
    write_timeline(table, durations, simulate(table, durations), tmp_path / "t.json")
    lanes = lanes_of(tmp_path / "t.json")
    assert lanes["copy"] == [
        (21, 41, "L0 E0 (demand, useful)"),
        (41, 61, "L1 E0 (prefetch, useful)"),
        (66, 86, "L2 E1 (prefetch, wasted)"),
        (91, 111, "L2 E0 (demand, useful)"),
    ]
    assert lanes["compute"] == [
        (2, 12, "dense part and router of L0"),
        (42, 47, "L0 E0"),
        (47, 57, "dense part and router of L1"),
        (67, 72, "L1 E0"),
        (72, 82, "dense part and router of L2"),
        (112, 117, "L2 E0"),
        (117, 123, "head"),
    ]
    layer = "step 0 layer"
    assert lanes["host"] == [
        (0, 2, f"{layer} 0: launch dense part and router"),
        (2, 14, f"{layer} 0: wait for the router"),
        (14, 25, f"{layer} 0: decide, issue, launch"),
        (25, 27, f"{layer} 1: launch dense part and router"),
        (27, 59, f"{layer} 1: wait for the router"),
        (59, 67, f"{layer} 1: decide, issue, launch"),
        (67, 69, f"{layer} 2: launch dense part and router"),
        (69, 84, f"{layer} 2: wait for the router"),
        (84, 92, f"{layer} 2: decide, issue, launch"),
        (92, 125, f"{layer} 2: end the step"),
    ]
    assert lanes["disk"] == []


def test_a_prefetch_that_gave_way_is_cut_where_it_did() -> None:
    assert list(uninterrupted([(0, 0, 30), (1, 10, 15), (2, 15, 20), (3, 40, 50)])) == [
        (0, 0, 10),
        (1, 10, 15),
        (2, 15, 20),
        (0, 20, 30),
        (3, 40, 50),
    ]
    assert list(uninterrupted([(0, 0, 30), (1, 10, 25), (2, 15, 20)])) == [
        (0, 0, 10),
        (1, 10, 15),
        (2, 15, 20),
        (1, 20, 25),
        (0, 25, 30),
    ]
    assert list(uninterrupted([])) == []


@examples(80, HealthCheck.function_scoped_fixture)
@given(case=cases(), name=st.sampled_from(RUNNABLE), order=st.sampled_from(["fifo", "priority", "chunked"]))
def test_nothing_overlaps_within_a_lane(tmp_path: Path, case: Case, name: str, order: Any) -> None:
    order = "fifo" if case.machine.read else order
    table = case.decide(name)
    durations = case.durations(name, table)
    write_timeline(table, durations, simulate(table, durations, order, 5), tmp_path / "t.json")
    lanes = lanes_of(tmp_path / "t.json")
    assert list(lanes) == ["host", "compute", "copy", "disk", "cpu"]
    for slices in lanes.values():
        assert all(start <= end for start, end, _ in slices)
        assert all(before[1] <= after[0] for before, after in pairwise(slices))
    assert sum(end - start for start, end, _ in lanes["copy"]) == sum(durations.copy)
    assert len(lanes["disk"]) == (len(durations.copy) if durations.read else 0)


def test_only_the_first_steps_are_written(tmp_path: Path) -> None:
    uses = [(event, 0, 1, 0, event, False, 0) for event in range(5)]
    table = table_of([(event, 0, 0, True, 0) for event in range(5)], uses, steps=5, layers=1, slots=1)
    durations = durations_by_hand(table)
    write_timeline(table, durations, simulate(table, durations), tmp_path / "t.json", steps=2)
    lanes = lanes_of(tmp_path / "t.json")
    assert [name for _, _, name in lanes["compute"]].count("L0 E0") == 2
    assert len(lanes["copy"]) == 2


def test_two_runs_in_one_file_each_begin_at_0(tmp_path: Path) -> None:
    simulated = [Span("host", "a", 0, 10, {}), Span("copy", "b", 4, 9, {"slot": 3})]
    measured = [Span("copy", "b", 7_000_004, 7_000_012, {"slot": 3}), Span("host", "a", 7_000_001, 7_000_012, {})]
    write_spans(tmp_path / "t.json", {"simulated": simulated, "measured": measured})
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    names = [(event["pid"], event["args"]["name"]) for event in events if event["name"] == "process_name"]
    assert names == [(1, "simulated"), (2, "measured")]
    assert lanes_of(tmp_path / "t.json", 1) == {
        "host": [(0, 10, "a")],
        "compute": [],
        "copy": [(4, 9, "b")],
        "disk": [],
        "cpu": [],
    }
    assert lanes_of(tmp_path / "t.json", 2) == {
        "host": [(0, 11, "a")],
        "compute": [],
        "copy": [(3, 11, "b")],
        "disk": [],
        "cpu": [],
    }
    assert [event["args"] for event in events if event["name"] == "b"] == [{"slot": 3}] * 2


def test_runs_without_spans_have_their_lanes(tmp_path: Path) -> None:
    write_spans(tmp_path / "t.json", {"nothing": []})
    assert lanes_of(tmp_path / "t.json") == {lane: [] for lane in LANES}


@examples(40, HealthCheck.function_scoped_fixture)
@given(case=cases(), name=st.sampled_from(RUNNABLE))
def test_a_file_holds_the_spans_of_the_run(tmp_path: Path, case: Case, name: str) -> None:
    table = case.decide(name)
    durations = case.durations(name, table)
    timing = simulate(table, durations)
    write_timeline(table, durations, timing, tmp_path / "t.json")
    spans = simulated_spans(table, durations, timing)
    expected = {
        lane: sorted((span.start_ns, span.end_ns, span.name) for span in spans if span.lane == lane) for lane in LANES
    }
    assert lanes_of(tmp_path / "t.json") == expected
    assert {type(value) for span in spans for value in (*span[2:4], *span.args.values())} <= {int, str}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    table = table_of([], [], steps=1, layers=1, slots=1)
    durations = durations_by_hand(table)
    with pytest.raises(InputError, match="there is no directory"):
        write_timeline(table, durations, simulate(table, durations), tmp_path / "no" / "t.json")
