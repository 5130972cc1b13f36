"""Figures of predictors (accuracy by layer and depth, reliability of confidences) and of training runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from specmoe.analysis.style import COLOURS, MARKERS, figure, finish, panel, save
from specmoe.files import parsing, read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 6  # predictors per figure; more lines are hard to tell apart
LEAST = 1e-3  # of all guesses, in a bin that is drawn
CHANCE = {"color": "0.45", "linestyle": ":", "linewidth": 1.2, "label": "chance"}
NOTE = "Share of tokens whose first-choice expert is the best candidate."
PEEKING = " Dashed: predictors that know the future."

Row = dict[str, Any]  # of `specmoe evaluate`


def plot_predictions(rows: Sequence[Row], directory: Path) -> list[Path]:
    """Write accuracy.png, depth.png and reliability.png of the best predictors into an existing directory."""
    figures = {"accuracy": accuracy_figure, "depth": depth_figure, "reliability": reliability_figure}
    files = []
    for name, draw in figures.items():
        files.append(directory / f"{name}.png")
        save(draw(rows), files[-1])
    return files


def best(rows: Sequence[Row]) -> list[Row]:
    """The predictors to draw: those that do not know the future first, then by top-1 accuracy."""
    scored = [row for row in rows if row.get("top1") is not None]
    return sorted(scored, key=lambda row: (row["peeks"], -row["top1"]))[:SHOWN]


def accuracy_figure(rows: Sequence[Row]) -> "Figure":
    """Top-1 accuracy one layer ahead, by target layer; layer 0 is the next token's."""
    return _figure(draw_accuracy(rows), best(rows), "one layer ahead", NOTE)


def draw_accuracy(rows: Sequence[Row], ax: "Axes | None" = None) -> "Axes":
    """The lines of `accuracy_figure` on Axes, without title and caption; on new Axes by default."""
    shown, axes = best(rows), panel(ax, 7.4, 4.4)
    layers = range(shown[0]["layers"] if shown else 1)
    for row, look in zip(shown, _looks(shown), strict=True):
        values = [_percent(cell and cell["top1"]) for cell in row["per_layer"]]
        axes.plot(layers[1:], values[1:], **look, markevery=1 + len(layers) // 13)
        axes.plot(layers[:1], values[:1], **look | {"label": None})
    if shown:
        axes.axhline(100 * shown[0]["chance"]["top1"], **CHANCE)
    _percent_axis(axes, "top-1 accuracy, %")
    axes.set(xlabel="target layer", xticks=list(layers)[:: 1 + len(layers) // 13])
    if shown and shown[0]["per_layer"][0]:
        axes.set_xticklabels([_layer_name(layer) for layer in axes.get_xticks()])
    return _with_legend(axes, shown)


def depth_figure(rows: Sequence[Row]) -> "Figure":
    """Top-1 accuracy within the step, by how many layers ahead."""
    return _figure(draw_depth(rows), best(rows), "one layer ahead; more layers ahead within the step", NOTE)


def draw_depth(rows: Sequence[Row], ax: "Axes | None" = None) -> "Axes":
    """The lines of `depth_figure` on Axes, without title and caption; on new Axes by default."""
    shown, axes = best(rows), panel(ax, 7.4, 4.4)
    for row, look in zip(shown, _looks(shown), strict=True):
        top1 = {int(depth): cell["top1"] for depth, cell in row["per_depth"].items()}
        axes.plot(list(top1), [_percent(value) for value in top1.values()], **look)
    deepest = max((row["depth"] for row in shown), default=1)
    if shown:
        axes.axhline(100 * shown[0]["chance"]["top1"], **CHANCE)
    _percent_axis(axes, "top-1 accuracy, %")
    axes.set(xlabel="layers ahead", xticks=range(1, deepest + 1), xlim=(0.8, deepest + 0.2))
    return _with_legend(axes, shown)


def reliability_figure(rows: Sequence[Row]) -> "Figure":
    """How often the best candidate came true, against its confidence; a calibrated predictor lies on the diagonal."""
    shown = _confident(rows)
    note = (
        "Best candidates one layer ahead, in bins that hold 0.1 % of them or more. Larger marks: more candidates. "
        "In brackets: expected calibration error (ECE), %."
    )
    title = "No predictor gives confidences"
    if shown:
        calibrated = min(shown, key=lambda row: (row["ece"], row["label"]))
        title = f"{calibrated['label']} is calibrated best: {100 * calibrated['ece']:.1f} % expected error"
    return _described(draw_reliability(rows), shown, title, note)


def draw_reliability(rows: Sequence[Row], ax: "Axes | None" = None) -> "Axes":
    """The lines of `reliability_figure` on Axes, without title and caption; on new Axes by default."""
    shown, axes = _confident(rows), panel(ax, 7.4, 5.0)
    axes.plot([0, 100], [0, 100], **CHANCE | {"label": "calibrated"})
    for row, look in zip(shown, _looks(shown), strict=True):
        total = sum(point["count"] for point in row["reliability"])
        points = [point for point in row["reliability"] if point["count"] >= LEAST * total]
        x, y = ([100 * point[what] for point in points] for what in ("confidence", "accuracy"))
        axes.plot(x, y, **look | {"label": f"{look['label']} ({100 * row['ece']:.1f})", "markersize": 3})
        sizes = [20 + 160 * point["count"] / total for point in points]
        axes.scatter(
            x, y, sizes, color=look["color"], marker=look["marker"], edgecolor="white", linewidth=0.6, zorder=3
        )
    _percent_axis(axes, "share that came true, %")
    axes.set(xlabel="confidence, %", xlim=(-2, 102), ylim=(-2, 102))
    return _with_legend(axes, shown)


def _confident(rows: Sequence[Row]) -> list[Row]:
    return [row for row in best(rows) if row["reliability"]]


def _looks(shown: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "label": row["label"],
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "linestyle": "--" if row["peeks"] else "-",
            "linewidth": 1.6,
            "markersize": 5,
        }
        for place, row in enumerate(shown)
    ]


def _percent(value: float | None) -> float:
    return float("nan") if value is None else 100 * value


def _percent_axis(axes: Any, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def _layer_name(layer: float) -> str:
    return "0, next\ntoken" if layer == 0 else f"{layer:g}"


def _with_legend(axes: Any, shown: Sequence[Row]) -> "Axes":
    if shown:
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return cast("Axes", axes)


def _figure(axes: "Axes", shown: Sequence[Row], where: str, note: str) -> "Figure":
    """A figure whose title is the most accurate predictor, among those that do not know the future if there are any."""
    title = "No predictor was scored"
    if shown:
        title = f"{shown[0]['label']} predicts best: top-1 accuracy {100 * shown[0]['top1']:.1f} % {where}"
    return _described(axes, shown, title, note)


def _described(axes: "Axes", shown: Sequence[Row], title: str, note: str) -> "Figure":
    first = shown[0] if shown else {}
    where = f"{first.get('trace')}, {first.get('tokens', 0):,} tokens of {first.get('sequences')} sequences"
    dashed = PEEKING * any(row["peeks"] for row in shown)
    chart = cast("Figure", axes.figure)
    described = f"{note}{dashed}\nRouting: {where}. Learnt from: {first.get('train') or 'nothing'}."
    finish(chart, title, described)
    return chart


def plot_learning(epochs: list[dict[str, float]], png: Path, title: str) -> None:
    """Loss (nats a target) in training and validation, and validation's top-1 one layer ahead, by epoch."""
    chart, (loss, accuracy) = figure(1, 2)
    number = range(1, len(epochs) + 1)
    loss.plot(number, [epoch["loss"] for epoch in epochs], "o-", markersize=3, label="training (with dropout)")
    loss.plot(number, [epoch["validation_loss"] for epoch in epochs], "o-", markersize=3, label="validation")
    loss.set(xlabel="epoch", ylabel="loss, nats per target")
    loss.legend(frameon=False)
    accuracy.plot(number, [100 * epoch["validation_top1"] for epoch in epochs], "o-", markersize=3)
    accuracy.set(xlabel="epoch", ylabel="validation top-1, one layer ahead, %", ylim=(0, 100))
    for axes in (loss, accuracy):
        axes.xaxis.get_major_locator().set_params(integer=True)
    chart.suptitle(title)
    save(chart, png)


def plot_training(history: Path, png: Path, unigram: float) -> None:
    """Loss (nats a target token; held out beside training), balance loss (1 is even) and dropped tokens by step.

    Raises InputError for a file that is not a history.
    """
    training = _columns(history, "training", ("step", "loss", "balance", "dropped"))
    held_out = _columns(history, "held_out", ("step", "loss"))
    chart, (loss, balance) = figure(1, 2)
    loss.plot(training["step"], training["loss"], label="training (with dropout)", linewidth=1)
    loss.plot(held_out["step"], held_out["loss"], "o-", markersize=3, label="held out")
    loss.axhline(unigram, linestyle=":", color="0.4", label="unigram guess")
    loss.set(xlabel="step", ylabel="loss, nats per target token")
    balance.plot(training["step"], training["balance"], linewidth=1, label="balance loss, mean of layers")
    balance.plot(training["step"], training["dropped"], linewidth=1, label="share of tokens dropped")
    balance.set(xlabel="step", ylim=(0, None))
    for axes in (loss, balance):
        axes.legend(frameon=False)
    save(chart, png)


def _columns(history: Path, name: str, fields: tuple[str, ...]) -> dict[str, list[Any]]:
    """The points of a history by field."""
    points = read_json(history, "the history of a run")
    with parsing(history, "the history of a run"):
        return {field: [point[field] for point in points[name]] for field in fields}
