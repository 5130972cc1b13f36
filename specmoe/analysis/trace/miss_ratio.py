"""Miss ratios of an LRU and of Belady's optimum against slots, both over all layers and event-atomic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from specmoe.analysis.trace.belady import belady_hits, stays_of
from specmoe.analysis.trace.reuse import FIRST, lru_hits, reuse_distances
from specmoe.analysis.trace.routing import Ints
from specmoe.traces.workload import Workload

BELADY_POINTS = 10  # slot counts between the largest demand and all experts, in equal ratios
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75)  # of all experts, at which the optimum is computed too


class Reuse(NamedTuple):
    """What reuse distances of one demand stream, or of several, come to."""

    distances: pd.DataFrame  # batch, distance, uses
    curve: pd.DataFrame  # batch, slots, share, lru_hits, lru_miss_ratio, belady_hits, belady_miss_ratio
    facts: list[dict[str, Any]]  # of each stream


def study_reuse(workload: Workload, advance: Callable[[int], object] = lambda done: None) -> Reuse:
    """All of it; `advance` is told of BELADY_POINTS + 1 parts of the work in all.

    The curve begins at the slots that the largest event demands: below, a demand is served in waves. It ends at as
    many slots as there are experts, with the first uses as its only misses.
    """
    distances = reuse_distances(workload)
    advance(1)
    curve = _lru_curve(workload, distances)
    curve["belady_hits"] = curve["slots"].map(_belady(workload, advance))  # nan where it is not known
    curve["belady_miss_ratio"] = 1 - curve["belady_hits"] / max(1, len(distances))
    values, uses = np.unique(distances[distances != FIRST], return_counts=True)
    histogram = pd.DataFrame({"batch": workload.batch, "distance": values, "uses": uses})
    return Reuse(histogram, curve, [_facts(workload, values, uses)])


def joined(studies: Sequence[Reuse]) -> Reuse:
    """Several streams as one study; none gives empty tables."""
    if not studies:
        return Reuse(pd.DataFrame(), pd.DataFrame(), [])
    distances, curves, facts = zip(*studies, strict=True)
    told = [fact for part in facts for fact in part]
    return Reuse(pd.concat(distances, ignore_index=True), pd.concat(curves, ignore_index=True), told)


def _belady(workload: Workload, advance: Callable[[int], object]) -> dict[int, int]:
    """Hits at each of the optimum's slot counts; `advance` hears of BELADY_POINTS in all."""
    hits: dict[int, int] = {}
    stays, chosen = stays_of(workload), belady_slots(workload)
    for done, slots in enumerate(chosen):
        hits[slots] = belady_hits(stays, slots)
        advance(BELADY_POINTS * (done + 1) // len(chosen) - BELADY_POINTS * done // len(chosen))
    return hits


def belady_slots(workload: Workload) -> list[int]:
    """Slot counts of the optimum: around an LRU's cliff, at `SHARES`, and in equal ratios between the ends."""
    least, keys = least_slots(workload), _keys(workload)
    wanted = [*np.geomspace(least, keys, BELADY_POINTS), *(share * keys for share in SHARES)]
    rounded = {int(slots + 0.5) for slots in (*wanted, cliff_slots(workload), cliff_slots(workload) + 1)}
    return sorted(slots for slots in rounded if least <= slots <= keys)


def least_slots(workload: Workload) -> int:
    """What the largest event demands; 1 or more."""
    return max(1, int(np.diff(workload.offsets).max(initial=0)))


def cliff_slots(workload: Workload) -> float:
    """Demand of all layers of a mean step but one layer's: at batch 1, decoding, (L - 1) * top_k.

    Up to so many slots an LRU has no hits if every event demands equally much, for between two demands of a layer lie
    those of all the others; elsewhere it has hardly any.
    """
    layers = workload.meta.num_layers
    return len(workload.experts) / max(1, workload.num_steps) * (layers - 1) / layers


def _lru_curve(workload: Workload, distances: Ints) -> pd.DataFrame:
    keys = _keys(workload)
    slots = np.arange(least_slots(workload), keys + 1)
    hits = lru_hits(distances, keys)[slots]
    ratio = 1 - hits / max(1, len(distances))
    columns = {"slots": slots, "share": slots / keys, "lru_hits": hits, "lru_miss_ratio": ratio}
    return pd.DataFrame({"batch": workload.batch, **columns})


def _facts(workload: Workload, values: Ints, uses: Ints) -> dict[str, Any]:
    demands = len(workload.experts)
    median = int(values[np.searchsorted(np.cumsum(uses), uses.sum() / 2)]) if len(values) else None
    return {
        "batch": workload.batch,
        "steps": workload.num_steps,
        "tokens": len(workload.rows),
        "demands": demands,
        "first_uses": demands - int(uses.sum()),
        "largest_demand": least_slots(workload),
        "mean_demand": demands / workload.num_events,
        "cliff_slots": cliff_slots(workload),
        "lru_hits_nothing_up_to": int(values[0]) if len(values) else None,
        "median_distance": median,
    }


def _keys(workload: Workload) -> int:
    return workload.meta.num_layers * workload.meta.num_experts
