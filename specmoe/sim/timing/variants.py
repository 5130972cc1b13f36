"""Durations of one `DecisionTable` on many machines, in little room.

A run has a hundred thousand rows and few different durations, so each row has a code, which all machines share, and
each code a value for each machine. `sample` makes them without ever having all rows of a machine at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.timing.durations import Durations

Times = NDArray[np.int64]
Codes = NDArray[np.int32]
Lists = Sequence[Sequence[int] | Times]  # [variants][rows]
Timed = Literal["before", "expert", "after", "copy", "predict"]


class Column(NamedTuple):
    """Row r takes `values[codes[r], v]` in variant v, ns."""

    codes: Codes  # [rows]
    values: Times  # [codes, variants]

    @property
    def total(self) -> Times:
        """Of all rows, [variants]."""
        total: Times = np.bincount(self.codes, minlength=len(self.values)) @ self.values
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


def variants_of(durations: Sequence[Durations]) -> Variants:
    """The same durations, coded; raises InputError unless all are of equally many rows."""
    return by_columns(durations, _coded)


def by_columns(durations: Sequence[Durations], column: Callable[[Timed, Lists], Column]) -> Variants:
    """`column` codes the lists of all variants, given what they are of."""
    predict = [each.predict if len(each.predict) else np.zeros(len(each.before), np.int64) for each in durations]
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
    )


def stacked(lists: Lists) -> Times:
    """[rows, variants]."""
    return np.array(lists, np.int64).reshape(len(lists), len(lists[0]) if lists else 0).T.copy()


def _coded(name: Timed, lists: Lists) -> Column:
    """Rows get one code where they take the same time in every list."""
    codes, first = np.zeros(len(lists[0]) if lists else 0, np.int64), np.zeros(1, np.int64)
    for values in map(_times, lists):
        if len(values) != len(codes):
            raise InputError(f"durations: {name} of {len(values)} rows beside {len(codes)}: as many in all expected")
        if len(codes) and (values[first][codes] != values).any():
            distinct, code = np.unique(values, return_inverse=True)
            _, first, codes = np.unique(codes * len(distinct) + code, return_index=True, return_inverse=True)
    first = first[: len(codes)]  # none of no rows
    return Column(codes.astype(np.int32), stacked([_times(values)[first] for values in lists]))


def _times(values: Sequence[int] | Times) -> Times:
    return np.asarray(values, np.int64)
