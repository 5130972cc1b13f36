"""Answers with their spread: the same decisions timed on machines drawn out of the ranges of a profile.

Each quantity and each factor of a curve is drawn by itself. Half of its draws lie below its value and half above,
evenly by the logarithm on either side. What has no range stays as it is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from specmoe.errors import InputError, MissingExtraError
from specmoe.hwprofiles.catalogue import load_profile
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.claims import is_yardstick
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.retiming import compiled, timings

DRAWS = 200
FIGURES = (5, 50, 95)  # percentiles


class Spread(NamedTuple):
    """A policy's mean step over all draws, ns, and the share of draws in which it is the fastest of its kind."""

    policy: str
    step_p5_ns: float
    step_p50_ns: float
    step_p95_ns: float
    fastest_share: float  # NaN of a yardstick


def machines(profile: HardwareProfile, draws: int = DRAWS, seed: int = 0) -> list[HardwareProfile]:
    """Machines out of a profile's ranges; raises InputError if it has none, or for fewer than one draw."""
    if draws < 1:
        raise InputError(f"draws: {draws}: 1 or more expected")
    ranges = profile.ranges
    if not ranges:
        raise InputError(f"profile {profile.name}: no number has a range: there is nothing to draw from")
    rows = np.random.default_rng(seed).random((draws, len(ranges))).tolist()
    return [profile.with_values(_drawn(profile, dict(zip(ranges, row, strict=True)))) for row in rows]


def _drawn(profile: HardwareProfile, shares: Mapping[str, float]) -> dict[str, float]:
    """Values of numbers at these shares of their distributions; factors of curves are about 1."""
    ranges, numbers = profile.ranges, profile.quantities
    return {
        name: _between(*ranges[name], numbers[name].value if name in numbers else 1.0, share)
        for name, share in shares.items()
    }


def _between(low: float, high: float, value: float, share: float) -> float:
    """The quantile `share` of a number's distribution; a range from 0 is drawn evenly."""
    start, end, part = (low, value, 2 * share) if share < 0.5 else (value, high, 2 * share - 1)
    return start * (end / start) ** part if start > 0 else start + (end - start) * part


def spreads(scenario: Scenario, names: Sequence[str], draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Time the decisions that policies make on a scenario's own machine on drawn machines; one `Spread` a row.

    Raises InputError for a link that is not FIFO, and MissingExtraError without numba.
    """
    if scenario.config.link != "fifo":
        raise InputError(f"draws: link order {scenario.config.link}: fifo expected")
    if not compiled():
        raise MissingExtraError("numba", "fast")
    config = scenario.config
    own = load_profile(config.profile) if isinstance(config.profile, str) else config.profile
    drawn = [
        Scenario(dataclasses.replace(config, profile=machine), routing=scenario.routing)
        for machine in machines(own, draws, seed)
    ]
    steps = np.stack([_steps(scenario, drawn, name) for name in names])
    fits = scenario.fits(scenario.slots)
    rivals = np.array([not is_yardstick(scenario.policy(name), fits) for name in names])
    fastest = np.where(rivals[:, None], steps, np.inf).argmin(axis=0)
    rows = []
    for at, (name, each) in enumerate(zip(names, steps, strict=True)):
        low, middle, high = np.percentile(each, FIGURES).tolist()
        rows.append(Spread(name, low, middle, high, float((fastest == at).mean()) if rivals[at] else np.nan))
    return pd.DataFrame(rows)


def _steps(scenario: Scenario, drawn: Sequence[Scenario], name: str) -> np.ndarray:
    """Mean step of a policy on each machine, ns, [draws]."""
    chosen = scenario.policy(name)
    decisions = scenario.decide(chosen, scenario.slots)
    counted = decisions.num_steps - scenario.warm_up()
    return np.array([run.run_ns / counted for run in timings(decisions, drawn, chosen)])


def sentence(found: pd.DataFrame, draws: int, profile: str) -> str:
    """Which policy is fastest in how many draws."""
    of = f"of {draws} machines drawn from what is known of {profile}"
    shares = found["fastest_share"].to_numpy(float)
    if np.isnan(shares).all():
        return f"only yardsticks were timed on {draws} machines"
    best = int(np.nanargmax(shares))
    return f"{found['policy'].iloc[best]} is fastest on {100 * shares[best]:.0f} % {of}"
