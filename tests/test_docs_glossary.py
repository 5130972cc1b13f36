"""Every column is in the glossary and nothing else is; and its formulas give the numbers that are printed."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, NamedTuple

import numpy as np
import pytest
from doc_pages import DOCS

from specmoe.results import COLUMNS, RunResult, latencies
from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario
from specmoe.summary import FIGURES, KEYS, ORIGIN, SCALE, SET, summary


class Row(NamedTuple):
    """A column by the names it has in a run, and in the summary; empty where it is in neither."""

    run: str
    summary: str
    formula: str


def rows() -> list[Row]:
    """All rows of the tables of columns."""
    text = (DOCS / "glossary.md").read_text().split("\n## Words\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    found = []
    for run, short, _, meaning in (row for row in cells if row[0] != "run"):
        formula = re.search(r"`= (.*?)`", meaning)
        found.append(Row(*(name.strip("`") for name in (run, short)), formula[1] if formula else ""))
    return found


ROWS = rows()
FORMULAS = [row for row in ROWS if row.formula]


def names(column: str) -> list[str]:
    return [name for row in ROWS if (name := getattr(row, column))]


SPEC = RunConfig("switch-mini-128/decode/test", format="fp16", slots=60, batch=2, steps=40)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Two sequences a step, and few slots."""
    return Scenario(SPEC)


@pytest.fixture(scope="module")
def result(scenario: Scenario) -> RunResult:
    """One with everything in it: prefetches right and wrong, late hits; and misses as if the CPU had computed them."""
    ran = scenario.run("lookahead").result
    misses = ran.table["demands"] - ran.table["hits"]
    later = {"later_loads": misses, "later_useful": misses // 2, "changed_mass": 700 * misses}
    later |= {"cpu_ns": 90 * misses, "cpu_stall_ns": 80 * misses}
    later |= {"dropped_uses": misses, "low_uses": 2 * misses, "deferred_uses": 3 * misses}
    return dataclasses.replace(ran, table={**ran.table, "cpu_uses": misses, "cpu_tokens": 2 * misses, **later})


def value_of(formula: str, result: RunResult) -> Any:
    """What a formula of the glossary gives."""
    functions = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "percentile": np.percentile, "len": len}
    functions |= {"std": np.std, "sqrt": np.sqrt}
    warm_up = result.manifest.warm_up_steps
    warm = {name: column[warm_up * result.manifest.num_layers :] for name, column in result.table.items()}
    known = {**warm, **functions, "step_ns": latencies(result)[warm_up:]}
    return eval(formula, {"__builtins__": {}}, known)


def test_columns_of_a_run() -> None:
    assert sorted(names("run")) == sorted(COLUMNS)


def test_keys_of_the_summary(result: RunResult) -> None:
    assert sorted(names("summary")) == sorted([*summary(result), f"{SET}NAME", f"{SCALE}NAME"])
    assert {*KEYS, *FIGURES, *ORIGIN} <= set(names("summary"))


@pytest.mark.parametrize("row", [row for row in FORMULAS if row.summary], ids=lambda row: row.summary)
def test_formulas_give_the_summary(result: RunResult, row: Row) -> None:
    found, told = value_of(row.formula, result), summary(result)[row.summary]
    assert found, "nothing to tell a wrong formula by"
    whole_ns = row.summary.startswith(("latency_", "moe_layer_ns"))
    assert math.isclose(found, told, rel_tol=1e-12, abs_tol=1 if whole_ns else 0)


def test_the_time_of_a_step(result: RunResult) -> None:
    first, last = result.table["layer"] == 0, result.table["layer"] == result.manifest.num_layers - 1
    assert (latencies(result) == result.table["end_ns"][last] - result.table["begin_ns"][first]).all()
