"""Figures, answers and reports of policies that were timed on drawn machines: by hand, on rows made up here."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from comparison_points import manifest, two_steps
from report_cases import of_class, parsed, reported, rows_of, sweep_dir, text
from sweep_rows import MS, guess, oracle, row, table

from specmoe.analysis.answer import answer_of
from specmoe.analysis.figures import figures_of
from specmoe.analysis.figures.latency import draw_latency
from specmoe.analysis.figures.memory import draw_memory
from specmoe.analysis.figures.setting import settings_of
from specmoe.analysis.figures.tornado import swings_of_draws
from specmoe.analysis.report.inputs import table_of
from specmoe.sweep_table import SweepTable
from specmoe.uncertainty import EMPTY

UNKNOWN = {"unknown": ["cpu.call", "host.graph.sync"], "unknown_effect": [0.44, 0.001]}


def drawn(ms: float, *steps: float) -> dict[str, Any]:
    """The spread of a policy whose mean steps on the machines are these, ms."""
    told = {"draws": len(steps), "seed": 0, "drawn_step_ns": [round(step * MS) for step in steps]}
    ends = {"step_p5_ns": min(steps) * MS, "step_p50_ns": ms * MS, "step_p95_ns": max(steps) * MS}
    rates = {"tokens_per_second_p5": 1000 / max(steps), "tokens_per_second_p95": 1000 / min(steps)}
    return EMPTY | told | ends | rates | UNKNOWN


def made() -> SweepTable:
    """Look-ahead is fastest on three of four machines, and nothing is known of the oracle's spread."""
    known: dict[str, Any] = {"expected_error": 0.1, "error_basis": "seen", "ratio_error": 0.01}
    best = guess("lookahead", 3.0, **known, **drawn(3.0, 2.0, 2.5, 3.5, 4.5) | {"fastest_share": 0.75})
    other = row("on-demand-lru", 4.0, **known, **drawn(4.0, 3.0, 4.0, 5.0, 4.0) | {"fastest_share": 0.25})
    return table(best, other, oracle(2.0))


def test_whiskers_reach_over_90_percent_of_the_machines() -> None:
    (setting,) = settings_of(made())
    points = [cell.point for cell in setting.along()]
    found = [tuple(line.get_xdata()) for line in draw_latency(points).lines if line.get_marker() == "|"]
    assert found == [(2.0, 4.5), (3.0, 5.0)]
    axes = draw_memory([point for point in points if not point.yardstick], 5)
    ends = [segment[:, 1].tolist() for lines in axes.collections for segment in lines.get_segments()]  # type: ignore[attr-defined]
    assert sorted(ends) == [[2.0, 4.5], [3.0, 5.0]]


def test_a_number_is_worth_the_same_factor_at_either_end() -> None:
    """Closed form: 44 % from end to end are a sixth less at the low end and a fifth more at the high one."""
    (setting,) = settings_of(made())
    points = {cell.policy: cell.point for cell in setting.along()}
    (swing,) = swings_of_draws(points["lookahead"])
    assert swing.name == "cpu.call" and (swing.less, swing.more) == pytest.approx((-1 / 6, 1 / 5))
    (one,) = (figure for figure in figures_of(made()) if figure.name == "unknown")
    assert (
        one.title
        == "lookahead: measure cpu.call first: from its low to its high end, it alone makes a step 44 % longer"
    )
    assert "of 2 numbers with a range that it depends on, 1 move its step by 1.0 % or more" in one.reading
    assert one.reading.endswith("and all together change it by -33.3 % to +50.0 %.")
    assert [axes.get_title() for axes in one.figure.axes] == ["lookahead", "on-demand-lru"]


def test_the_answer_says_who_wins_where_and_tells_both_errors_apart() -> None:
    said = answer_of(made()).sentences
    who = "lookahead is fastest on 75 % of 4 machines that fit what is known of box"
    assert f"Unknown of the machine: {who}; lookahead: 222.2 .. 500 tokens/s on 90 % of them." in said
    assert any(text.startswith("Two errors, of which both apply: the timing model's own is ±10 %") for text in said)
    assert any(text.startswith("Measure cpu.call first: ") for text in said)


def test_a_report_shows_the_spread(tmp_path: Path) -> None:
    page = parsed(reported(tmp_path / "page.html", sweep_dir(tmp_path / "swept", made())))
    (listed,) = of_class(page, "facts")
    facts = {text(item[0]): [text(part) for part in item[1:]] for item in listed}
    assert facts["Unknown of the machine"] == [
        "-33.3 % to +50.0 % of a step",
        "on 90 % of the machines; fastest on 75 % of 4 machines that fit what is known of box",
    ]
    cells = {cells[0]: cells for cells in rows_of(page) if len(cells) > 10}
    assert cells["lookahead"][-4:-1] == ["2.000", "4.500", "75"]
    assert cells["on-demand-lru"][-4:-1] == ["3.000", "5.000", "25"]


def test_single_runs_on_the_same_machines_are_compared() -> None:
    """Another number of slots is another comparison."""
    of = {"a": ((1, 9), 128), "b": ((2, 3), 128), "c": ((9, 9), 64)}
    runs = {
        Path(name): two_steps(dataclasses.replace(manifest(name, slots=slots), spread=drawn(1.0, *steps)))
        for name, (steps, slots) in of.items()
    }
    assert table_of(runs).rows["fastest_share"].tolist() == [0.5, 0.5, 1.0]
