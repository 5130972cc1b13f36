"""Every column is in the glossary and nothing else is; and its formulas give the numbers that are printed."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np
import pytest
from doc_pages import DOCS

from specmoe.results import COLUMNS, RunResult, latencies, summary
from specmoe.sim.run import RunSpec, Scenario
from specmoe.sweep_table import FIGURES, KEYS, ORIGIN, SCALE, SET


class Row(NamedTuple):
    """A column by the names it has in a run, in the summary and in a sweep; empty where it is in none."""

    run: str
    summary: str
    sweep: str
    formula: str


def rows() -> list[Row]:
    """All rows of the tables of columns."""
    text = (DOCS / "glossary.md").read_text().split("\n## Words\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    found = []
    for run, short, sweep, _, meaning in (row for row in cells if row[0] != "run"):
        formula = re.search(r"`= (.*?)`", meaning)
        found.append(Row(*(name.strip("`") for name in (run, short, sweep)), formula[1] if formula else ""))
    return found


ROWS = rows()
FORMULAS = [row for row in ROWS if row.formula]


def names(column: str) -> list[str]:
    return [name for row in ROWS if (name := getattr(row, column))]


def flat(value: dict[str, Any]) -> dict[str, Any]:
    """With the parts of `latency_ns` and `bounds` under dotted names."""
    inner = {f"{name}.{part}": x for name in ("latency_ns", "bounds") for part, x in value[name].items()}
    return {name: x for name, x in value.items() if name not in ("latency_ns", "bounds")} | inner


SPEC = RunSpec("switch-mini-128/decode/test", format="fp16", slots=60, batch=2, steps=40)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Two sequences a step, and few slots."""
    return Scenario(SPEC)


@pytest.fixture(scope="module")
def result(scenario: Scenario) -> RunResult:
    """One with everything in it: prefetches right and wrong, late hits."""
    return scenario.run("lookahead").result


def value_of(formula: str, result: RunResult) -> Any:
    """What a formula of the glossary gives."""
    functions = {"sum": np.sum, "mean": np.mean, "max": np.max, "percentile": np.percentile, "len": len}
    known = {**result.table, **functions, "step_ns": latencies(result)}
    return eval(formula, {"__builtins__": {}}, known)


def test_columns_of_a_run() -> None:
    assert sorted(names("run")) == sorted(COLUMNS)


def test_keys_of_the_summary(result: RunResult) -> None:
    assert sorted(names("summary")) == sorted(flat(summary(result)))


def test_columns_of_a_sweep() -> None:
    assert sorted(names("sweep")) == sorted([*KEYS, *FIGURES, *ORIGIN, f"{SET}NAME", f"{SCALE}NAME"])


@pytest.mark.parametrize("row", [row for row in FORMULAS if row.summary], ids=lambda row: row.summary)
def test_formulas_give_the_summary(result: RunResult, row: Row) -> None:
    found, told = value_of(row.formula, result), flat(summary(result))[row.summary]
    assert found, "nothing to tell a wrong formula by"
    whole_ns = row.summary.startswith(("latency_ns", "moe_layer_ns"))
    assert math.isclose(found, told, rel_tol=1e-12, abs_tol=1 if whole_ns else 0)


def test_the_formula_of_the_cliff(scenario: Scenario, result: RunResult) -> None:
    (formula,) = (row.formula for row in ROWS if row.sweep == "cliff_slots")
    decisions = scenario.decide(scenario.policy("lookahead"), scenario.slots)
    assert value_of(formula, result) == decisions.cliff_slots


def test_the_time_of_a_step(result: RunResult) -> None:
    first, last = result.table["layer"] == 0, result.table["layer"] == result.manifest.num_layers - 1
    assert (latencies(result) == result.table["end_ns"][last] - result.table["begin_ns"][first]).all()


def test_one_name_is_told_once() -> None:
    both = set(names("summary")) & set(names("sweep"))
    assert both == {row.summary for row in ROWS if row.summary == row.sweep} - {""}
