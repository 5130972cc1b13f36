"""How often a token uses an expert that the token before it, in its sequence, used at the same layer.

A layer in numbers, above all how evenly it uses its experts: moments, quantiles and entropy of the experts' uses.

How often each expert is used: by rank in each layer, and layer by expert.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.style import COLOURS, figure
from specmoe.analysis.trace.domains import domain_information
from specmoe.analysis.trace.routing import Floats, Ints, RouterStudy, Routing, entropy
from specmoe.analysis.trace.tables import Analysis, grid, heat, left_out, matrix, some_of, ticks, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def persistence(used: NDArray[np.int16], sequence: NDArray[np.int32]) -> Floats:
    """Share of the uses [n, L, k] that repeat one of the token before, [L]; nan where no token follows another.

    Of top-1 routing it is the share of neighbours with the same expert. Neighbours of which either was dropped are
    left out.
    """
    following = (sequence[1:] == sequence[:-1])[:, None] & (used[1:, :, 0] >= 0) & (used[:-1, :, 0] >= 0)
    again = np.zeros(following.shape, np.int64)
    for place in range(used.shape[2]):
        again += (used[1:, :, place, None] == used[:-1]).any(axis=2)
    return _over((again * following).sum(axis=0), used.shape[2] * following.sum(axis=0))


def by_chance(uses: NDArray[np.int64], top_k: int) -> Floats:
    """What `persistence` is of tokens that do not depend on each other, by layer, from uses [L, E]; nan without uses.

    An expert with a share s of the uses is used by a share k s of the tokens.
    """
    total = uses.sum(axis=1)
    return _over(top_k * (uses.astype(np.float64) ** 2).sum(axis=1), total.astype(np.float64) ** 2)


def _over(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


class Spread(NamedTuple):
    """Of the uses of one layer's experts, those never used included. nan where a figure is not defined.

    Moments are the population's, as scipy.stats gives them by default (`std` with ddof 0; `skew`; `kurtosis` after
    Fisher, 0 for a normal distribution). Quartiles are interpolated linearly (method 7 of Hyndman and Fan 1996).
    """

    total: int
    mean: float
    std: float
    cv: float  # std / mean
    median: float
    min: int
    max: int
    q1: float
    q3: float
    iqr: float  # q3 - q1
    skewness: float
    kurtosis: float
    entropy_bits: float  # log2(num_experts) if all are used alike; 0 if nothing is used
    active: int  # used at least once
    unused: int
    top_share: float  # of the most used expert, among all uses


def spread(uses: Ints) -> Spread:
    """Statistics of one layer's uses [num_experts]."""
    mean, std = float(uses.mean()), float(uses.std())
    q1, median, q3 = np.percentile(uses, [25, 50, 75]).tolist()
    active, total = int(np.count_nonzero(uses)), int(uses.sum())
    return Spread(
        total=total,
        mean=mean,
        std=std,
        cv=std / mean if mean else np.nan,
        median=median,
        min=int(uses.min()),
        max=int(uses.max()),
        q1=q1,
        q3=q3,
        iqr=q3 - q1,
        skewness=_moment(uses, 3),
        kurtosis=_moment(uses, 4) - 3,
        entropy_bits=entropy(uses, corrected=False),
        active=active,
        unused=len(uses) - active,
        top_share=int(uses.max()) / total if total else np.nan,
    )


def _moment(values: Ints, order: int) -> float:
    """The standardised central moment; nan if all values are equal."""
    if np.ptp(values) == 0:
        return float("nan")
    return float((((values - values.mean()) / values.std()) ** order).mean())


def layers(routing: Routing, router: RouterStudy, uses: Ints) -> pd.DataFrame:
    """A row for each layer, from uses [L, E]: the table `layers` of `tables.TABLES`."""
    columns = {
        "layer": np.arange(len(uses)),
        "dropped": (routing.first < 0).sum(axis=0),
        "persistence": persistence(routing.used, routing.sequence),
        "persistence_by_chance": by_chance(uses, routing.meta.top_k),
        "domain_bits": domain_information(routing.source, routing.first, routing.meta.num_experts),
        **router._asdict(),
    }
    return pd.DataFrame([spread(layer)._asdict() for layer in uses]).assign(**columns)


def usage(uses: Ints) -> pd.DataFrame:
    """Columns layer, expert, uses, from uses [L, E]."""
    layer, expert = np.indices(uses.shape).reshape(2, -1)
    return pd.DataFrame({"layer": layer, "expert": expert, "uses": uses.reshape(-1)})


ROW = 0.22  # inches a layer


def relative_use(analysis: Analysis) -> Floats:
    """Uses over those of an expert if all were used alike, [L, E]; 0 in a layer without uses."""
    usage, trace = analysis.tables["usage"], analysis.facts["trace"]
    uses = matrix(usage["layer"], usage["expert"], usage["uses"], (trace["num_layers"], trace["num_experts"]))
    even: Floats = uses / np.maximum(uses.mean(axis=1, keepdims=True), 1e-300)
    return even


def frequency_figure(analysis: Analysis) -> "Figure":
    """A panel for each of some layers: experts by rank of use."""
    use = relative_use(analysis)
    layers = range(len(use))
    chart, panels = grid(len(some_of(layers)), 3, width=3.4, height=2.5)
    for axes, layer in zip(panels, some_of(layers), strict=True):
        axes.bar(range(use.shape[1]), np.sort(use[layer])[::-1], width=1.0, color=COLOURS[0])
        axes.axhline(1, color="black", linestyle=":", linewidth=1, label="even use")
        row = analysis.facts["layers"][layer]
        told_beside = f"layer {layer}: {row['entropy_bits']:.2f} bits, {row['active']} of {use.shape[1]} active"
        axes.set_title(told_beside, fontsize=9, loc="left")
        axes.set(xlabel="expert, by rank", ylim=(0, 1.05 * use.max()), xlim=(-0.5, use.shape[1] - 0.5))
    panels[0].set_ylabel("uses / even use")
    panels[0].legend(frameon=False)
    note = f"Experts of a layer from the most to the least used.{left_out(layers)}"
    told(chart, analysis.facts, "How often experts are used", note)
    return chart


def usage_figure(analysis: Analysis) -> "Figure":
    """A heat map of layers by experts."""
    use = relative_use(analysis)
    chart, axes = figure(1, 1, width=9.0, height=2.0 + ROW * len(use))
    image = heat(axes, use, use.max())
    axes.set(xlabel="expert", ylabel="layer", yticks=ticks(len(use)))
    chart.colorbar(image, ax=axes, label="uses / even use", pad=0.01)
    told(
        chart, analysis.facts, "Use of experts by layer", "1: as often as if all experts of the layer were used alike."
    )
    return chart
