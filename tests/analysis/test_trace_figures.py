"""Figures of a trace: what is drawn, and what is said below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_trace_job import ODD, analysis_of

from specmoe.analysis.trace.domains import between, over_time
from specmoe.analysis.trace.job import DRAWINGS, figures, save_figures
from specmoe.analysis.trace.layers import frequency_figure, relative_use, usage_figure
from specmoe.analysis.trace.reuse import miss_ratio_figure
from specmoe.analysis.trace.tables import Analysis, cut, some_of, ticks
from specmoe.analysis.trace.transitions import by_source
from specmoe.analysis.trace.working_set import savings

WITHOUT = {
    "empty": {drawing.name for drawing in DRAWINGS},
    "one token": {"domains"},
    "one layer": {"transitions"},
    "one source": {"domains"},
    "one expert": {"domains"},  # of one sequence, so of one source
}
LAID_OUT = ("one token", "one layer", "deep")  # which takes its time


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analysis_of(tmp_path_factory.mktemp("plain"), 300)


@pytest.mark.parametrize("kind", ODD)
def test_what_there_is_is_drawn(kind: str, tmp_path: Path) -> None:
    tokens, changes = ODD[kind]
    drawn = figures(analysis_of(tmp_path, tokens, **changes))
    wanted = [drawing for drawing in DRAWINGS if drawing.name not in WITHOUT.get(kind, set())]
    assert [(name, title) for name, title, _ in drawn] == [(drawing.name, drawing.title) for drawing in wanted]
    for _, title, chart in drawn:
        if kind in LAID_OUT:
            chart.draw_without_rendering()
        told = chart.get_supxlabel()
        assert chart.get_suptitle() == title
        assert "a name (random)" in told
        assert "event-atomic" in told and "no hardware profile" in told


def test_files_are_written_and_old_ones_go(plain: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specmoe.analysis.trace.job.DRAWINGS", DRAWINGS[:2])
    written = save_figures(plain, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(written) != []
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    (tmp_path / "mine.png").write_text("kept")
    save_figures(Analysis({**plain.facts, "uses": 0}, plain.tables), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_frequencies_are_by_rank(plain: Analysis) -> None:
    use = relative_use(plain)
    assert use.mean(axis=1) == pytest.approx(1)
    for layer, axes in enumerate(frequency_figure(plain).axes[:3]):
        assert [bar.get_height() for bar in axes.patches] == sorted(use[layer].tolist(), reverse=True)


def test_the_heat_map_holds_every_layer_and_expert(plain: Analysis) -> None:
    image = usage_figure(plain).axes[0].images[0]
    assert np.asarray(image.get_array()).tolist() == relative_use(plain).tolist()


def test_miss_ratio_curves_are_the_tables(plain: Analysis) -> None:
    lines = {str(line.get_label()): line for line in miss_ratio_figure(plain).axes[0].lines}
    curve = plain.tables["miss-ratio"]
    for study in plain.facts["reuse"]:
        part = curve[curve["batch"] == study["batch"]]
        lru, best = (lines[f"{name}, batch {study['batch']}"] for name in ("LRU", "Belady"))
        assert np.asarray(lru.get_ydata()) == pytest.approx(100 * part["lru_miss_ratio"])
        assert np.asarray(best.get_xdata()).tolist() == part["slots"][part["belady_hits"].notna()].tolist()
    crosses = [line.get_xdata()[0] for line in lines.values() if line.get_marker() == "x"]  # type: ignore[index]
    assert crosses == [study["cliff_slots"] for study in plain.facts["reuse"]]


def test_by_hand_order_of_next_experts() -> None:
    probability = np.array([[0.1, 0.9, 0.0], [0.0, 0.2, 0.8], [0.7, 0.3, 0.0]])
    assert by_source(probability).tolist() == [1, 2, 0]


def test_time_slices_are_relative_to_even_use(plain: Analysis) -> None:
    values = over_time(plain, 0)
    assert values.shape == (16, int(plain.tables["timeline"]["slice"].max()) + 1)
    assert values.mean(axis=0) == pytest.approx(1)


def test_domains_are_drawn_both_ways(plain: Analysis) -> None:
    found = between(plain, ["code", "prose"])
    assert found[0, 1] == found[1, 0] == plain.tables["domain-pairs"]["variation"].item()
    assert np.diag(found).tolist() == [0, 0]


def test_savings_are_the_tables(plain: Analysis) -> None:
    table = plain.tables["deduplication"]
    assert savings(table)["demanded"].to_numpy() == pytest.approx(100 * table["saving"])


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (6, [0, 1, 2, 3, 4, 5]), (11, [0, 2, 4, 6, 8, 10]), (40, [0, 8, 16, 23, 31, 39])]
)
def test_some_layers_at_equal_distances(count: int, expected: list[int]) -> None:
    assert some_of(range(count)) == expected


def test_ticks_are_few_and_even() -> None:
    assert list(ticks(5)) == [0, 1, 2, 3, 4]
    assert list(ticks(24)) == list(range(0, 24, 2))


def test_a_part_of_a_trace_is_said_to_be_one() -> None:
    assert cut(1000, {"tokens": 2000}) == " Of the first 1,000 tokens."
    assert cut(2000, {"tokens": 2000}) == ""


def test_whole_traces_are_not_called_parts(plain: Analysis) -> None:
    assert not [title for _, title, chart in figures(plain) if "Of the first" in chart.get_supxlabel()]
