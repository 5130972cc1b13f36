"""Variants: durations of one decision table on many machines, held compactly.

A run has a hundred thousand rows but few different durations. So each row has a code that all machines share, and each
code has one value per machine. A `Sample` keeps one example of each distinct row, whose duration is computed for each
machine:

    part = sample_of(workload, table, home, context, launching)
    small = [durations_of(part.workload, part.table, costs, home, part.context) for costs in machines]
    retime(table, part.variants(small))

Predictions are charged to the small durations in the same way, for the small workload.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles.costs import HostCosts
from specmoe.hwprofiles.kernels import Launching
from specmoe.hwprofiles.launches import whole_context
from specmoe.sim.config import Home
from specmoe.sim.decide.program import Groups, first_rows, groups_of, numbered
from specmoe.sim.decide.table import CPU, DecisionTable, Loads, Uses, found_compressed
from specmoe.sim.timing.cpu_lane import CpuCosts
from specmoe.sim.timing.durations import Durations, require_possible
from specmoe.traces.workload import Workload

Times = NDArray[np.int64]
Codes = NDArray[np.int32]
Lists = Sequence[Sequence[int] | Times]  # [variants][rows]
Timed = Literal["before", "expert", "after", "copy", "predict", "to_host", "to_device"]


class Sample(NamedTuple):
    """A small run with one row of every kind, and for each row of the whole run the row that stands for it (`codes`).

    Steps are of one kind if they have equal tokens and context; launches if their experts have equal tokens and equally
    many are the first use of their load; uses on the CPU if they have equal tokens; loads if both or neither find their
    expert compressed in VRAM, of the same layer if experts have several sizes.
    """

    workload: Workload
    table: DecisionTable
    context: list[int]
    codes: dict[Timed, Codes]

    @property
    def content(self) -> Hashable:
        """What durations on one machine depend on: samples of equal content share them."""
        table, context = self.table, np.array(self.context, np.int64)
        columns = (*table.uses, *table.loads, self.workload.step_tokens, context)
        return table.num_layers, table.num_experts, table.all_resident, *(column.tobytes() for column in columns)

    def variants(self, durations: Sequence[Durations]) -> "Variants":
        """Variants of the whole run from the durations of the small one on each machine."""
        return by_columns(durations, lambda name, lists: Column(self.codes[name], stacked(lists)))


def sample_of(
    workload: Workload,
    table: DecisionTable,
    home: Home,
    context: list[int],
    launching: Launching = "separate",
    sizes_differ: bool = False,
) -> Sample:
    """The sample of a run; `home` says how many compressed copies VRAM holds, `context` the positions of each step.

    `sizes_differ`: experts of some layers are larger on the link than those of others.
    """
    contexts = np.array(list(map(whole_context, context)))
    prefill = np.zeros(workload.num_steps, bool) if workload.prefills is None else workload.prefills
    first_step, step = _alike(2 * workload.step_tokens + prefill, contexts)
    layers = np.arange(table.num_layers)
    event = (step[:, None] * table.num_layers + layers).reshape(-1)
    uses, use = _uses_alike(table, launching)
    layer = table.loads.key // table.num_experts if sizes_differ else np.zeros_like(table.loads.key)
    found = 2 * layer + found_compressed(table, home.compressed_slots)
    codes: dict[Timed, NDArray[Any]]
    codes = {"before": event, "expert": use, "after": step, "copy": found, "predict": event}
    codes |= {"to_host": step, "to_device": step}
    return Sample(
        _steps(workload, first_step),
        _rows(table, uses, table.num_layers if sizes_differ else 1),
        contexts[first_step].tolist(),
        {name: code.astype(np.int32) for name, code in codes.items()},
    )


def _alike(one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first row of every distinct pair of values, [pairs], and the number of each row's pair, [rows]."""
    pair = one.astype(np.int64) * (int(other.max(initial=0)) + 1) + other
    return numbered(pair)


class _UseRows(NamedTuple):
    """Uses of a sample, [uses] each; those of one launch have a common event."""

    event: NDArray[Any]
    tokens: NDArray[Any]
    first: NDArray[np.bool_]  # of its load
    where: NDArray[Any]


def _uses_alike(table: DecisionTable, launching: Launching) -> tuple[_UseRows, NDArray[np.int64]]:
    """The uses of one launch of every kind, and the number of the one that stands for each use of the table."""
    is_first, where = _first_of_load(table), table.uses.where
    if launching == "separate":
        row, use = _alike(table.uses.tokens, is_first + 2 * where)
        return _UseRows(np.zeros(len(row), np.int32), table.uses.tokens[row], is_first[row], where[row]), use
    groups = groups_of(table, launching)
    kind, code = _kinds(groups, table.uses.tokens, is_first)
    members = np.flatnonzero(np.isin(groups.number, kind))
    event, rows = np.searchsorted(kind, groups.number[members]), groups.order[members]
    falling = np.lexsort((-table.uses.tokens[rows], event))  # the sample's uses are hits: they are launched so
    event, rows = event[falling], rows[falling]
    is_last = np.append(np.diff(event) != 0, True)[: len(event)]
    use = np.full(len(table.uses.load), np.argmin(is_last) if len(event) else 0)
    use[groups.ends] = np.flatnonzero(is_last)[code]
    return _UseRows(event.astype(np.int32), table.uses.tokens[rows], is_first[rows], where[rows]), use


def _kinds(
    groups: Groups, tokens: NDArray[Any], first: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first group of each kind, rising, and the number of each group's kind, [groups]."""
    numbers: dict[tuple[tuple[int, ...], int, bool], int] = {}
    starts = np.flatnonzero(groups.opens)
    loads = np.add.reduceat(first[groups.order], starts).tolist() if len(starts) else []
    in_order, bounds = tokens[groups.order].tolist(), [*starts.tolist(), len(tokens)]
    code = [
        numbers.setdefault((tuple(sorted(in_order[start:end])), count, on_cpu), len(numbers))
        for (start, end), count, on_cpu in zip(pairwise(bounds), loads, groups.on_cpu[starts].tolist(), strict=True)
    ]
    codes = np.array(code, np.int64)
    return np.unique(codes, return_index=True)[1], codes


def _first_of_load(table: DecisionTable) -> NDArray[np.bool_]:
    """Whether each use is the first of the load that brought it, [uses]."""
    rows = first_rows(table.uses.load, int(table.uses.load.max(initial=-1)) + 1)
    first = np.zeros(len(table.uses.load), np.bool_)
    first[rows[rows >= 0]] = True
    return first


def _steps(workload: Workload, chosen: NDArray[np.int64]) -> Workload:
    """A workload of steps with the phases and tokens of the chosen ones, and no demand."""
    nothing, tokens = np.zeros(0, np.int32), workload.step_tokens[chosen]
    return dataclasses.replace(
        workload,
        rows=np.arange(tokens.sum()),
        row_offsets=np.append(0, np.cumsum(tokens)),
        offsets=np.zeros(len(tokens) * workload.meta.num_layers + 1, np.int64),
        experts=nothing,
        tokens=nothing,
        prefills=None if workload.prefills is None else workload.prefills[chosen],
    )


def _rows(table: DecisionTable, of: _UseRows, layers: int) -> DecisionTable:
    """A table with these uses, hits on the GPU, and an expert of each layer loaded twice: the second may be in VRAM."""
    uses, loads = np.zeros(len(of.tokens), np.int32), np.zeros(2 * layers, np.int32)
    keys = np.repeat(np.arange(layers, dtype=np.int32) * table.num_experts, 2)
    load = np.where(of.first, np.arange(len(of.tokens)), -1)
    return table._replace(
        uses=Uses(of.event, uses, of.tokens, uses, load, of.where != CPU, uses, of.where),
        loads=Loads(loads, keys, loads, loads, loads > 0, loads > 0, loads, loads > 0),
    )


class Column(NamedTuple):
    """Coded durations: row r takes `values[codes[r], v]` ns in variant v."""

    codes: Codes  # [rows]
    values: Times  # [codes, variants]

    @property
    def total(self) -> Times:
        """Sum over all rows, ns, [variants]."""
        return self.since(0)

    def since(self, first: int) -> Times:
        """Sum over a row and all later ones, ns, [variants]."""
        total: Times = np.bincount(self.codes[first:], minlength=len(self.values)) @ self.values
        return total


class Variants(NamedTuple):
    """`Durations` of many variants."""

    before: Column
    expert: Column
    after: Column
    copy: Column
    predict: Column  # all 0 where nothing is predicted
    read: Times  # [variants]
    host: Times  # [costs, variants], in the order of `HostCosts`
    sync_each_layer: NDArray[np.bool_]  # [variants]
    interference: NDArray[np.float64]  # [variants]
    to_host: Column  # all 0 where the CPU computes nothing
    to_device: Column
    cpu: Times  # [costs, variants], in the order of `CpuCosts`
    launching: Launching = "separate"
    runs_ahead: bool = False


def variants_of(durations: Sequence[Durations]) -> Variants:
    """Code the durations of many variants; raises InputError unless all have the same number of rows."""
    return by_columns(durations, _coded)


def by_columns(durations: Sequence[Durations], column: Callable[[Timed, Lists], Column]) -> Variants:
    """Variants whose lists are coded by `column`, given their names.

    Raises InputError for a duration below 0, for launches of several kinds and for dense launches by layer.
    """
    for each in durations:
        require_possible(each)
        if each.launch_dense:
            raise InputError("durations: launch_dense by layer is not supported by the re-timer: one for all expected")
    ways = {(each.launching, each.runs_ahead) for each in durations} or {("separate", False)}
    if len(ways) > 1:
        raise InputError(f"durations: launches {', '.join(sorted(way for way, _ in ways))}: one kind expected")
    ((launching, runs_ahead),) = ways
    predict = [_or_zeros(each.predict, len(each.before)) for each in durations]
    to_host = [_or_zeros(each.to_host, len(each.after)) for each in durations]
    to_device = [_or_zeros(each.to_device, len(each.after)) for each in durations]
    return Variants(
        before=column("before", [each.before for each in durations]),
        expert=column("expert", [each.expert for each in durations]),
        after=column("after", [each.after for each in durations]),
        copy=column("copy", [each.copy for each in durations]),
        predict=column("predict", predict),
        read=np.array([each.read for each in durations], np.int64),
        host=np.array([each.host for each in durations], np.int64).reshape(-1, len(HostCosts._fields)).T,
        sync_each_layer=np.array([each.sync_each_layer for each in durations], np.bool_),
        interference=np.array([each.interference for each in durations], np.float64),
        to_host=column("to_host", to_host),
        to_device=column("to_device", to_device),
        cpu=np.array([each.cpu for each in durations], np.int64).reshape(-1, len(CpuCosts._fields)).T,
        launching=launching,
        runs_ahead=runs_ahead,
    )


def _or_zeros(times: Sequence[int], rows: int) -> Sequence[int] | Times:
    return times if len(times) else np.zeros(rows, np.int64)


def stacked(lists: Lists) -> Times:
    """The lists as an array [rows, variants]."""
    return np.array(lists, np.int64).reshape(len(lists), len(lists[0]) if lists else 0).T.copy()


def _coded(name: Timed, lists: Lists) -> Column:
    """Code rows: two rows get the same code if they take the same time in every list."""
    codes, first = np.zeros(len(lists[0]) if lists else 0, np.int64), np.zeros(1, np.int64)
    for values in map(_times, lists):
        if len(values) != len(codes):
            raise InputError(f"durations: {name} of {len(values)} and of {len(codes)} rows: equally many expected")
        if len(codes) and (values[first][codes] != values).any():
            distinct, code = np.unique(values, return_inverse=True)
            _, first, codes = np.unique(codes * len(distinct) + code, return_index=True, return_inverse=True)
    first = first[: len(codes)]  # none of no rows
    return Column(codes.astype(np.int32), stacked([_times(values)[first] for values in lists]))


def _times(values: Sequence[int] | Times) -> Times:
    return np.asarray(values, np.int64)
