"""The re-timer by hand, by formula, and what it refuses."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from retimer_cases import as_lists, engines
from timing_cases import durations_by_hand, table_of

from specmoe.errors import InputError, MissingExtraError
from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import simulate
from specmoe.sim.timing.retimer import retime
from specmoe.sim.timing.variants import variants_of


def by_hand(late: bool = False) -> DecisionTable:
    """That of `test_by_hand`: a miss, a late and useful prefetch, and a wasted one in front of a miss."""
    loads = [(0, 0, 0, True, 0), (0, 8, 1, False, 0), (1, 17, 0, False, 0), (2, 16, 1, True, 0)]
    uses = [(0, 0, 1, 0, 0, False, 0), (1, 8, 1, 1, 1, True, 0), (2, 16, 1, 1, 3, False, 0)]
    return table_of(loads, uses, steps=1, layers=3, slots=2)._replace(after_launch=late)


def test_by_hand_three_machines_at_once() -> None:
    table = by_hand()
    plain = durations_by_hand(table)
    variants = [plain, plain._replace(interference=0.5), plain._replace(predict=[7] * 3)]
    assert as_lists(retime(table, variants)) == {
        "step_end": [[125], [139], [132]],
        "host": [13 + 10 + 12, 13 + 10 + 12, 20 + 17 + 19],
        "compute": [3 * 10 + 3 * 5 + 6, 51 + 2 + 7 + 5, 51],
        "stall": [17 + 20, 17 + 20, 10 + 13],
        "slowed": [0, 2 + 7 + 5, 0],
        "link": [80, 80, 80],
        "late_hits": [1, 0, 1],  # landed at 61; asked for at 59, 66, 59
        "cpu": [0, 0, 0],
        "cpu_stall": [0, 0, 0],
    }


def test_by_hand_predictions_after_the_launch() -> None:
    table = by_hand(late=True)
    plain = durations_by_hand(table)
    found = retime(table, [plain._replace(predict=[7] * 3), plain])
    assert found.step_end.tolist()[0] == [129]
    assert found.stall.tolist()[0] == 20 + 20
    assert as_lists(found) == engines(table, [plain._replace(predict=[7] * 3), plain])


def test_a_step_with_every_expert_missed_takes_what_a_formula_says_on_every_machine() -> None:
    host = HostCosts(launch_ns=5, launch_dense_ns=11, issue_ns=7, event_ns=3, sync_ns=13, bookkeeping_ns=17)
    steps, layers, dense, expert, after, copies = 6, 4, 200, 90, 50, range(10, 2000, 17)
    events = steps * layers
    loads = [(event, event % 8, event % 2, True, 0) for event in range(events)]
    uses = [(event, event % 8, 1, event % 2, event, False, 0) for event in range(events)]
    uniform = Durations([dense] * events, [expert] * events, [after] * steps, [], 0, host)
    variants = [uniform._replace(copy=[copy] * events) for copy in copies]
    found = retime(table_of(loads, uses, steps, layers, slots=2), variants)
    miss = dense + host.sync_ns + host.bookkeeping_ns + host.issue_ns + host.event_ns + expert  # and the copy
    step = host.launch_dense_ns + after + host.sync_ns
    assert found.latencies.tolist() == [[step + layers * (miss + copy)] * steps for copy in copies]
    assert found.stall.tolist() == [events * (copy + host.event_ns - host.launch_ns) for copy in copies]
    assert found.compute.tolist() == [steps * (layers * (dense + expert) + after)] * len(copies)
    assert found.link.tolist() == [events * copy for copy in copies]
    worked = layers * (host.launch_dense_ns + host.bookkeeping_ns + host.issue_ns + host.launch_ns)
    assert found.host.tolist() == [steps * (worked + host.launch_dense_ns)] * len(copies)


def test_what_was_there_from_the_start_waits_for_nothing() -> None:
    table = table_of([], [(0, 0, 1, 0, -1, True, 0), (0, 1, 1, 1, -1, True, 0)], steps=1, layers=1, slots=2)
    plain = durations_by_hand(table)
    found = retime(table, [plain._replace(host=plain.host._replace(event_ns=1000))])
    assert found.stall.tolist() == [0]
    assert found.step_end.tolist() == [[2 + 10 + 2 + 4 + 1 + 5 + 5 + 6 + 2]]


def test_no_variants() -> None:
    table = by_hand()
    found = retime(table, [])
    assert [column.shape for column in found] == [(0, 1), *[(0,)] * 8]
    assert found.latencies.shape == (0, 1)
    assert as_lists(found) == as_lists(retime(table, variants_of([])))


@pytest.mark.parametrize(("loads", "uses"), [([], []), ([], [(0, 0, 1, 0, -1, True, 0)]), ([(1, 0, 0, False, 0)], [])])
def test_tables_without_loads_or_uses(loads: Any, uses: Any) -> None:
    table = table_of(loads, uses, steps=2, layers=2, slots=1)
    variants = [durations_by_hand(table, copy=copy)._replace(interference=0.5) for copy in (3, 400)]
    assert as_lists(retime(table, variants)) == engines(table, variants)


@pytest.mark.parametrize("order", ["priority", "chunked"])
def test_links_whose_order_is_a_matter_of_time_are_refused(order: Any) -> None:
    table = by_hand()
    with pytest.raises(InputError, match=rf"^link order {order}: not supported by the re-timer: fifo expected$"):
        retime(table, [durations_by_hand(table)], order)


@pytest.mark.parametrize("name", ["before", "expert", "after", "copy", "predict"])
def test_durations_of_other_decisions_are_refused(name: str) -> None:
    table = by_hand()
    rows = {"before": 3, "expert": 3, "after": 1, "copy": 4, "predict": 3}
    wrong = durations_by_hand(table)._replace(**{name: [1] * (rows[name] + 1)})
    with pytest.raises(InputError, match=f"{name} has {rows[name] + 1} rows: {rows[name]} expected"):
        retime(table, [wrong])


def test_durations_of_unlike_decisions_are_refused() -> None:
    plain = durations_by_hand(by_hand())
    with pytest.raises(InputError, match="durations: copy of 5 and of 4 rows: equally many"):
        variants_of([plain, plain._replace(copy=[1] * 5)])


def overwritten(loads: Any, uses: Any) -> DecisionTable:
    return table_of(loads, uses, steps=2, layers=1, slots=1)


@pytest.mark.parametrize(
    "table",
    [
        # The expert in the slot is used once more in the next step,
        overwritten([(0, 0, 0, True, 0), (0, 1, 0, False, 0)], [(0, 0, 1, 0, 0, False, 0), (1, 0, 1, 0, 0, True, 0)]),
        # or after the one that takes its place.
        overwritten([(0, 0, 0, True, 0), (0, 1, 0, True, 0)], [(0, 1, 1, 0, 1, False, 0), (0, 0, 1, 0, 0, False, 0)]),
    ],
)
def test_decisions_that_overwrite_an_expert_before_its_last_use_are_refused(table: DecisionTable) -> None:
    with pytest.raises(InputError, match=r"^decisions: load 1 overwrites an expert"):
        retime(table, [durations_by_hand(table)])


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in [
        name for name in sys.modules if name.startswith("specmoe.") and name.endswith(("_kernel", ".kernels"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    table = by_hand()
    with pytest.raises(MissingExtraError, match=r"numba is not installed: pip install -e '.\[fast\]'"):
        retime(table, [durations_by_hand(table)])


def test_halves_are_rounded_to_even_as_the_engine_does() -> None:
    table = table_of([(0, 8, 0, False, 0)], [(0, 0, 1, 1, -1, True, 0)], steps=1, layers=1, slots=2)
    host = durations_by_hand(table).host._replace(launch_ns=0, event_ns=0)
    plain = Durations([10], [1000], [6], [1], 0, host, interference=0.5)
    variants = [plain._replace(copy=[copy]) for copy in range(1, 12)]
    found = retime(table, variants).slowed
    assert found.tolist() == [round(copy / 2) for copy in range(1, 12)]
    assert as_lists(retime(table, variants)) == engines(table, variants)
    assert np.diff(found).tolist() == [1, 1, 0, 0, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"copy": [20, 20, -1, 20]}, "copy of -1 ns"),
        ({"read": -5}, "read of -5 ns"),
        ({"before": [10, -9, 10]}, "before of -9 ns"),
        ({"predict": [7, 7, -7]}, "predict of -7 ns"),
        ({"host": HostCosts(1, 2, 3, -4, 5, 6)}, "host of -4 ns"),
    ],
)
def test_engine_and_retimer_refuse_what_takes_less_than_no_time(changes: dict[str, Any], said: str) -> None:
    table = by_hand()
    durations = durations_by_hand(table)._replace(**changes)
    for execute in (lambda: simulate(table, durations), lambda: retime(table, [durations])):
        with pytest.raises(InputError, match=rf"^durations: {said}: 0 or more expected$"):
            execute()


@pytest.mark.parametrize("changes", [{"copy": [1 << 61] * 4}, {"read": 1 << 70}, {"after": [1 << 62]}])
def test_engine_and_retimer_refuse_centuries(changes: dict[str, Any]) -> None:
    table = by_hand()
    durations = durations_by_hand(table)._replace(**changes)
    for execute in (lambda: simulate(table, durations), lambda: retime(table, [durations])):
        with pytest.raises(InputError, match=r"^durations: .* ns in all: at most 4.61e\+18 \(146 years\) expected$"):
            execute()
