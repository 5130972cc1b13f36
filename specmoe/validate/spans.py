"""A real run as the spans of a timeline: the twin of `specmoe.sim.timing.timeline`, in the same lanes and words."""

from __future__ import annotations

from specmoe.errors import InputError
from specmoe.sim.lanes import Happened, moved, spans
from specmoe.timeline import Span
from specmoe.validate.device import Work
from specmoe.validate.replayer import Recording

STEPS = 200  # what a viewer opens readily


def measured_spans(work: Work, recording: Recording, steps: int = STEPS) -> list[Span]:
    """Spans of the first `steps` steps of a traced run, ns on the device's clock.

    Raises InputError if the run was not traced, for then nobody knows when anything began.
    """
    events = min(steps, work.table.num_steps) * work.table.num_layers
    return spans(work.table, _happened(work, recording, events), events)


def _happened(work: Work, recording: Recording, events: int) -> Happened:
    table, device = work.table, recording.device
    if any((starts < 0).any() for starts in (device.dense_start, device.use_start, device.started, device.head_start)):
        raise InputError("a timeline needs a traced run: this one has no starts")
    goes_on = recording.launched.copy()
    goes_on[table.num_layers - 1 :: table.num_layers] = recording.step_end
    return Happened(
        begin=recording.begin,
        dense_launched=recording.dense_launched,
        ready=recording.ready,
        launched=recording.launched,
        goes_on=goes_on,
        dense_start=device.dense_start,
        dense_end=device.dense_end,
        head_start=device.head_start,
        head_end=device.head_end,
        use_start=device.use_start,
        use_end=device.use_end,
        copies=moved(table, device.started, device.landed, events),
    )
