"""From what is asked to cells, and from cells to units of work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_cases import BASE, LINK, TRACE, cell

from specmoe.errors import InputError
from specmoe.sim.config import Home, RunConfig
from specmoe.sim.sweep import job
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.sim.sweep.grid import cells_of
from specmoe.sim.sweep.job import units_of
from specmoe.sim.sweep.question import read_grid

ASKED: dict[str, Any] = {
    "trace": TRACE,
    "policy": "on-demand-lru",
    "slots": 60,
    "format": "fp16",
    "steps": 40,
    "draws": 0,
}


def cells(**more: Any) -> list[RunConfig]:
    return cells_of(read_grid(ASKED | {name.replace("_", "-"): value for name, value in more.items()}))


def test_one_cell_is_a_run_with_its_defaults() -> None:
    assert cells() == [BASE]


def test_each_trace_is_timed_with_the_shape_of_its_own_model(make_trace: Callable[..., Path]) -> None:
    own = str(make_trace(20, model="google/switch-base-8", num_layers=6, num_experts=8, top_k=1))
    rows = evaluate(cells(trace=[TRACE, own], slots=6, steps=2))
    assert [(row["trace"], row["shape"]) for row in rows] == [(TRACE, "switch-base-128"), (own, "switch-base-8")]
    assert not any("timed" in warning for warning in rows[1]["warnings"])
    assert {one.shape for one in cells(trace=[TRACE, own], shape="switch-base-16")} == {"switch-base-16"}


def test_every_combination_the_policies_together() -> None:
    found = cells(policy="static,lookahead", slots=[6, 60], set={LINK: ["1GB/s", "2GB/s"]})
    assert found == [
        cell(name, {LINK: rate}, slots=slots)
        for rate in (1e9, 2e9)
        for slots in (6, 60)
        for name in ("static", "lookahead")
    ]


def test_the_reserve_of_the_runtime_leaves_fewer_slots() -> None:
    grid = {name: value for name, value in ASKED.items() if name != "slots"} | {"vram": "2GiB", "steps": 2}
    less, more = evaluate(cells_of(read_grid(grid | {"assumed-reserve": ["256MiB", "1GiB"]})))
    assert (less["assumed_reserve_bytes"], more["assumed_reserve_bytes"]) == (256 << 20, 1 << 30)
    assert less["slots"] > more["slots"]
    assert cells_of(read_grid(grid)) == cells_of(read_grid(grid | {"assumed-reserve": "1GiB"}))


def test_slots_or_vram_and_not_both() -> None:
    with pytest.raises(InputError, match=r"^either slots or vram expected, and not both$"):
        cells(slots=[6, 60], vram="1GiB")
    with pytest.raises(InputError, match=r"^either cells\[0\]\.slots or cells\[0\]\.vram expected, and not both$"):
        cells(cells=[{"slots": 6, "vram": "1GiB"}])


def test_both_slots_and_vram_are_a_list_of_grids() -> None:
    found = cells(cells=[{"slots": [6, 60]}, {"vram": "1GiB"}])
    assert found == [cell(slots=6), cell(slots=60), cell(slots=None, vram=1 << 30)]


def test_all_that_a_cell_can_be() -> None:
    (found,) = cells(
        shape="mixtral-8x7b",
        profile="a6000",
        batch=4,
        link="priority",
        host_set="eager",
        tier="host-pageable",
        home_format="int4",
        compressed_slots=9,
        train=TRACE,
        set={"prefetch": {"limit": 2}, "eviction": "lfu"},
        scale={"expert.speed": 2},
    )
    assert found == RunConfig(
        TRACE,
        "on-demand-lru",
        "a6000",
        shape="mixtral-8x7b",
        format="fp16",
        slots=60,
        batch=4,
        steps=40,
        link="priority",
        home=Home("host-pageable", "int4", 9),
        host_set="eager",
        train=TRACE,
        settings=(("prefetch.limit", 2), ("eviction", "lfu")),
        scales=(("expert.speed", 2),),
    )


def test_a_list_of_grids_shares_what_stands_above_and_none_comes_twice() -> None:
    parts = [{"slots": 6}, {"policy": "static", "slots": [6, 60]}, {"slots": [6, 32]}]
    assert cells(cells=parts) == [
        cell(slots=6),
        cell("static", slots=6),
        cell("static", slots=60),
        cell(slots=32),
    ]


def test_one_number_at_a_time_less_and_more() -> None:
    found = cells(one_at_a_time=0.2)
    assert found[0] == BASE
    assert all(dataclasses.replace(one, scales=()) == BASE and len(one.scales) == 1 for one in found[1:])
    changed = [one.scales[0] for one in found[1:]]
    names = [name for name, _ in changed[::2]]
    assert {LINK, "device.memory_bandwidth", "host.graph.sync"} <= set(names)
    assert changed == [(name, factor) for name in names for factor in (0.8, 1.2)]
    assert len(set(names)) == len(names)
    assert not any("nvme" in name or "eager" in name or "vram" in name for name in names)


def test_one_number_at_a_time_is_on_top_of_what_is_changed_already() -> None:
    found = cells(one_at_a_time=0.5, scale={LINK: 4}, set={"host.graph.sync": "5us"})
    assert {dict(one.scales)[LINK] for one in found} == {2, 4, 6}
    assert not any("host.graph.sync" in dict(one.scales) for one in found)


def test_memory_is_a_number_that_matters_where_it_decides_the_slots() -> None:
    asked = {name: value for name, value in ASKED.items() if name != "slots"}
    found = cells_of(read_grid(asked | {"one-at-a-time": 0.2}))
    assert {factor for one in found for name, factor in one.scales if name == "device.vram"} == {0.8, 1.2}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"trace": "switch-mini-128/decode/tset"}, "neither a file nor a bundled trace"),
        ({"policy": "all,lookahead"}, "^--policy all,lookahead: all is every policy: either all or names expected"),
        ({"policy": "lokahead"}, "policy 'lokahead': did you mean 'lookahead'"),
        ({"profile": "rtx309"}, "did you mean 'rtx3090'"),
        ({"shape": "mixtral-8x7"}, "did you mean 'mixtral-8x7b'"),
        ({"set": {"prefetch.limits": 1}}, "^--set prefetch.limits: no such name: did you mean 'prefetch.limit'"),
        ({"set": {"eviction.half_lif": 1}}, "did you mean 'eviction.half_life'"),
        ({"set": {"host_to_device.pined.bandwidth": 1}}, f"did you mean '{LINK}'"),
        ({"set": {"link.lanes": 8}}, f"^--set link.lanes: .* changes no time: set {LINK}$"),
        ({"scale": {"link.lanes": 2}}, f"^--scale link.lanes: .* changes no time: set {LINK}$"),
        ({"set": {"expert.speed": 1}}, "^--set expert.speed: no such name"),
        ({"scale": {"prefetch.limit": 2}}, "^--scale prefetch.limit: no such name"),
        ({"scale": {"expert.sped": 2}}, "did you mean 'expert.speed'"),
    ],
)
def test_names_that_nothing_has(more: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        cells(**more)


def test_too_many_cells_are_refused_before_they_are_made() -> None:
    slots, batch = {"from": 1, "to": 768, "count": 768}, {"from": 1, "to": 2000, "count": 2000}
    with pytest.raises(InputError, match=r"^1,536,000 cells: at most 1,000,000 expected$"):
        cells(slots=slots, batch=batch)


@pytest.mark.parametrize("name", ["trace", "policy"])
def test_an_empty_grid(name: str) -> None:
    with pytest.raises(InputError, match=f"^an empty grid: no {name}"):
        cells_of(read_grid({other: value for other, value in ASKED.items() if other != name}))


def test_an_empty_list_of_grids() -> None:
    with pytest.raises(InputError, match=r"^an empty grid: cells holds no tables$"):
        cells(cells=[])


@pytest.mark.parametrize("more", [{"compressed_slots": [0, 9]}])
def test_compressed_slots_hold_something_compressed(more: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^--compressed-slots 9: 0, or more together with --home-format, expected"):
        cells(**more)


def test_one_number_at_a_time_leaves_a_cell_that_fails_to_its_row() -> None:
    asked = {name: value for name, value in ASKED.items() if name != "slots"} | {
        "vram": ["1000B", "3GiB"],
        "batch": [1, 2],
    }
    found = cells_of(read_grid(asked | {"one-at-a-time": 0.2}))
    assert [one for one in found if not one.scales] == cells_of(read_grid(asked))
    assert {(one.vram, one.batch) for one in found if one.scales} == {(3 << 30, 1), (3 << 30, 2)}


def test_a_name_that_one_of_the_profiles_has_is_no_mistake() -> None:
    found = cells(profile=["rtx3090", "h100-sxm5-80gb"], set={"link.interference": 0.1})
    assert len(found) == 2


CELLS = st.lists(
    st.builds(
        lambda name, slots, rate, link, batch: cell(name, {LINK: rate}, slots=slots, link=link, batch=batch),
        st.sampled_from(["static", "lookahead", "belady"]),
        st.sampled_from([6, 60, None]),
        st.sampled_from([1e9, 2e9, 3e9]),
        st.sampled_from(["fifo", "priority"]),
        st.sampled_from([1, 2]),
    ),
    unique=True,
    max_size=60,
)


@given(CELLS, st.integers(1, 9))
def test_units_hold_every_cell_once_and_only_what_belongs_together(asked: list[RunConfig], workers: int) -> None:
    found = units_of(asked, workers)
    assert sorted(map(repr, (one for unit in found for one in unit))) == sorted(map(repr, asked))
    for unit in found:
        assert len({(one.routing, one.slots, one.link) for one in unit}) == 1
    weights = [job._weight(unit) for unit in found]
    assert all(one >= other for one, other in pairwise(weights))


def test_one_decision_is_made_in_one_unit_however_many_work() -> None:
    asked = [cell(name, {LINK: rate}) for rate in (1e9, 2e9, 3e9) for name in ("static", "lookahead", "belady")]
    for workers in (1, 2, 8):
        made = [
            one.policy for unit in units_of(asked, workers) for one in {each.policy: each for each in unit}.values()
        ]
        assert sorted(made) == ["belady", "lookahead", "static"]
    assert len(units_of(asked, 8)) == 3


def test_units_are_small_enough_to_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [cell("static", {LINK: 1e9 + rate}, link=link) for rate in range(100) for link in ("fifo", "chunked")]
    monkeypatch.setattr(job, "RETIMED_CELLS", 30)
    found = units_of(asked, 1)
    assert max(len(unit) for unit in found if unit[0].link == "fifo") == 30
    assert max(len(unit) for unit in found if unit[0].link == "chunked") == job.ENGINE_CELLS


def test_units_are_small_where_the_engine_times_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "compiled", lambda: False)
    found = units_of([cell("static", {LINK: 1e9 + rate}) for rate in range(100)], 1)
    assert max(map(len, found)) == job.ENGINE_CELLS


def test_no_units_of_no_cells() -> None:
    assert units_of([], 4) == []
