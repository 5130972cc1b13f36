"""What the re-timer's kernel walks: `Actions` whose every number is a row of its clocks or of its costs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.timing.actions import LOAD, Actions
from specmoe.sim.timing.host_order import COPY, EXPERT
from specmoe.sim.timing.variants import Variants

# Rows of the clocks, and from `FREE` on one for each slot: when its expert has landed or, once used, was last used.
HOST, START, COMPUTE, READY, DECIDED, PREDICTED, LINK, DISK, STALL, SLOWED, LATE, FREE = range(12)
# Rows of the costs; the coded ones follow. The kernel is compiled with these numbers and those of `actions`, and numba
# looks at the kernel's file only: who changes a number touches that file too.
DENSE, HANDOVER, SYNC, BOOKKEEPING, READ, SYNC_EACH_LAYER = range(6)

Times = NDArray[np.int64]
Rows = NDArray[np.int32]


class Script(NamedTuple):
    """All that variants share."""

    actions: Rows  # [actions, 5]: kind; rows of: slot, clock from which the host begins, cost from there, own cost
    ends: Times  # [events], among the actions
    events: Rows  # [events, 3], rows of the costs: of the dense part, of predicting, of all that the host then does
    heads: Rows  # [steps], rows of the costs


def script_of(actions: Actions, variants: Variants) -> tuple[Script, Times]:
    """The script, and what things cost, [costs, variants]."""
    columns = (variants.before, variants.predict, variants.after, variants.copy, variants.expert)
    tables = [_fixed(variants), _progress(actions, variants), *(column.values for column in columns)]
    progress, *starts = np.cumsum([len(table) for table in tables])[:-1].tolist()
    before, predict, after, copy, expert = (column.codes + start for column, start in zip(columns, starts, strict=True))
    is_load = actions.kind == LOAD
    cost = np.empty(len(is_load), np.int32)
    cost[is_load] = copy[actions.row[is_load]]
    cost[~is_load] = expert[actions.row[~is_load]]
    decided = np.where(actions.predicted, PREDICTED, DECIDED)
    walked = (actions.kind, actions.slot + FREE, decided, actions.progress + progress, cost)
    events = (before, predict, actions.event_progress + progress)
    return Script(_table(walked), actions.ends, _table(events), after), np.concatenate(tables)


def _table(columns: tuple[NDArray[np.signedinteger], ...]) -> Rows:
    return np.stack(columns, axis=1).astype(np.int32)


def _fixed(variants: Variants) -> Times:
    """The rows of costs that have names."""
    host = HostCosts(*variants.host)
    dense = host.launch_dense_ns + host.begin_ns  # from the host's launch to the device's begin
    return np.stack([dense, host.event_ns, host.sync_ns, host.bookkeeping_ns, variants.read, variants.sync_each_layer])


def _progress(actions: Actions, variants: Variants) -> Times:
    """From the host's decision to the begin of what it issues or launches, [distinct, variants]."""
    host = HostCosts(*variants.host)
    issues, launches, begins = (column[:, None] for column in actions.host)
    begin = np.where(begins == COPY, host.begin_copy_ns, np.where(begins == EXPERT, host.begin_ns, 0))
    progress: Times = issues * host.issue_ns + launches * host.launch_ns + begin
    return progress
