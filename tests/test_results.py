"""Results: the summary by hand, files, comparison; and what whole runs must agree on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specmoe.errors import InputError
from specmoe.results import COLUMNS, DECISIONS, METADATA_KEY, OF_MISSES, Manifest, RunResult, latencies, same_decisions
from specmoe.sim.config import Home, RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.run import Scenario
from specmoe.sim.timing.bounds import fewest_loads
from specmoe.summary import LINES, summary

RUNNABLE = [  # no network was trained, and neither uses on the CPU nor changed ones are timed
    name
    for name, row in POLICIES.items()
    if not (row.predictor.startswith("learned-") or row.uses_cpu or row.approximate)
]
MANIFEST = Manifest(
    trace="t",
    trace_kind="random",
    phase="decode",
    policy="p",
    parameters={"prefetch": {"limit": 2}, "predict_ns": 9, "set": ["a=1"]},
    profile="m",
    shape="s",
    format="fp16",
    semantics="event-atomic",
    slots=3,
    batch=2,
    num_layers=2,
    expert_bytes=100,
    vram_peak_bytes=1234,
    evidence="assumed",
    yardstick=False,
    assumed=("x", "y"),
    warnings=("w",),
    style="separate",
    dense_format="int8",
    bounds={"floor_ns": 1, "oracle_ns": 2, "ceiling_ns": 3, "link_ns": 4},
    hashes={"trace": "00"},
    versions={"specmoe": "0"},
    domains=("prose",),
)
TABLE = {  # two steps of two layers
    "step": [0, 0, 1, 1],
    "layer": [0, 1, 0, 1],
    "tokens": [2, 2, 1, 1],
    "demands": [2, 2, 1, 1],
    "hits": [0, 1, 1, 0],
    "demand_loads": [2, 1, 0, 1],
    "prefetch_loads": [1, 2, 0, 0],
    "prefetch_useful": [1, 1, 0, 0],
    "prefetch_wasted": [0, 1, 0, 0],
    "cpu_uses": [0, 0, 0, 0],
    "cpu_tokens": [0, 0, 0, 0],
    "later_loads": [0, 0, 0, 0],
    "later_useful": [0, 0, 0, 0],
    "dropped_uses": [0, 0, 0, 0],
    "low_uses": [0, 0, 0, 0],
    "deferred_uses": [0, 0, 0, 0],
    "changed_mass": [0, 0, 0, 0],
    "late_hits": [0, 1, 0, 0],
    "bytes_loaded": [300, 300, 0, 100],
    "bytes_wasted": [0, 100, 0, 0],
    "begin_ns": [0, 40, 100, 130],
    "end_ns": [40, 100, 130, 250],
    "compute_ns": [25, 26, 27, 28],
    "host_ns": [10, 11, 12, 13],
    "stall_ns": [5, 0, 0, 7],
    "link_ns": [30, 30, 0, 10],
    "cpu_ns": [0, 9, 0, 0],
    "cpu_stall_ns": [0, 2, 0, 0],
}
PINNED: dict[str, Any] = {  # what --json promises: every name with its type
    "trace": str,
    "source": str,
    "train_source": str,
    "policy": str,
    "profile": str,
    "shape": str,
    "format": str,
    "style": str,
    "dense_format": str,
    "slots": int,
    "context": int,
    "kv_format": str,
    "batch": int,
    "threads": int,
    "link": str,
    "host_set": str,
    "tier": str,
    "home_format": str,
    "compressed_slots": int,
    "steps": int,
    "tokens": int,
    "warm_up_steps": int,
    "cold_step_ns": int,  # or null, without a warm-up
    "latency_mean_ns": int,
    "latency_p50_ns": int,
    "latency_p95_ns": int,
    "latency_p99_ns": int,
    "latency_max_ns": int,
    "latency_sem_ns": int,  # or null, of a single step
    "moe_layer_ns": int,
    "tokens_per_second": float,
    "first_token_ns": int,  # or null, of a run without prefills
    "decode_tokens_per_second": float,  # likewise
    "demands": int,
    "hits": int,
    "late_hits": int,
    "misses": int,
    "demand_loads": int,
    "prefetch_loads": int,
    "prefetch_useful": int,
    "prefetch_wasted": int,
    "bytes_loaded": int,
    "bytes_wasted": int,
    "cpu_uses": int,
    "cpu_tokens": int,
    "later_loads": int,
    "later_useful": int,
    "dropped_uses": int,
    "low_uses": int,
    "deferred_uses": int,
    "changed_mass": int,
    "cpu_share": float,
    "changed_share": float,
    "changed_mass_share": float,
    "hit_rate": float,
    "precision": float,  # or null, as the next two
    "recall": float,
    "break_even_precision": float,
    "predict_ns": int,
    "compute_ns": int,
    "stall_ns": int,
    "host_ns": int,
    "link_busy_ns": int,
    "cpu_ns": int,
    "cpu_stall_ns": int,
    "floor_ns": int,
    "oracle_ns": int,
    "ceiling_ns": int,
    "link_ns": int,
    "cpu_only_ns": int,  # or null, where the profile has no CPU, as the next
    "link_and_cpu_ns": int,
    "vram_peak_bytes": int,
    "expert_bytes": int,
    "num_layers": int,
    "cliff_slots": int,
    **dict.fromkeys(LINES, int),  # or null, in a file of version 0.1.0
    "yardstick": bool,
    "fits": bool,
    **dict.fromkeys(("draws", "seed", "step_p5_ns", "step_p50_ns", "step_p95_ns"), int),
    **dict.fromkeys(("tokens_per_second_p5", "tokens_per_second_p95", "fastest_share"), float),
    **dict.fromkeys(("drawn_step_ns", "unknown", "unknown_effect"), list),
    "cell": str,
    "trace_kind": str,
    "phase": str,
    "semantics": str,
    "evidence": str,
    "expected_error": float,  # or null, in a file of version 0.1.0
    "validated": bool,
    "error_basis": str,
    "domains": list,
    "ratio_error": float,  # likewise
    "staggered": bool,
    "assumed": list,
    "warnings": list,
    "timed_by": str,
    "error": str,
    "set.a": float,  # a value that was set
    "parameters": dict,
}


TABLE_ARRAYS = {name: np.array(column, np.int64) for name, column in TABLE.items()}


def result(**changes: list[int]) -> RunResult:
    table = {name: np.array(column, np.int64) for name, column in (TABLE | changes).items()}
    return RunResult(table, MANIFEST)


MAY_BE_NULL = ("precision", "recall", "break_even_precision", "cold_step_ns", "latency_sem_ns", "expected_error")
MAY_BE_NULL += ("ratio_error", "first_token_ns", "decode_tokens_per_second")
MAY_BE_NULL += ("cpu_only_ns", "link_and_cpu_ns")
MAY_BE_NULL += ("draws", "seed", "step_p5_ns", "step_p50_ns", "step_p95_ns")
MAY_BE_NULL += ("tokens_per_second_p5", "tokens_per_second_p95", "fastest_share")
MAY_BE_NULL += ("cpu_only_ns", "link_and_cpu_ns", *LINES)


def types_of(value: Any) -> Any:
    """Types of an object's values."""
    shown = {name: type(part) for name, part in value.items()}
    return shown | {name: PINNED[name] for name in MAY_BE_NULL if value[name] is None}


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario(RunConfig("switch-mini-128/decode/test", slots=40, steps=60, warm_up=0))


SUMMARY = {
    "trace": MANIFEST.trace,
    "source": "",
    "train_source": "",
    "policy": MANIFEST.policy,
    "profile": "m",
    "shape": "s",
    "format": "fp16",
    "style": "separate",
    "dense_format": "int8",
    "slots": 3,
    "context": 0,
    "kv_format": "f16",
    "batch": 2,
    "threads": 0,
    "link": "fifo",  # as nothing else is in the parameters
    "host_set": "graph",
    "tier": "host-pinned",
    "home_format": "",
    "compressed_slots": 0,
    "steps": 2,
    "tokens": 3,
    "warm_up_steps": 0,
    "cold_step_ns": None,
    "latency_mean_ns": 125,
    "latency_p50_ns": 125,
    "latency_p95_ns": 147,
    "latency_p99_ns": 149,
    "latency_max_ns": 150,
    "latency_sem_ns": 25,  # steps of 100 and 150: a deviation of 35.4, over the root of 2
    "moe_layer_ns": 62,  # 62.5 rounds to even
    "tokens_per_second": 3 / 250e-9,
    "first_token_ns": None,
    "decode_tokens_per_second": None,
    "demands": 6,
    "hits": 2,
    "late_hits": 1,
    "misses": 4,
    "hit_rate": 2 / 6,
    "demand_loads": 4,
    "prefetch_loads": 3,
    "prefetch_useful": 2,
    "prefetch_wasted": 1,
    "precision": 2 / 3,
    "recall": 2 / 6,
    "bytes_loaded": 700,
    "bytes_wasted": 100,
    "cpu_uses": 0,
    "cpu_tokens": 0,
    "later_loads": 0,
    "later_useful": 0,
    "dropped_uses": 0,
    "low_uses": 0,
    "deferred_uses": 0,
    "changed_mass": 0,
    "cpu_share": 0.0,
    "changed_share": 0.0,
    "changed_mass_share": 0.0,
    "predict_ns": 9,
    "compute_ns": 106,
    "stall_ns": 12,
    "link_busy_ns": 70,
    "cpu_ns": 9,
    "cpu_stall_ns": 2,
    "host_ns": 46,
    "floor_ns": 1,
    "oracle_ns": 2,
    "ceiling_ns": 3,
    "link_ns": 4,
    "cpu_only_ns": None,  # as the bounds have none
    "link_and_cpu_ns": None,
    "break_even_precision": None,
    "vram_peak_bytes": 1234,
    "expert_bytes": 100,
    "num_layers": 2,
    **dict.fromkeys(LINES),
    "cliff_slots": 1,  # 6 demands in 4 events
    "yardstick": False,
    "fits": False,
    **dict.fromkeys(("draws", "seed", "step_p5_ns", "step_p50_ns", "step_p95_ns")),
    **dict.fromkeys(("tokens_per_second_p5", "tokens_per_second_p95", "fastest_share")),
    **{name: [] for name in ("drawn_step_ns", "unknown", "unknown_effect")},
    "expected_error": None,
    "validated": False,
    "error_basis": "",
    "ratio_error": None,
    "trace_kind": MANIFEST.trace_kind,
    "phase": MANIFEST.phase,
    "semantics": "event-atomic",
    "evidence": "assumed",
    "domains": ["prose"],
    "staggered": False,
    "assumed": ["x", "y"],
    "warnings": ["w"],
    "cell": "",
    "timed_by": "engine",
    "error": "",
    "set.a": 1.0,
    "parameters": MANIFEST.parameters,
}


def test_summary_by_hand() -> None:
    assert summary(result()) == SUMMARY


def test_summary_of_steps_without_any_demand() -> None:
    nothing = [0] * 4
    found = summary(result(demands=nothing, hits=nothing))
    assert (found["hit_rate"], found["misses"]) == (1.0, 0)


def test_uses_on_the_cpu_are_misses_that_are_not_loaded() -> None:
    found = summary(
        result(cpu_uses=[1, 0, 0, 1], cpu_tokens=[3, 0, 0, 1], demand_loads=[1, 1, 0, 0], later_loads=[1, 0, 0, 1])
    )
    assert (found["hits"], found["demand_loads"], found["cpu_uses"], found["misses"]) == (2, 2, 2, 4)
    assert (found["cpu_tokens"], found["cpu_share"], found["later_loads"]) == (4, 2 / 6, 2)


def test_changed_uses_are_shares_of_demands_and_of_router_weight() -> None:
    """6 demands, and tokens of 2 layers and 2 steps with weight 2 + 2 + 1 + 1."""
    found = summary(result(dropped_uses=[1, 0, 0, 0], low_uses=[0, 1, 0, 0], changed_mass=[900_000, 600_000, 0, 0]))
    assert (found["dropped_uses"], found["low_uses"], found["deferred_uses"]) == (1, 1, 0)
    assert (found["changed_share"], found["changed_mass_share"]) == (2 / 6, 0.25)


def test_no_prefetches_have_no_precision_and_no_loads_no_recall() -> None:
    nothing = [0] * 4
    found = summary(result(prefetch_loads=nothing, prefetch_useful=nothing, prefetch_wasted=nothing))
    assert (found["precision"], found["recall"]) == (None, 0.0)
    found = summary(result(prefetch_loads=nothing, prefetch_useful=nothing, demand_loads=nothing))
    assert (found["precision"], found["recall"]) == (None, None)


def test_a_break_even_that_was_asked_for_is_in_the_summary(tmp_path: Path) -> None:
    made = RunResult(result().table, dataclasses.replace(MANIFEST, break_even_precision=0.25))
    made.save(tmp_path / "r.parquet")
    assert summary(RunResult.load(tmp_path / "r.parquet"))["break_even_precision"] == 0.25
    assert summary(result())["break_even_precision"] is None


def test_the_json_names_and_types_are_the_promised_ones() -> None:
    assert types_of(json.loads(json.dumps(summary(result())))) == PINNED
    assert list(summary(result())) == list(PINNED)


def test_figures_leave_the_warm_up_out() -> None:
    """The table by hand with a warm-up of its first step: all figures are those of the second."""
    warm = RunResult(result().table, dataclasses.replace(MANIFEST, warm_up_steps=1))
    second = {
        name: column[2:] - (100 if name in ("begin_ns", "end_ns") else 0) for name, column in TABLE_ARRAYS.items()
    }
    found, alone = summary(warm), summary(RunResult(second, MANIFEST))
    assert (found.pop("warm_up_steps"), found.pop("cold_step_ns")) == (1, 100)
    assert found == {name: value for name, value in alone.items() if name not in ("warm_up_steps", "cold_step_ns")}
    assert (found["steps"], found["latency_mean_ns"], found["stall_ns"]) == (1, 150, 7)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [({"predictor": "lookahead"}, False), ({"eviction": "belady-bypass"}, True), ({"sharing": "all-resident"}, True)],
)
def test_a_result_of_the_first_version_is_read(tmp_path: Path, parameters: dict[str, str], expected: bool) -> None:
    old = {k: v for k, v in dataclasses.asdict(MANIFEST).items() if k != "yardstick"} | {"parameters": parameters}
    table = pa.table({name: column for name, column in result().table.items() if name not in OF_MISSES})
    table = table.replace_schema_metadata({b"specmoe": json.dumps(old).encode()})
    pq.write_table(table, tmp_path / "old.parquet")
    loaded = RunResult.load(tmp_path / "old.parquet")
    assert loaded.manifest.yardstick is expected
    assert list(loaded.table) == list(COLUMNS)
    assert not any(loaded.table[name].any() for name in OF_MISSES)


def test_saved_and_loaded(tmp_path: Path) -> None:
    result().save(tmp_path / "r.parquet")
    loaded = RunResult.load(tmp_path / "r.parquet")
    assert loaded.manifest == MANIFEST
    assert list(loaded.table) == list(COLUMNS)
    assert {name: column.tolist() for name, column in loaded.table.items()} == TABLE
    assert summary(loaded) == summary(result())
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]


@pytest.mark.parametrize("name", DECISIONS)
def test_results_of_other_decisions_are_not_compared(name: str) -> None:
    other = [*TABLE[name][:-1], TABLE[name][-1] + 1]
    with pytest.raises(InputError, match=f"decisions differ in {name}"):
        same_decisions(result(), result(**{name: other}))


def test_results_of_the_same_decisions_may_differ_in_times() -> None:
    other = result(late_hits=[0] * 4, stall_ns=[0] * 4, end_ns=[1, 2, 3, 4])
    same_decisions(result(), other)
    assert summary(other)["stall_ns"] != summary(result())["stall_ns"]


def test_results_of_different_length_are_not_compared() -> None:
    with pytest.raises(InputError, match="decisions differ in step"):
        same_decisions(result(), result(**{name: column[:2] for name, column in TABLE.items()}))


def _write(path: Path, table: dict[str, Any], metadata: Any) -> None:
    pq.write_table(pa.table(table).replace_schema_metadata(metadata), path)


def _manifest(**changes: Any) -> dict[bytes, bytes]:
    return {METADATA_KEY: json.dumps(dataclasses.asdict(MANIFEST) | changes).encode()}


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: None,
    "a directory": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("no\nparquet\n"),
    "another Parquet file": lambda path: _write(path, {"a": [1]}, {}),
    "no JSON": lambda path: _write(path, TABLE, {METADATA_KEY: b"{"}),
    "a list": lambda path: _write(path, TABLE, {METADATA_KEY: b"[]"}),
    "an unknown field": lambda path: _write(path, TABLE, _manifest(extra=1)),
    "a field missing": lambda path: _write(path, TABLE, {METADATA_KEY: b"{}"}),
    "a column missing": lambda path: _write(path, {"step": [0]}, _manifest()),
    "a column of text": lambda path: _write(path, TABLE | {"hits": list("abcd")}, _manifest()),
    "a column of fractions": lambda path: _write(path, TABLE | {"hits": [0.5] * 4}, _manifest()),
    "a column with nulls": lambda path: _write(path, TABLE | {"hits": [None, 1, 1, 1]}, _manifest()),
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_one_line(make: Callable[[Path], Any], tmp_path: Path) -> None:
    make(tmp_path / "r.parquet")
    with pytest.raises(InputError, match="not a result of specmoe") as caught:
        RunResult.load(tmp_path / "r.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["bounds", "budget"])
def test_lines_of_a_manifest_are_numbers(field: str, tmp_path: Path) -> None:
    RunResult(result().table, dataclasses.replace(MANIFEST, **{field: {"floor_ns": [1]}})).save(tmp_path / "r.parquet")
    with pytest.raises(InputError, match="not a result of specmoe"):
        RunResult.load(tmp_path / "r.parquet")


def test_a_trace_is_not_a_result(make_trace: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="not a result of specmoe"):
        RunResult.load(make_trace())


def test_a_truncated_result(tmp_path: Path) -> None:
    result().save(tmp_path / "r.parquet")
    (tmp_path / "r.parquet").write_bytes((tmp_path / "r.parquet").read_bytes()[:-40])
    with pytest.raises(InputError, match="not a result of specmoe"):
        RunResult.load(tmp_path / "r.parquet")


# Whole runs


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_runs_figures_add_up(name: str, scenario: Scenario) -> None:
    run = scenario.run(name)
    found = summary(run.result)
    assert types_of(json.loads(json.dumps(found)) | {"set.a": 1.0}) == PINNED
    assert found["hits"] + found["misses"] == found["demands"] == 60 * 6
    assert found["misses"] == found["demand_loads"]
    assert found["late_hits"] <= found["hits"]
    assert found["prefetch_useful"] + found["prefetch_wasted"] == found["prefetch_loads"]
    assert found["bytes_loaded"] == len(run.decisions.loads.key) * scenario.expert_bytes
    assert found["bytes_wasted"] == found["prefetch_wasted"] * scenario.expert_bytes
    assert found["link_busy_ns"] == sum(run.durations.copy)
    assert latencies(run.result).sum() == run.timing.step_end[-1]
    assert (latencies(run.result) == np.diff(run.timing.step_end, prepend=0)).all()
    assert run.result.table["begin_ns"].tolist()[1:] == run.result.table["end_ns"].tolist()[:-1]
    assert found["compute_ns"] + found["stall_ns"] <= latencies(run.result).sum()
    assert found["floor_ns"] <= found["latency_mean_ns"]
    assert max(found["floor_ns"], found["link_ns"]) <= found["oracle_ns"]
    if not found["prefetch_loads"]:
        assert found["latency_mean_ns"] <= found["ceiling_ns"]


def test_the_named_bounds_are_the_results_of_their_policies(scenario: Scenario) -> None:
    means = {name: summary(scenario.run(name).result)["latency_mean_ns"] for name in ("gpu-only", "oracle")}
    bounds = scenario.run("on-demand").result.manifest.bounds
    assert bounds["oracle_ns"] == means["oracle"]
    assert bounds["floor_ns"] <= means["gpu-only"]  # in its style, or in that of the others
    assert scenario.run("gpu-only").result.manifest.bounds == bounds


def test_everything_resident_is_all_experts_whatever_the_slots(scenario: Scenario) -> None:
    manifest = scenario.run("gpu-only").result.manifest
    assert manifest.slots == 6 * 128
    assert manifest.vram_peak_bytes == scenario.dense_bytes + 6 * 128 * scenario.expert_bytes


def test_bounds_with_experts_compressed_at_home_and_some_of_them_in_vram() -> None:
    home = Home(format="int4", compressed_slots=30)
    slow = {"dequantise.int4.rate": 1e9}  # expanding counts more than all that a host hides
    scenario = Scenario(
        RunConfig(
            "switch-mini-128/decode/test",
            format="fp16",
            slots=20,
            steps=40,
            warm_up=0,
            home=home,
            settings=tuple(slow.items()),
        )
    )
    bounds, copy = scenario.bounds(20), scenario.costs.load_ns("host-pinned", "int4")
    assert bounds["link_ns"] == round(fewest_loads(scenario.routed.workload, 50) * copy / 40)
    for name in ("on-demand", "on-demand-lru", "belady"):
        mean = summary(scenario.run(name).result)["latency_mean_ns"]
        assert max(bounds["floor_ns"], bounds["link_ns"]) <= mean <= bounds["ceiling_ns"]
    compressed = scenario.shape.expert_bytes("int4")
    whole = scenario.dense_bytes + 20 * scenario.expert_bytes + 30 * compressed
    assert scenario.run("on-demand").result.manifest.vram_peak_bytes == whole
    loaded = scenario.run("on-demand").result.table["bytes_loaded"].sum()
    assert loaded % compressed == 0
    assert loaded < 40 * 6 * compressed  # some were found in VRAM


@pytest.fixture(scope="module")
def machines() -> list[Scenario]:
    """The same workload on three machines; they share nothing."""
    spec = RunConfig("switch-mini-128/decode/test", slots=40, steps=8)
    return [
        Scenario(dataclasses.replace(spec, profile=profile))
        for profile in ("rtx3090", "h100-sxm5-80gb", "a100-sxm4-80gb")
    ]


@pytest.mark.parametrize("name", RUNNABLE)
def test_decisions_are_the_same_on_every_machine(name: str, machines: list[Scenario]) -> None:
    results = [scenario.run(name).result for scenario in machines]
    for other in results[1:]:
        same_decisions(results[0], other)
    assert len({int(latencies(one).sum()) for one in results}) == len(machines)


def test_a_run_is_repeatable_to_the_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        spec = RunConfig("switch-mini-128/decode/test", slots=40, steps=20)
        Scenario(spec).run("lookahead").result.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_slots_given_to_a_run_count_for_its_bounds(scenario: Scenario) -> None:
    few, many = (scenario.run("on-demand-lru", slots).result.manifest for slots in (10, 600))
    assert (few.slots, many.slots) == (10, 600)
    assert few.bounds["link_ns"] > many.bounds["link_ns"]
    assert few.bounds["oracle_ns"] > many.bounds["oracle_ns"]


def test_the_manifest_says_what_was_chosen() -> None:
    spec = RunConfig(
        "switch-mini-128/decode/test",
        slots=40,
        steps=5,
        link="priority",
        host_set="eager",
        settings=(
            ("prefetch.limit", 3),
            ("host.eager.issue", 12345),
        ),
    )
    manifest = Scenario(spec).run("lookahead").result.manifest
    assert manifest.parameters["prefetch"]["limit"] == 3
    assert manifest.parameters["link"] == "priority"
    assert manifest.parameters["host_set"] == "eager"
    assert manifest.parameters["set"] == ["prefetch.limit=3", "host.eager.issue=12.345us"]
    assert "host.eager.issue" in manifest.assumed
    assert set(manifest.hashes) == {"trace", "profile", "shape"}
