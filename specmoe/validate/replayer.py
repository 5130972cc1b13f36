"""Execution of a `DecisionTable` on a device: the twin of `specmoe.sim.timing.engine`, in the same order and words.

The host launches the dense part with the router and waits for the router's result. It looks up the decisions, issues
the loads, predicts, and launches the experts, one or a group at a time, without waiting for any of them. At the end of
a step it waits for the compute stream.

Experts on the CPU are handed over before anything is issued. Once everything is launched the host waits for them, and
has their result added.
"""

from array import array
from typing import NamedTuple

import numpy as np

from specmoe.sim.decide.table import column, unpacked, uses_on_cpu
from specmoe.validate.device import Device, DeviceTimes, Times, Work


class Recording(NamedTuple):
    """Times of a replay, ns, with the names of the engine's `Timing`."""

    begin: Times  # [events]
    dense_launched: Times  # [events], the host's call has returned
    ready: Times  # [events]
    decided: Times  # [events], the decisions have been looked up
    handed: Times  # [events], the CPU's experts have been handed over
    launched: Times  # [events], the host has launched and issued everything
    joined: Times  # [events], and the addition of the CPU's result
    head_launched: Times  # [steps], likewise everything after the last MoE layer
    step_end: Times  # [steps]
    called: Times  # [uses], the launch of its group has returned
    issued: Times  # [loads], likewise
    order: Times  # [loads], the event in which the load was issued
    device: DeviceTimes


def replay(work: Work, device: Device, traced: bool = False) -> Recording:
    """Execute all steps once on a device that was prepared for this work."""
    rounds, loads, load_offsets, uses, use_offsets, _, _, opens, last = work.program
    layers, predict = work.table.num_layers, work.predict
    now, launch, issue = device.now, device.launch, device.issue
    events, steps, on_cpu = array("q"), array("q"), uses_on_cpu(work.table)
    called, issued, order = column(len(uses)), column(len(loads)), column(len(loads), -1)
    device.begin(traced)
    for event in range(work.table.num_steps * layers):
        begin = now()
        device.launch_dense(event)
        dense_launched, computes = now(), event in on_cpu
        if computes:
            device.fetch(event)
        if not work.runs_ahead:
            device.wait_for_router(event)
        ready = now()
        first, end = rounds[event], rounds[event + 1]
        decided = now()
        if computes:
            device.hand_over(event)
        handed = now()
        for round_ in range(first, end):
            if predict and round_ == end - 1:
                device.think(predict[event])
            for load in loads[load_offsets[round_] : load_offsets[round_ + 1]]:
                issue(load)
                issued[load] = now()
                order[load] = event
            for use in uses[use_offsets[round_] : use_offsets[round_ + 1]]:
                if opens[use]:
                    launch(last[use])
                called[use] = now()
        launched = now()
        if computes:
            device.join(event)
        events.extend((begin, dense_launched, ready, decided, handed, launched, now()))
        if (event + 1) % layers == 0:
            device.launch_head(event // layers)
            head_launched = now()
            device.end_step(event // layers)
            steps.extend((head_launched, now()))
    times = device.end()
    begins, denses, readies, decisions, hands, launches, joins = unpacked(events).reshape(-1, 7).T.copy()
    heads, ends = unpacked(steps).reshape(-1, 2).T.copy()
    of_uses, of_loads, in_event = map(unpacked, (called, issued, order))
    of_events = (begins, denses, readies, decisions, hands, launches, joins)
    return Recording(*of_events, heads, ends, of_uses, of_loads, in_event, times)


def latencies(recording: Recording) -> Times:
    """Latency of every step, ns, [steps]."""
    layers = len(recording.begin) // len(recording.step_end)
    return np.asarray(recording.step_end - recording.begin[::layers])
