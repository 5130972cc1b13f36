"""Reuse of experts: reuse distances (Mattson et al. 1970), and miss ratios of LRU and of Belady's optimum.

All are event-atomic, over one pool of slots for all layers.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.style import COLOURS, MARKERS, figure
from specmoe.analysis.trace.routing import Ints
from specmoe.analysis.trace.tables import Analysis, cut, told
from specmoe.summary import cliff_slots
from specmoe.traces.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST = -1  # the distance of an expert's first use


def reuse_distances(workload: Workload) -> Ints:
    """Distance of every demanded expert, or FIRST, [U].

    With uses numbered in the stream's order and p the number of an expert's use before (-1 for a first use), a use i
    of an event that begins at s has the distance #{j < s: p(j) < p(i)} - p(i) - 1: of the s uses before the event,
    p(i) + 1 lie no later than the last use, all with p(j) < p(i); of those since, p(j) < p(i) are the first of an
    expert each. Sorted descending by p within the event, none of its uses has a smaller p before it, so `earlier and
    smaller` counts what is asked for. O(U log U) time, about 60 bytes a use.
    """
    last = previous_use(workload.keys)
    order = np.lexsort((-last, workload.events))
    counted = np.empty_like(last)
    counted[order] = earlier_and_smaller(last[order] + 1)
    return np.where(last >= 0, counted - last - 1, FIRST)


def previous_use(keys: NDArray[np.integer]) -> Ints:
    """Number of the use before of the same key, -1 for the first, [U]."""
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    last = np.full(len(keys), -1, np.int64)
    last[order[1:][same]] = order[:-1][same]
    return last


def earlier_and_smaller(values: Ints) -> Ints:
    """For each of the integers, 0 or more, how many smaller ones stand before it, [n].

    A wavelet tree, read as it is built: integers are sorted by one bit after the other, the highest first, stably.
    Those that agree in all higher bits stand together, and one with a 1 has as many smaller ones, so far undecided, as
    there are 0s before it among them.
    """
    count = np.zeros(len(values), np.int64)
    order = np.arange(len(values))
    places = np.arange(len(values))
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        sorted_values = values[order]
        one = (sorted_values >> bit & 1).astype(np.bool_)
        begins = np.ones(len(values), np.bool_)
        begins[1:] = np.diff(sorted_values >> (bit + 1)) != 0
        group = np.flatnonzero(begins)[np.cumsum(begins) - 1]
        zeros: Ints = np.cumsum(~one) - ~one
        zeros -= zeros[group]
        count[order[one]] += zeros[one]
        sizes = np.add.reduceat(~one, np.flatnonzero(begins), dtype=np.int64)[np.cumsum(begins) - 1]
        moved = np.empty_like(order)
        moved[group + np.where(one, sizes + places - group - zeros, zeros)] = order
        order = moved
    return count


def lru_hits(distances: Ints, most: int) -> Ints:
    """Hits of an LRU with 0, 1, ..., `most` slots, [most + 1]; exact from the largest event's demand on."""
    near = distances[distances >= 0]
    return np.concatenate([[0], np.cumsum(np.bincount(near, minlength=most)[:most])])


class Stays(NamedTuple):
    """The intervals of a demand stream by the numbers of its uses, [U] each, and its `offsets` [events + 1]."""

    last: list[int]  # the use before of the same expert; -1 for a first use
    following: list[int]  # the use after; 0, which follows nothing, for a last one
    offsets: list[int]


def stays_of(workload: Workload) -> Stays:
    """The intervals of a workload's demand."""
    last = previous_use(workload.keys)
    following = np.zeros_like(last)
    following[last[last >= 0]] = np.flatnonzero(last >= 0)
    return Stays(last.tolist(), following.tolist(), workload.offsets.tolist())


def belady_hits(stays: Stays, slots: int) -> int:
    """Demanded experts that are resident when asked for, with `slots` slots for all layers; O(U log U).

    Demands are event-atomic. Raises ValueError if an event demands more than there are slots.

    An interval goes by the number of the use that ends it. The heap keeps intervals that have ended; they end before
    all others, so none is taken for an open one.
    """
    last, following, offsets = stays
    given_up = bytearray(len(last))
    ends: list[int] = []  # negated: the last end first
    hits = kept = 0
    for start, stop in pairwise(offsets):
        if stop - start > slots:
            raise ValueError(f"{slots} slots hold less than the {stop - start} experts that an event demands")
        for use in range(start, stop):
            if last[use] >= 0 and not given_up[use]:
                hits += 1
                kept -= 1
        while kept > slots - (stop - start):
            given_up[-heappop(ends)] = True
            kept -= 1
        for use in range(start, stop):
            if following[use]:
                heappush(ends, -following[use])
                kept += 1
    return hits


BELADY_POINTS = 10  # slot counts between the largest demand and all experts, in equal ratios
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75)  # of all experts, at which the optimum is computed too


class Reuse(NamedTuple):
    """What reuse distances of one demand stream, or of several, come to."""

    distances: pd.DataFrame  # batch, distance, uses
    curve: pd.DataFrame  # batch, slots, share, lru_hits, lru_miss_ratio, belady_hits, belady_miss_ratio
    facts: list[dict[str, Any]]  # of each stream


def study_reuse(workload: Workload, advance: Callable[[int], object] = lambda done: None) -> Reuse:
    """All of it; `advance` is called BELADY_POINTS + 1 times.

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
    rounded = {int(slots + 0.5) for slots in (*wanted, cliff_of(workload), cliff_of(workload) + 1)}
    return sorted(slots for slots in rounded if least <= slots <= keys)


def least_slots(workload: Workload) -> int:
    """What the largest event demands; 1 or more."""
    return max(1, int(np.diff(workload.offsets).max(initial=0)))


def cliff_of(workload: Workload) -> int:
    """`results.cliff_slots` of a workload: at batch 1, decoding, (L - 1) * top_k."""
    return cliff_slots(len(workload.experts), workload.num_steps, workload.meta.num_layers)


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
        "cliff_slots": cliff_of(workload),
        "lru_hits_nothing_up_to": int(values[0]) if len(values) else None,
        "median_distance": median,
    }


def _keys(workload: Workload) -> int:
    return workload.meta.num_layers * workload.meta.num_experts


NOTE = (
    "Misses among an event's distinct experts; one pool of slots for all layers, nothing prefetched. Belady: the "
    "fewest\npossible, at the marks. A curve begins at what the largest event demands. Crosses: an LRU's cliff, "
    "the demand of\nall layers of a mean step but one layer's."
)


def miss_ratio_figure(analysis: Analysis) -> "Figure":
    """An LRU's curve, the optimum's and the cliff for each batch."""
    chart, axes = figure(1, 1, width=7.4, height=4.6)
    for place, study in enumerate(analysis.facts["reuse"]):
        _curves(axes, analysis, study, place)
    every = int(analysis.tables["miss-ratio"]["slots"].max())
    axes.set(xlabel="slots, experts of all layers", ylabel="miss ratio, %", ylim=(0, 103), xlim=(0, 1.02 * every))
    share = axes.secondary_xaxis("top", functions=(lambda slots: 100 * slots / every, lambda part: part * every / 100))
    share.set_xlabel("share of all experts, %")
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=2)
    seen = min(study["tokens"] for study in analysis.facts["reuse"])
    told(chart, analysis.facts, "Miss ratio against slots", NOTE + cut(seen, analysis.facts))
    return chart


def _curves(axes: Any, analysis: Analysis, study: dict[str, Any], place: int) -> None:
    table = analysis.tables["miss-ratio"]
    curve = table[table["batch"] == study["batch"]]
    known = curve[curve["belady_hits"].notna()]
    colour = COLOURS[place % len(COLOURS)]
    mark: Any = {"marker": MARKERS[place % len(MARKERS)], "markersize": 4}
    axes.plot(curve["slots"], 100 * curve["lru_miss_ratio"], color=colour, label=f"LRU, batch {study['batch']}")
    best = f"Belady, batch {study['batch']}"
    axes.plot(known["slots"], 100 * known["belady_miss_ratio"], "--", color=colour, label=best, **mark)
    axes.plot([study["cliff_slots"]], [100], "x", color=colour, markersize=8, markeredgewidth=2, clip_on=False)
