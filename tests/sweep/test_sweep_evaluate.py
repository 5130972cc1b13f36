"""Rows of a sweep against single runs: the same integers, whoever times them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import BASE, LINK, cell, expected

from specmoe.analysis.point import point
from specmoe.hwprofiles.kernels import Style
from specmoe.sim import setting
from specmoe.sim.claims import is_yardstick
from specmoe.sim.config import Home, RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.routing import Routing
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.store import Predictions
from specmoe.sim.sweep import retiming
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.summary import FIGURES, KEYS, ORIGIN

OWN = ("cliff_slots", "yardstick", "cell", "timed_by", "error")  # told by no summary
NAMES = [name for name in (*KEYS, *FIGURES, *ORIGIN) if name not in OWN]
H100 = "h100-sxm5-80gb"


def require_same(row: dict[str, Any], one: RunConfig) -> None:
    """A row says what a run of its cell alone says."""
    known = expected(one)
    assert {name: row[name] for name in NAMES} == {name: known[name] for name in NAMES}
    assert row["error"] == ""


TRIED = (
    "gpu-only",
    "oracle",
    "belady",
    "on-demand",
    "on-demand-lru",
    "static",
    "lookahead",
    "mixtral-offloading",
    "token-identity",
    "adaptive",
    "pregated",
    "noisy-oracle",
)


def test_policies_on_two_machines_each_as_alone() -> None:
    cells = [cell(name, {LINK: rate}) for name in TRIED for rate in (3e9, 30e9)]
    rows = evaluate(cells)
    assert {row["timed_by"] for row in rows} == {"re-timer"}
    assert [(row["policy"], row[f"set.{LINK}"]) for row in rows] == [(one.policy, one.settings[0][1]) for one in cells]
    for one, row in zip(cells, rows, strict=True):
        require_same(row, one)


UNLIKE = [
    cell("lookahead", home=Home("nvme")),
    cell("lookahead", home=Home("host-pinned", "int4", 40)),
    cell("oracle", home=Home("host-pageable", "int8", 0)),
    cell("transition", batch=4),
    cell("lookahead", batch=4, host_set="eager", format="int8"),
    cell("lookahead", slots=None, vram=3 << 30),
    cell("gpu-only", slots=None),
    cell("lookahead", {"prefetch.limit": 3, "eviction": "lfu", "prefetch.after_launch": True}),
    cell("transition", {"assumed_predict_ns": 50_000}),
    cell("noisy-oracle", {"predictor.assumed_precision": 0.5}),
    cell("lookahead", profile=H100, scales=((LINK, 0.5), ("expert.speed", 2))),
    cell("lookahead", {LINK: 2e10, "link.interference": 0.2}, profile=H100),
    cell("on-demand", shape="mixtral-8x7b"),
    cell("lookahead", trace="switch-mini-128/encode/test", steps=3),
    cell("lookahead", slots=6),
    cell("on-demand-lru", train="switch-mini-128/decode/test"),
    cell("lookahead", link="priority"),
    cell("lookahead", {LINK: 2e9}, link="chunked"),
    cell("prefetch-all", link="priority", profile=H100, steps=3),
    cell("lookahead", style=Style("fused", "grouped"), batch=4),
    cell("lookahead", style=Style("fused", "grouped-wait"), batch=4, profile=H100),
    cell("mixtral-offloading", style=Style("expand", "grouped"), format="int8", dense_format="int8"),
    cell("gpu-only", style=Style("fused", "separate")),
    cell("gpu-only", style=Style("fused", "grouped"), batch=4),
    cell("on-demand-lru", style=Style("fused", "grouped"), batch=4, home=Home("host-pinned", "int4", 40)),
    cell("lookahead", style=Style("fused", "grouped"), batch=4, slots=5),
    cell("lookahead", style=Style("fused", "grouped"), link="priority", batch=4),
]


def test_cells_that_share_nothing_or_little() -> None:
    rows = evaluate(UNLIKE)
    for one, row in zip(UNLIKE, rows, strict=True):
        require_same(row, one)
        assert row["timed_by"] == ("re-timer" if one.link == "fifo" else "engine")


def test_compressed_slots_of_many_numbers_beside_each_other() -> None:
    cells = [cell(slots=20, steps=200, home=Home("host-pinned", "int4", number)) for number in (8, 0, 99)]
    rows = evaluate(cells)
    for one, row in zip(cells, rows, strict=True):
        require_same(row, one)
    assert len({row["latency_mean_ns"] for row in rows}) == 2  # 8 are too few to be asked again


def test_warnings_come_along() -> None:
    rows = evaluate([cell("prefetch-all", {LINK: 1e9}, slots=640, steps=3), cell(slots=4), cell(train=BASE.trace)])
    for row, told in zip(rows, ("the link is saturated", "its cliff", "learnt from the very trace"), strict=True):
        assert sum(told in warning for warning in row["warnings"]) == 1


def test_without_a_compiler_the_engine_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [cell("lookahead", {LINK: rate}) for rate in (3e9, 30e9)]
    fast = evaluate(cells)
    monkeypatch.setitem(sys.modules, "numba", None)
    slow = evaluate(cells)
    assert {row["timed_by"] for row in slow} == {"engine"}
    assert [row | {"timed_by": ""} for row in slow] == [row | {"timed_by": ""} for row in fast]


def test_bounds_that_nobody_wants_are_none_and_change_nothing() -> None:
    cells = [cell("lookahead"), cell(style=Style("fused", "grouped"))]
    rows = evaluate(cells, bounds=("floor_ns", "link_ns"))
    unwanted = dict.fromkeys(("oracle_ns", "cpu_only_ns", "link_and_cpu_ns"))
    assert rows == [row | unwanted for row in evaluate(cells)]
    assert [row["floor_ns"] for row in evaluate(cells, bounds=())] == [None, None]


def test_passes_of_few_variants_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [cell("lookahead", {LINK: rate * 1e9}) for rate in range(3, 10)]
    together = evaluate(cells)
    monkeypatch.setattr(retiming, "MOST_STEPS", 100)  # of 40 steps each: two at once
    assert evaluate(cells) == together


def test_the_order_of_cells_is_that_of_rows_and_changes_none() -> None:
    cells = [
        cell(name, slots=slots, format=held) for name in TRIED[4:7] for slots in (20, 60) for held in ("fp16", "int8")
    ]
    mixed = cells[::-5] + [one for number, one in enumerate(cells[::-1]) if number % 5]
    known = dict(zip(cells, evaluate(cells), strict=True))
    assert evaluate(mixed) == [known[one] for one in mixed]


def test_predicted_once_and_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    decided: list[tuple[str, int]] = []
    make, decide, fewest_loads = Predictions.fitted, Routing.decide, Routing.fewest_loads

    def count_predictions(self: Predictions, predictor: Any) -> Any:
        made.append(type(predictor).__name__)
        return make(self, predictor)

    def count_decisions(self: Routing, chosen: Any, slots: int, sizes: Any = None) -> Any:
        decided.append((chosen.name, slots))
        return decide(self, chosen, slots, sizes)

    def count_bounds(self: Routing, slots: int, *others: Any) -> list[int]:
        decided.append(("belady", slots))
        return fewest_loads(self, slots, *others)

    monkeypatch.setattr(Routing, "fewest_loads", count_bounds)
    monkeypatch.setattr(Predictions, "fitted", count_predictions)
    monkeypatch.setattr(Routing, "decide", count_decisions)
    axes = [(slots, held, rate) for slots in (20, 60) for held in ("fp16", "int8") for rate in (3e9, 30e9)]
    evaluate([cell("transition", {LINK: rate}, slots=slots, format=held) for slots, held, rate in axes])
    assert made.count("Transition") == 1
    assert sorted(decided) == sorted(
        [
            ("gpu-only", 6 * 128),
            *((name, slots) for slots in (20, 60) for name in ("belady", "on-demand", "oracle", "transition")),
        ]
    )


def test_predictions_are_kept_where_told(tmp_path: Path) -> None:
    cells = [cell("transition")]
    first = evaluate(cells, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("transition-")
    assert evaluate(cells, tmp_path) == first


def test_progress_counts_every_cell() -> None:
    done: list[int] = []
    evaluate([cell(), cell("nope"), cell(link="priority")], on_cell=done.append)
    assert done == [1, 2, 3]


def test_no_cells() -> None:
    assert evaluate([]) == []


BAD = {
    "policy 'nope'": cell("nope"),
    "nowhere: neither a file nor a bundled trace": cell(trace="nowhere"),
    "batch 0": cell(batch=0),
    "leaves no expert slot in 0.00 GiB of VRAM": cell(slots=None, vram=5),
    "no such profile": cell(profile="gtx"),
    "no such model shape": cell(shape="gpt"),
    "--set hots": cell(settings={"hots": 1}),
    "did you mean 'expert.speed'": cell(scales=(("expert.sped", 1),)),
    "format 'fp1': did you mean 'fp16'": cell(format="fp1"),
    "int8 at home is expanded to fp16: --format fp16 expected": cell(format="bf16", home=Home(format="int8")),
    "not simulated for experts on NVMe": cell(home=Home("nvme"), link="priority"),
    "--set eviction=lur": cell(settings={"eviction": "lur"}),
    "at most 1": cell(settings={"gemm.fp16.efficiency": 2}),
    "no setting of a policy": cell(settings={"link.interference": 0.1}),  # which this profile has not
}


def test_what_fails_is_a_row_that_says_why_and_spoils_no_other() -> None:
    good = cell("lookahead", {LINK: 3e9})
    cells = [part for bad in BAD.values() for part in (bad, good)]
    rows = evaluate(cells)
    for words, one, row in zip(BAD, BAD.values(), rows[::2], strict=True):
        assert words in row["error"]
        assert "\n" not in row["error"]
        assert row["policy"] == one.policy
        assert not any(row[name] for name in FIGURES)
        assert set(row) >= {*KEYS, *FIGURES, *ORIGIN}
    assert {row["error"] for row in rows[1::2]} == {""}
    assert all(row == rows[1] for row in rows[1::2])


def test_a_machine_that_cannot_be_timed_does_not_spoil_its_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = setting.durations_of

    def broken(workload: Any, table: Any, costs: Any, *more: Any) -> Any:
        if costs.profile["host_to_device.pinned.bandwidth"] == 4e9:
            raise ZeroDivisionError("by\nzero")
        return honest(workload, table, costs, *more)

    cells = [cell(name, {LINK: rate}) for name in TRIED[4:6] for rate in (3e9, 4e9, 5e9)]
    alone = evaluate(cells)
    monkeypatch.setattr(setting, "durations_of", broken)
    rows = evaluate(cells)
    assert [row["error"] for row in rows] == ["", "ZeroDivisionError: by", ""] * 2
    assert [row for row in rows if not row["error"]] == [row for row in alone if row[f"set.{LINK}"] != 4e9]


def test_yardsticks_are_those_of_the_figures() -> None:
    scenario = Scenario(cell(steps=1))
    names = [name for name, row in POLICIES.items() if "learned" not in name and not row.uses_cpu]  # torch; not timed
    found = {name: point(scenario.run(name).result).yardstick for name in names}
    assert {name: is_yardstick(POLICIES[name]) for name in names} == found
    assert set(found.values()) == {True, False}


def test_an_lru_hits_nothing_up_to_the_cliff() -> None:
    (row,) = evaluate([cell(steps=400)])
    cliff = row["cliff_slots"]
    assert cliff == row["demands"] * (row["num_layers"] - 1) // (row["steps"] * row["num_layers"]) == 5
    below, above = evaluate([cell(slots=slots, steps=400) for slots in (cliff, cliff + 1)])
    assert (below["hits"], above["hits"] > 0) == (0, True)
