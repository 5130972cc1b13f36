"""A layer in numbers, above all how evenly it uses its experts: moments, quantiles and entropy of the experts' uses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from specmoe.analysis.trace.domains import domain_information
from specmoe.analysis.trace.entropy import entropy
from specmoe.analysis.trace.persistence import by_chance, persistence
from specmoe.analysis.trace.router import RouterStudy
from specmoe.analysis.trace.routing import Ints, Routing


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
