"""A machine of round numbers for advice: what a configuration takes is a formula, so every answer is known.

A step takes 1 ms, 0.1 ms for each further sequence, and 9 ms more for what is not resident, in fp32 with an LRU; the
link's speed and the format divide that, `lookahead` takes two thirds of it, and perfect knowledge a third.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import specmoe.traces
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.shape import BITS
from specmoe.sim.advise.search import LINK, Trial, Trials
from specmoe.sim.advise.setting import RANGE, Question, Routings, Setting
from specmoe.sim.config import RunConfig

GIB = 1 << 30
TRACE = "switch-mini-128/decode/test"
PARTS = {"lookahead": 2 / 3, "oracle": 1 / 3}  # of an LRU's stall
STEPS = 10
RATIO_ERROR = 0.051


def setting(vram: int = 8 * GIB, drawn: bool = False, **changes: Any) -> Setting:
    question = Question("switch-base-128", "rtx3090", vram, assumed_reserve=0, **changes)
    routings = Routings(TRACE, specmoe.traces.open(TRACE).meta, RANGE if drawn else ())
    return Setting(question, load_shape(question.shape), load_profile(question.profile), routings)


def stall_ns(one: RunConfig, keys: int) -> float:
    """Of a step, with an LRU."""
    bits = BITS[one.home.format or one.format or ""]
    return 9e6 * (1 - (one.slots or 0) / keys) * bits / 32 / dict(one.scales).get(LINK, 1)


def row(one: RunConfig, keys: int = 768) -> dict[str, Any]:
    """As `specmoe.sim.sweep.evaluate` gives it, as far as advice reads it."""
    floor = 1e6 + 0.1e6 * (one.batch - 1)
    lru = stall_ns(one, keys)
    stall = lru * PARTS.get(one.policy, 1)
    latency = floor + stall
    return {
        "policy": one.policy,
        "ratio_error": RATIO_ERROR,
        "steps": STEPS,
        "tokens": STEPS * one.batch,
        "warm_up_steps": 0,
        "latency_mean_ns": latency,
        "tokens_per_second": one.batch / latency * 1e9,
        "stall_ns": stall * STEPS,
        "hit_rate": one.slots / keys,
        "floor_ns": floor,
        "oracle_ns": floor + lru / 3,
        "vram_peak_bytes": one.vram,
        "profile": "rtx3090",
        "evidence": "assumed",
        "assumed": ["host.graph.issue"],
        "warnings": ["routing is synthetic: no model produced it", "mind the gap"],
        "trace_kind": "trained-here",
        "source": "",
        "train_source": "",
        "domains": ["fiction", "legal"],
        "semantics": "event-atomic",
        "error": "needs a look-ahead" if one.policy == "mixtral-offloading" else "",
    }


class FormulaTrials(Trials):
    """Runs nothing; `asked` is what would have been run."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, Path())
        self.asked: list[RunConfig] = []

    def _evaluate(self, fresh: Sequence[RunConfig], bounds: Sequence[str]) -> None:
        self.asked += fresh
        self._known |= {one: row(one, self._setting.keys) for one in fresh}

    def sequences(self, trial: Trial) -> int:
        return 3

    def drawn_with(self, stickiness: float, trial: Trial) -> float:
        return Trial(trial.config, row(trial.config)).rate * dict(zip(RANGE, (0.5, 2.0), strict=True))[stickiness]


def configuration(policy: str = "on-demand-lru", **changes: Any) -> RunConfig:
    return replace(RunConfig("none", policy, format="fp32", slots=192, vram=8 * GIB), **changes)


def trial(policy: str = "on-demand-lru", rate: float | None = None, **changes: Any) -> Trial:
    one = configuration(policy, **changes)
    return Trial(one, row(one) | ({} if rate is None else {"tokens_per_second": rate}))
