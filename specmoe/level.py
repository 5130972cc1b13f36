"""Which policies are level: a lead that predictions or the trace cannot tell from nothing is not called one.

A policy is level with the fastest if its mean step is longer by no more than the larger of two amounts:

- the expected error of the ratio of two policies' mean steps (the larger one of the two rows), times the fastest mean
  step: policies on one machine share most of the error of a mean step;
- `NOISE` standard errors of the difference of the two means, that of routing as the steps show it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

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
