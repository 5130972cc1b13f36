"""The plot of a run shows its history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specmoe.analysis.figures import predictors
from specmoe.analysis.figures.predictors import plot_training
from specmoe.analysis.style import COLOURS, figure, save
from specmoe.errors import InputError

HISTORY: dict[str, list[dict[str, float]]] = {
    "training": [{"step": s, "loss": 5 - s / 40, "balance": 1 + 1 / s, "dropped": 0.1} for s in (20, 40, 60)],
    "held_out": [{"step": 30, "loss": 4.5}, {"step": 60, "loss": 4.0}],
}


def drawn(history: dict[str, Any], directory: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The figure that is saved."""
    charts: list[Any] = []

    def keep(chart: Any, png: Path) -> None:
        charts.append(chart)
        save(chart, png)

    monkeypatch.setattr(predictors, "save", keep)
    (directory / "history.json").write_text(json.dumps(history))
    plot_training(directory / "history.json", directory / "training.png", unigram=6.5)
    return charts[0]


def test_every_point_is_in_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, balance = drawn(HISTORY, tmp_path, monkeypatch).axes
    lines = {line.get_label(): np.asarray(line.get_xydata()) for axes in (loss, balance) for line in axes.lines}
    assert lines["training (with dropout)"].tolist() == [[20, 4.5], [40, 4.0], [60, 3.5]]
    assert lines["held out"].tolist() == [[30, 4.5], [60, 4.0]]
    assert lines["unigram guess"][:, 1].tolist() == [6.5, 6.5]
    assert lines["balance loss, mean of layers"][:, 1].tolist() == pytest.approx([1.05, 1.025, 1 + 1 / 60])
    assert lines["share of tokens dropped"][:, 1].tolist() == [0.1] * 3
    assert balance.get_ylim()[0] == 0
    assert loss.get_ylabel() == "loss, nats per target token"
    assert all(axes.get_legend() and axes.get_xlabel() == "step" for axes in (loss, balance))


def test_a_png_and_nothing_else_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn(HISTORY, tmp_path, monkeypatch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.json", "training.png"]
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_one_point_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn({name: points[:1] for name, points in HISTORY.items()}, tmp_path, monkeypatch)
    assert (tmp_path / "training.png").stat().st_size > 0


def test_a_torn_plot_leaves_the_former(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chart, _ = figure(1, 1)
    (tmp_path / "a.png").write_bytes(b"former")

    def torn(_: Any, path: Path, *__: Any) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("specmoe.analysis.style.write", torn)
    with pytest.raises(KeyboardInterrupt):
        save(chart, tmp_path / "a.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"former"]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"training": []}', '{"training": [{}], "held_out": []}'])
def test_a_damaged_history_is_one_line(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "history.json").write_text(content)
    with pytest.raises(InputError, match=r"history\.json: not the history of a run") as raised:
        plot_training(tmp_path / "history.json", tmp_path / "training.png", unigram=1)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "training.png").exists()


def test_the_look_is_the_same_everywhere(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    chart, axes = figure(2, 3, width=2, height=1)
    assert dict(mpl.rcParams) == before
    assert chart.get_size_inches().tolist() == [6, 2]
    assert axes.shape == (2, 3)
    assert axes[0, 0].plot([0, 1])[0].get_color() == COLOURS[0]
    assert not axes[1, 2].spines["top"].get_visible()
