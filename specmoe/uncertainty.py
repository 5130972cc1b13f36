"""What is not known, in answers: which policies are level, and how far a step varies over machines.

A policy is level with the fastest if its mean step is longer by no more than the larger of two amounts:

- the expected error of the ratio of two policies' mean steps (the larger one of the two rows), times the fastest mean
  step: policies on one machine share most of the error of a mean step;
- `NOISE` standard errors of the difference of the two means, that of routing as the steps show it.

A lead that predictions or the trace cannot tell from nothing is not called one. `specmoe.sim.sweep.retiming` times a
policy's decisions on machines drawn from the profile's ranges; a row of `specmoe.summary` keeps the steps and what
follows from them (`SPREAD`). The timing model's own error (`expected_error`) is another thing and is not part of it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NOISE = 2.0  # standard errors
NAMED = 3  # level policies that are named; of more, the first and the number of the others
MS = 1e6  # ns


class Timed(NamedTuple):
    """The mean step of a policy and what is not known of it; `error` is that of its ratio to another policy's."""

    policy: str
    mean_ns: float
    sem_ns: float = 0.0  # standard error of the mean
    error: float = 0.0  # a share; 0 where nothing is known


class Lead(NamedTuple):
    """The fastest policy, those level with it, and the fastest that is not; fastest first, ties by name."""

    best: Timed
    level: tuple[Timed, ...]
    behind: Timed | None

    @property
    def leaders(self) -> tuple[Timed, ...]:
        """The fastest and those level with it."""
        return self.best, *self.level

    @property
    def ahead(self) -> float | None:
        """Share of the mean step of the next that is saved; None where policies are level or nobody is behind."""
        return None if self.level or self.behind is None else 1 - self.best.mean_ns / self.behind.mean_ns

    @property
    def verdict(self) -> str:
        """E.g. "lookahead is fastest", "lookahead and static are level"."""
        if not self.level:
            return f"{self.best.policy} is fastest"
        return f"{listed([each.policy for each in self.leaders])} are level"

    @property
    def why_level(self) -> str:
        """What is larger than the distance of those that are level."""
        if all(not _apart(self.best, each) for each in self.level):
            return f"within ±{share(max(each.error for each in self.leaders))}, the expected error of such a comparison"
        return "within the expected error of a comparison or the noise of routing"


def lead_of(each: Iterable[Timed]) -> Lead:
    """The lead among at least one policy."""
    best, *others = sorted(each, key=lambda one: (one.mean_ns, one.policy))
    level = tuple(one for one in others if is_level(best, one))
    return Lead(best, level, next((one for one in others if one not in level), None))


def is_level(best: Timed, other: Timed) -> bool:
    """Whether a policy is level with the fastest."""
    return not _apart(best, other) or other.mean_ns - best.mean_ns <= NOISE * math.hypot(best.sem_ns, other.sem_ns)


def _apart(best: Timed, other: Timed) -> bool:
    """Whether two means are further apart than the expected error of their ratio."""
    return other.mean_ns - best.mean_ns > max(best.error, other.error) * best.mean_ns


def timed(row: Mapping[str, Any]) -> Timed:
    """Of a row of `specmoe.summary`; an older one, without `ratio_error`, is judged by the error of the mean step."""
    sem, error, ratio = (_or_zero(row.get(name)) for name in ("latency_sem_ns", "expected_error", "ratio_error"))
    return Timed(str(row["policy"]), float(row["latency_mean_ns"]), sem, ratio or error)


def real_lead(rows: Iterable[Mapping[str, Any]]) -> Lead | None:
    """The lead among the rows that are no yardsticks; None if there is none."""
    real = [timed(row) for row in rows if not row["yardstick"]]
    return lead_of(real) if real else None


def sentence(lead: Lead) -> str:
    """The lead in words, with times."""
    if not lead.level:
        ahead = "" if lead.behind is None else f", {share(lead.ahead or 0)} ahead of {lead.behind.policy}"
        return f"{lead.verdict}: {lead.best.mean_ns / MS:.3f} ms a step{ahead}"
    slowest = max(each.mean_ns for each in lead.level)
    return f"{lead.verdict}: {lead.best.mean_ns / MS:.3f} to {slowest / MS:.3f} ms a step, {lead.why_level}"


def fits(row: Mapping[str, Any]) -> str:
    """What is said first where every expert has a slot, else nothing."""
    if not row.get("fits"):
        return ""
    size = float(row["vram_peak_bytes"]) / (1 << 30)
    return f"fits: nothing to offload: all experts of {row['shape']} in {row['format']} take {size:.1f} GiB of VRAM"


def band(row: Mapping[str, Any]) -> str:
    """The expected error of a row and where it comes from; empty where nothing is known."""
    error = error_of(row)
    return f"{error}: {row['error_basis']}" if error else ""


def error_of(row: Mapping[str, Any]) -> str:
    """The expected error of a row, e.g. "±12 % or worse"; empty where nothing is known."""
    error = _or_zero(row.get("expected_error"))
    return f"±{share(error)}{'' if row['validated'] else ' or worse'}" if error else ""


def listed(names: Sequence[str]) -> str:
    """Two or more names; of many, the first and the number of the others."""
    if len(names) > NAMED:
        return f"{names[0]} and {len(names) - 1} others"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def share(value: float) -> str:
    """In percent with three significant digits."""
    return f"{100 * value:.3g} %"


def _or_zero(value: Any) -> float:
    return 0.0 if value is None or math.isnan(value) else float(value)


def routing_of(row: Mapping[str, Any]) -> str:
    """The kind of the trace, the text domains that ran, and those that were learnt from if they are others."""
    asked, learnt = (row[name].replace(",", ", ") for name in ("source", "train_source"))
    mixture = f"{len(row['domains'])} text domains" if len(row["domains"]) > 1 else ""
    learnt_from = f"learnt from {'all domains' if learnt == 'all' else learnt}" if learnt else ""
    return "; ".join(filter(None, (row["trace_kind"], asked or mixture, learnt_from)))


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


def fastest_on(rows: Iterable[Mapping[str, Any]]) -> str:
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


def spread_cells(row: dict[str, Any]) -> dict[str, str]:
    """Tokens per second of 90 % of the drawn machines, and on how many of them the policy is fastest."""
    low, high, share = (row[name] for name in ("tokens_per_second_p5", "tokens_per_second_p95", "fastest_share"))
    if not row["draws"]:
        return {"90 % of machines": "", "fastest on": ""}
    won = "-" if share is None else f"{100 * share:.0f} %"
    return {"90 % of machines": f"{low:.1f} .. {high:.1f}", "fastest on": won}
