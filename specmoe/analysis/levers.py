"""What would make a step faster, read from the table.

A lever is a neighbouring cell: the next larger number of slots, the next faster link, a smaller format in no more VRAM.
Of a better predictor the oracle tells what perfect knowledge would give. Whatever the lever, the policy that is fastest
there counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from specmoe.analysis.changes import shown
from specmoe.analysis.comparison import GIB, bounds_of, three_digits, winner
from specmoe.analysis.figures.setting import Setting, told
from specmoe.analysis.figures.words import ms, percent
from specmoe.analysis.point import Point
from specmoe.sweep_table import SCALE, SET

LINKS = (SET, SCALE)
PREDICTOR = "predictor"
PINNED = "host_to_device.pinned.bandwidth"


@dataclass(frozen=True)
class Lever:
    """One thing to change: slots, link, predictor or format."""

    name: str
    gain: float  # share of the mean step that it saves; negative where it costs time
    sentence: str


def levers_of(setting: Setting, best: Point) -> list[Lever]:
    """What could be changed, the most helpful first; only what the table tells."""
    found = [_slots(setting, best), _link(setting, best), _predictor(setting, best), _format(setting, best)]
    return sorted((lever for lever in found if lever is not None), key=lambda lever: -lever.gain)


def _slots(setting: Setting, best: Point) -> Lever | None:
    found = _next(setting, "slots", best.about.slots)
    if found is None:
        return None
    more = (found.about.slots - best.about.slots) * best.about.expert_bytes / GIB
    what = f"{found.about.slots} slots instead of {best.about.slots} ({three_digits(more)} GiB more)"
    return _lever("slots", best, found, what)


def _link(setting: Setting, best: Point) -> Lever | None:
    columns = [name for name in setting.varying if name.endswith(".bandwidth") and name.startswith(LINKS)]
    for column in sorted(columns, key=lambda name: (PINNED not in name, name.startswith(SCALE), name)):
        here = setting.main[column]
        found = None if here is None else _next(setting, column, here)
        if found is not None:
            faster = min(value for value in _values(setting, column) if value > here)
            return _lever("link", best, found, f"a faster link ({shown(column, faster)}, from {_plain(column, here)})")
    return None


def _predictor(setting: Setting, best: Point) -> Lever | None:
    oracle = bounds_of([cell.point for cell in setting.along()])["oracle"]
    if math.isnan(oracle):
        return None
    gain = 1 - oracle / best.latency_ns
    if gain <= 0:
        return Lever(PREDICTOR, gain, f"the oracle, which knows what is to come, is no faster ({ms(oracle)} a step).")
    most = f"with perfect knowledge (the oracle) in the same slots {_change(gain)} ({ms(oracle)} a step)."
    return Lever(PREDICTOR, gain, most)


def _format(setting: Setting, best: Point) -> Lever | None:
    """The fastest in a smaller format: in no more VRAM if the table has such a cell, else in the same slots."""
    smaller = [c for c in setting.along("format", "slots") if c.point.about.expert_bytes < best.about.expert_bytes]
    fitting = [c.point for c in smaller if c.point.about.vram_peak_bytes <= best.about.vram_peak_bytes]
    same = [c.point for c in smaller if c.point.about.slots == best.about.slots]
    found = winner(fitting) or winner(same)
    if found is None:
        return None
    taken = f"{found.about.slots} slots, {three_digits(found.peak_gib)} GiB for all weights"
    what = f"experts in {found.about.format} ({taken})"
    lever = _lever("format", best, found, what)
    return Lever(lever.name, lever.gain, f"{lever.sentence[:-1]}; what it costs in quality is not simulated.")


def _next(setting: Setting, column: str, here: Any) -> Point | None:
    """The fastest real policy at the next larger value of a column."""
    larger = [value for value in _values(setting, column) if value > here]
    if not larger:
        return None
    return winner([cell.point for cell in setting.along(column) if cell.where[column] == min(larger)])


def _values(setting: Setting, column: str) -> list[Any]:
    cells = [cell for cell in setting.along(column) if not cell.point.yardstick]
    return sorted({cell.where[column] for cell in cells if cell.where[column] is not None})


def _lever(name: str, best: Point, there: Point, what: str) -> Lever:
    gain = 1 - there.latency_ns / best.latency_ns
    policy = f", by {there.about.policy}" if there.about.policy != best.about.policy else ""
    return Lever(name, gain, f"{what}: {_change(gain)} ({ms(there.latency_ns)} a step{policy}).")


def _change(gain: float) -> str:
    return f"a step takes {percent(abs(gain))} {'less' if gain > 0 else 'more'} time" if gain else "no gain"


def _plain(column: str, value: Any) -> str:
    """The value alone."""
    return told(column, value).partition("=")[2] or "the profile's own"
