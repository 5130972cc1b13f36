"""The published error is what committed replays, profiles and simulator give; the page says what the files say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from doc_pages import builder_of

from specmoe.hwprofiles import load_profile
from specmoe.sim import run
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.routing import Routing
from specmoe.validate.fidelity import TARGETS, overall
from specmoe.validate.grid import grid
from specmoe.validate.store import load, read_steps, verdict

DOCS = Path(__file__).parent.parent / "docs"
HOME = DOCS.parent / "validation"
PROFILES = ("h100-sxm5-80gb", "h200-sxm-141gb")


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return builder_of("validation")


@pytest.fixture(scope="module", autouse=True)
def decided_once() -> Iterator[None]:
    """No machine changes what is decided (`tests/test_results.py`): all of them are given the same tables."""
    tables: dict[Any, DecisionTable] = {}
    decide = Routing.decide

    def known(routing: Routing, chosen: Policy, slots: int, *sizes: Any) -> DecisionTable:
        key = (id(routing), repr(chosen), slots, repr(sizes))
        if key not in tables:
            tables[key] = decide(routing, chosen, slots, *sizes)
        return tables[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Routing", cache(Routing))
        patch.setattr(Routing, "decide", known)
        yield


@pytest.mark.parametrize("name", PROFILES)
def test_the_published_error_is_made_again(name: str, builder: ModuleType) -> None:
    again = verdict(builder.judge(name, load_profile(name)))["held_out"]
    assert again == json.loads((HOME / f"{name}.json").read_text())["held_out"]


@pytest.mark.parametrize("name", PROFILES)
def test_the_targets_are_met(name: str) -> None:
    raw = json.loads((HOME / f"{name}.json").read_text())
    assert raw["failed"] == [] and raw["targets"] == TARGETS
    assert raw["held_out"]["cells"] >= 65
    assert raw["profile_hash"] == load_profile(name).hash


@pytest.mark.parametrize("name", PROFILES)
def test_the_split_is_that_of_the_grid(name: str) -> None:
    replayed, planned = set(read_steps(HOME / f"{name}.steps.parquet")), set(grid("full"))
    later = {cell for cell in planned if cell.policy == "static" or cell.config.batch == 32}
    later |= {cell for cell in planned if cell.config.shape == "switch-large-128"}
    assert replayed == planned - later
    assert [cell.repeats for cell in load(HOME / f"{name}.json").cells] == [7] * 84


@pytest.mark.parametrize("name", PROFILES)
def test_the_profile_says_what_its_calibration_reached(name: str) -> None:
    said, held_out = load_profile(name).calibration, json.loads((HOME / f"{name}.json").read_text())["held_out"]
    assert said is not None and said.met
    assert (said.median_abs_error, said.worst_abs_error) == pytest.approx(
        (held_out["median_abs_error"], held_out["worst_abs_error"]), rel=1e-6
    )


@pytest.mark.parametrize("name", ["h100-sxm5-80gb-2", "h200-sxm-141gb-2"])
def test_a_replication_is_made_again_and_its_failure_is_marked(name: str, builder: ModuleType) -> None:
    profile, raw = load_profile(str(HOME / f"{name}.toml")), json.loads((HOME / f"{name}.json").read_text())
    assert verdict(builder.judge(name, profile))["held_out"] == raw["held_out"]
    assert raw["held_out"]["worst_abs_error"] > TARGETS["worst_abs_error"] and raw["failed"]
    assert profile.calibration is not None and not profile.calibration.met


def test_the_newest_replication_is_of_the_whole_grid_and_saw_its_host() -> None:
    assert set(read_steps(HOME / "h200-sxm-141gb-2.steps.parquet")) == set(grid("full"))
    raw = json.loads((HOME / "h200-sxm-141gb-2.json").read_text())
    assert raw["held_out_by_its_host"]["cells"] == raw["held_out"]["cells"]
    assert raw["held_out_by_its_host"]["median_abs_error"] < raw["held_out"]["median_abs_error"]


def test_the_shipped_profile_foretells_a_machine_on_which_nothing_was_measured() -> None:
    cells = load(HOME / "h200-sxm-141gb-3.json").cells
    assert set(read_steps(HOME / "h200-sxm-141gb-3.steps.parquet")) == set(grid("full")) and len(cells) == 99
    assert np.median([abs(cell.error) for cell in cells]) <= 0.015
    raw = json.loads((HOME / "h200-sxm-141gb-3.json").read_text())
    assert raw["profile_hash"] == load_profile("h200-sxm-141gb").hash


def test_the_emulation_is_judged_again_as_it_was(builder: ModuleType) -> None:
    raw = json.loads((HOME / f"{builder.EMULATED}.json").read_text())
    assert (
        verdict(builder.judge_emulated(load_profile(str(HOME / f"{builder.EMULATING}.toml"))))["held_out"]
        == raw["held_out"]
    )
    later = {cell for cell in grid("emulate") if cell.policy == "static"}
    assert set(read_steps(HOME / f"{builder.EMULATED}.steps.parquet")) == set(grid("emulate")) - later


def test_the_package_knows_the_same_errors(builder: ModuleType) -> None:
    rows = json.loads(builder.SUMMARY.read_text())
    assert json.loads(builder.ACCURACY.read_text())["rows"] == builder.kept(rows)


def test_the_page_says_what_the_files_say(builder: ModuleType) -> None:
    page = (DOCS / "validation.md").read_text()
    assert builder.filled(page) == page


def test_no_expert_computed_anything_wrong() -> None:
    runs = json.loads((DOCS / "runs" / "validation" / "checksums.json").read_text())
    assert sum(row["uses"] for run in runs for row in run["policies"]) > 40_000
    assert not [row for run in runs for row in run["policies"] if row["wrong"]]


def test_readme_says_both_halves(builder: ModuleType) -> None:
    readme = (DOCS.parent / "README.md").read_text()
    for name in (*PROFILES, *builder.REPLICATIONS, *builder.UNMEASURED):
        for half in builder.halves(load(HOME / f"{name}.json").cells):
            found = overall(half)
            errors = (builder.percent(each) for each in (found.median_abs_error, found.worst_abs_error))
            assert "median {}, worst {}".format(*errors) in readme
