"""What is not known of a machine, in answers: how far a mean step varies over machines drawn from the profile's ranges.

`specmoe.sim.draws` times a policy's decisions on each machine; a row of `specmoe.summary` keeps the steps and what
follows from them (`SPREAD`). The timing model's own error (`expected_error`) is another thing and is not part of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.level import NOISE, error_of, share

Row = dict[str, Any]
EMPTY: Row = {
    **dict.fromkeys(("draws", "seed", "step_p5_ns", "step_p50_ns", "step_p95_ns")),
    **dict.fromkeys(("tokens_per_second_p5", "tokens_per_second_p95", "fastest_share")),
    "drawn_step_ns": [],
    "unknown": [],
    "unknown_effect": [],
}
DRAWS_PER_NUMBER = 3  # fewer draws than that for each number say nothing about single numbers
LEAST_EFFECT = 0.01  # of a number that is worth measuring, a share of the step


def columns(steps: NDArray[np.float64], tokens: float, shares: Mapping[str, NDArray[np.float64]], seed: int) -> Row:
    """`SPREAD` of a policy without its `fastest_share`, from its mean steps on all machines, ns.

    `tokens` run in a mean step; `shares` are those of each number's distribution that were drawn, [draws].
    """
    p5, p50, p95 = (round(value) for value in np.percentile(steps, (5, 50, 95)).tolist())
    moved = effects(steps, shares)
    return {
        "draws": len(steps),
        "seed": seed,
        "step_p5_ns": p5,
        "step_p50_ns": p50,
        "step_p95_ns": p95,
        "tokens_per_second_p5": tokens / (p95 / 1e9),
        "tokens_per_second_p95": tokens / (p5 / 1e9),
        "fastest_share": None,
        "drawn_step_ns": [round(step) for step in steps.tolist()],
        "unknown": list(moved),
        "unknown_effect": list(moved.values()),
    }


def effects(steps: NDArray[np.float64], shares: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """By how much a step changes, as a share, when a number goes from its low to its high end, the others as drawn.

    The logarithm of the step is fitted to the shares of all numbers, by least squares. The largest change comes first;
    a change within the fit's noise is 0. Empty unless there are `DRAWS_PER_NUMBER` draws for each number.
    """
    if not shares or len(steps) < DRAWS_PER_NUMBER * (len(shares) + 1):
        return {}
    known = np.column_stack([np.ones(len(steps)), *shares.values()])
    slopes, *_ = np.linalg.lstsq(known, np.log(steps), rcond=None)
    left = np.log(steps) - known @ slopes
    variance = left @ left / (len(steps) - known.shape[1])
    noise = NOISE * np.sqrt(variance * np.diag(np.linalg.inv(known.T @ known)))
    clear = np.where(np.abs(slopes) > noise, np.expm1(slopes), 0.0)[1:].tolist()
    return dict(sorted(zip(shares, clear, strict=True), key=lambda pair: (-abs(pair[1]), pair[0])))


def add_fastest_shares(rows: Sequence[Row]) -> None:
    """Set the `fastest_share` of rows that were compared on the same machines; None of a yardstick."""
    real = [row for row in rows if is_drawn(row) and not row["yardstick"]]
    for row, won in zip(real, fastest_shares([row["drawn_step_ns"] for row in real]), strict=True):
        row["fastest_share"] = won


def compared(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Copies of rows that were timed on the same machines as the first with a spread, with `fastest_share`."""
    drawn = [dict(row) for row in rows if is_drawn(row)]
    alike = [row for row in drawn if all(row[name] == drawn[0][name] for name in ("draws", "seed", "profile"))]
    add_fastest_shares(alike)
    return alike


def fastest_shares(steps: Sequence[Sequence[float]]) -> list[float]:
    """The share of machines on which each row of steps is the least; of equal ones the first."""
    if not steps:
        return []
    best = np.argmin(np.array(steps), axis=0)
    return [float((best == row).mean()) for row in range(len(steps))]


def is_drawn(row: Mapping[str, Any]) -> bool:
    """Whether a row has a spread; a row of a frame may have a number that is none."""
    draws = row.get("draws")
    return isinstance(draws, Real) and draws == draws


def sentence(rows: Iterable[Mapping[str, Any]]) -> str:
    """Which policy is fastest on how many machines; empty where no row has a spread."""
    drawn = [row for row in rows if is_drawn(row)]
    if not drawn:
        return ""
    machines = machines_of(drawn[0])
    real = [row for row in drawn if not row["yardstick"]]
    if not real:
        return f"only yardsticks were timed on {machines}"
    if len(real) == 1:
        return f"only {real[0]['policy']} was timed on {machines}"
    best = max(real, key=lambda row: float(row["fastest_share"]))
    return f"{best['policy']} is fastest on {100 * best['fastest_share']:.0f} % of {machines}"


def machines_of(row: Mapping[str, Any]) -> str:
    """The drawn machines in words."""
    return f"{int(row['draws'])} machines that fit what is known of {row['profile']}"


def rates(row: Mapping[str, Any]) -> str:
    """Tokens per second of 90 % of the machines: 312 .. 401 tokens/s on 90 % of them."""
    low, high = (f"{row[f'tokens_per_second_{end}']:.4g}" for end in ("p5", "p95"))
    return f"{low} .. {high} tokens/s on 90 % of them"


def ends(row: Mapping[str, Any]) -> str:
    """By how much a step changes from the least to the most on 90 % of the machines: -4.1 % to +6.6 %."""
    low, high = (row[f"step_{end}_ns"] / row["latency_mean_ns"] - 1 for end in ("p5", "p95"))
    return f"{100 * low:+.1f} % to {100 * high:+.1f} %"


def two_errors(row: Mapping[str, Any]) -> str:
    """The timing model's own error beside what is unknown of the machine; empty unless both are known."""
    own = error_of(row)
    if not own or not is_drawn(row):
        return ""
    return (
        f"two errors, of which both apply: the timing model's own is {own} of a step, and what is unknown of "
        f"{row['profile']} changes a step by {ends(row)}"
    )


def first_to_measure(row: Mapping[str, Any]) -> str:
    """The number that moves the step most, in words; empty where none moves it by a percent."""
    if not len(row["unknown"]) or abs(row["unknown_effect"][0]) < LEAST_EFFECT:
        return ""
    name, effect = row["unknown"][0], row["unknown_effect"][0]
    how = "longer" if effect > 0 else "shorter"
    return f"measure {name} first: from its low to its high end, it alone makes a step {share(abs(effect))} {how}"
