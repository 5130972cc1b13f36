"""What it costs an answer that the routing is not the model's own: judged on gpt-oss-20b, whose own routing is known.

`misses.csv` says how often policies miss, on a share of all experts in slots: on that model's own routing, on that of
decoder-mini-64, which stands in for decoder-only models of its experts and top-k, and on a drawn one. So an answer has
a range: its waits for experts are also those of gpt-oss-20b's misses. docs/build_decoder.py measures the table.
"""

import csv
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from specmoe.sim.advise.search import BASE, EVERYTHING, Trial
from specmoe.sim.advise.setting import LIKELY, RANGE, Setting

JUDGE = "gpt-oss-20b"
Kind = Literal["borrowed", "drawn"]


class Judged(NamedTuple):
    """Shares of demanded experts that a policy misses on gpt-oss-20b's own routing, and on the other one."""

    policy: str
    own: float
    other: float

    @property
    def ratio(self) -> float:
        """Misses on the own routing for each on the other one."""
        return self.own / self.other


def judged(policy: str, slots: float, kind: Kind) -> Judged:
    """What was found of a policy with slots for a share of all experts; of one that was not judged, as of an LRU."""
    name = policy if policy in _table() else BASE
    shares, own, *others = _table()[name]
    other = others[("borrowed", "drawn").index(kind)]
    return Judged(name, float(np.interp(slots, shares, own)), float(np.interp(slots, shares, other)))


def rate_with(trial: Trial, ratio: float) -> float:
    """Rate of a configuration, tokens/s, if its waits for experts change as its misses do."""
    waits = trial.stall_ms + trial.cpu_stall_ms
    return trial.rate * trial.step_ms / (trial.step_ms + (ratio - 1) * waits)


def judged_of(setting: Setting, best: Trial) -> Judged | None:
    """What routing that is not the model's own costs; None for its own, and where every expert is resident."""
    if best.config.policy == EVERYTHING or not (setting.routings.drawn or setting.routings.borrowed):
        return None
    kind: Kind = "drawn" if setting.routings.drawn else "borrowed"
    return judged(best.config.policy, (best.config.slots or 0) / setting.keys, kind)


def words_of(found: Judged | None, other: str) -> str:
    """What the range of an answer rests on; empty for the model's own routing."""
    if found is None:
        return ""
    return (
        f"; its range rests on {JUDGE}: with slots for as large a share of the experts, {found.policy} misses "
        f"{found.own:.0%} of those demanded on its own routing and {found.other:.0%} on {other}"
    )


def drawn_words(setting: Setting) -> str:
    """Why routing is drawn, and how."""
    (low, high), experts, batch = RANGE, setting.shape.experts, setting.question.batch
    return (
        f"no trace of {setting.shape.name} is at hand, nor one of {experts.number} experts, top-{experts.top_k}, for a "
        f"batch of {batch}, so it is drawn: experts alike, each used again by the next token with probability {LIKELY} "
        f"({low:g} .. {high:g}), which no predictor is judged on (--trace gives a real one)"
    )


@cache
def _table() -> dict[str, list[list[float]]]:
    """Columns of the table for each policy, but for its name."""
    with (Path(__file__).parent / "misses.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    names = dict.fromkeys(name for name, *_ in rows)
    return {name: [list(map(float, column)) for column in zip(*_of(rows, name), strict=True)] for name in names}


def _of(rows: list[list[str]], name: str) -> list[list[str]]:
    return [cells for own, *cells in rows if own == name]
