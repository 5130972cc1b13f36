"""A replay as a result: the columns of `specmoe.results`, its decisions counted from what was executed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.results import Table
from specmoe.sim.event_table import byte_columns, decision_columns, ends, late_hits, summed
from specmoe.traces.workload import Workload
from specmoe.validate.device import Times, Work
from specmoe.validate.replayer import Recording

DENSE, EXPERT, HEAD = range(3)


class Computed(NamedTuple):
    """What ran on the compute stream, in order, [n]: the time it took, and the time the stream waited for its load."""

    event: NDArray[np.int64]
    busy: Times
    stall: Times


def measured_table(workload: Workload, work: Work, recording: Recording, copied: int) -> Table:
    """A row per event; `copied` is the bytes of an expert on the link."""
    loads, order, events = work.table.loads, np.array(work.program.loads, np.int64), len(recording.begin)
    executed = work.table._replace(loads=loads._replace(event=recording.order.astype(np.int32)))
    landed = recording.device.landed
    copying = landed[order] - np.maximum(recording.issued[order], np.append(0, landed[order][:-1]))
    computed = computed_by(work, recording)
    return {
        **decision_columns(workload, executed),
        **byte_columns(executed, np.ones(len(order), np.bool_), copied),
        "late_hits": late_hits(executed, landed, recording.ready),
        "begin_ns": recording.begin,
        "end_ns": ends(recording.begin, recording.step_end),
        "host_ns": recording.launched - recording.ready,
        "compute_ns": summed(computed.event, computed.busy, events),
        "stall_ns": summed(computed.event, computed.stall, events),
        "link_ns": summed(executed.loads.event[order], copying, events),
    }


def computed_by(work: Work, recording: Recording) -> Computed:
    """The compute stream's work.

    Something could begin when the host had called it and the stream was free; until its load had landed it stalled.
    """
    uses, layers, device = np.array(work.program.uses, np.int64), work.table.num_layers, recording.device
    events = np.arange(len(recording.begin))
    last = events[layers - 1 :: layers]
    kinds = np.repeat((DENSE, EXPERT, HEAD), (len(events), len(uses), len(last)))
    event = np.concatenate([events, work.table.uses.event[uses], last])
    called = np.concatenate([recording.begin, recording.called[uses], recording.launched[last]])
    landed = np.append(device.landed, 0)[work.table.uses.load[uses]]
    landed = np.concatenate([np.zeros(len(events), np.int64), landed, np.zeros(len(last), np.int64)])
    ended = np.concatenate([device.dense_end, device.use_end[uses], device.head_end])
    order = np.lexsort((kinds, event))  # stable: experts stay in the program's order
    event, called, landed, ended = (column[order] for column in (event, called, landed, ended))
    could = np.maximum(called, np.append(0, ended[:-1]))
    stall = np.maximum(landed - could, 0)
    return Computed(event, np.maximum(ended - could - stall, 0), stall)
