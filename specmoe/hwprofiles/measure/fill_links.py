"""Copies, allocation, the disk, the link itself, and what the host thread pays."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from specmoe.errors import InputError
from specmoe.hwprofiles.fields import HOST_SETS
from specmoe.hwprofiles.formats import compute_format
from specmoe.hwprofiles.measure import disk, host
from specmoe.hwprofiles.measure.copies import LEAST, Link, fitting
from specmoe.hwprofiles.measure.dense import DenseParts
from specmoe.hwprofiles.measure.experts import Experts
from specmoe.hwprofiles.measure.findings import Context
from specmoe.hwprofiles.measure.machine import link as link_fact
from specmoe.hwprofiles.measure.quiet import quiet
from specmoe.hwprofiles.profile import Fact
from specmoe.hwprofiles.shape import ModelShape

LANES = 16  # of a link about which the driver says nothing
PER_LANE = 1e9 * 128 / 130  # bytes a second of a lane of generation 3, and twice that of each that follows
TOLD, UNTOLD = "as the driver reports it", "the driver does not tell"


def disk_reads(context: Context) -> None:
    """nvme."""
    timed, latency, how = disk.reads(context.plan.reads)
    context.found.curve("nvme.points", timed, how)
    context.found.latency("nvme", latency, how)


def links_and_host(context: Context, shape: ModelShape) -> None:
    """Every copy, allocation and the costs of the host, which share their buffers."""
    link = open_link(context)
    copies(context, link, shape)
    with quiet():
        host_costs(context, link, shape)


def open_link(context: Context) -> Link:
    """Buffers of the largest size that memory has room for; raises InputError if it is none."""
    for largest in reversed(context.plan.copies):
        try:
            return Link(context.bench, largest, context.plan.effort)
        except RuntimeError as error:  # what torch raises if memory of either kind runs out
            context.skip(f"copies of {largest} bytes: {str(error).splitlines()[0]}")
    raise InputError("copies: no room for the least of them, in host or device memory")


def copies(context: Context, link: Link, shape: ModelShape) -> None:
    """By size, in every way; the time of the least one is the latency."""
    sizes = fitting(context.plan.copies, len(link.pinned))
    beside = Experts(shape, shape.format, context.bench).beside(context.plan.effort)
    for name, measured, how in link.ways(beside):
        timed = [(size, measured(size)) for size in sizes]
        context.found.curve(name, timed, how)
        if name.endswith(".points"):
            context.found.latency(name.rpartition(".")[0], measured(LEAST), how)
        if name == "device_copy.points":
            size, sample = timed[-1]
            context.found.rate("device.memory_bandwidth", 2 * size, sample, "read and written by the largest of them")


def host_costs(context: Context, link: Link, shape: ModelShape) -> None:
    """Both sets, with an expert and the last dense part of a shape on one token."""
    bench, effort, found = context.bench, context.plan.effort, context.found
    parts = _parts(context, shape)
    begin = host.begin(bench, parts, effort)
    shared = {
        "issue": (host.issue(bench, link), "issue of a copy: another stream, a wait, the copy, an event"),
        "event": (host.handover(bench, link, parts.expert, effort), "from a copy's end until a kernel's beginning"),
        "sync": (host.sync(bench, parts, begin, effort), "from the router's end until the host has waited for it"),
        "bookkeeping": (host.bookkeeping(bench), "a replay's loop for an event that does nothing"),
        "begin_copy": (host.begin_copy(bench, link, effort), "from the issue of a few bytes until they move"),
    }
    for kind in HOST_SETS:
        for cost, (sample, how) in shared.items():
            found.time(f"host.{kind}.{cost}", sample, how)
    found.time("host.graph.begin", begin, "from a launch's return until an idle device begins")
    of = f"of {shape.name} {shape.format}"
    found.time("host.graph.launch", host.launch(bench, parts.expert), f"launch of a captured expert {of}")
    found.time("host.graph.launch_dense", host.launch(bench, parts.before), f"launch of a captured dense part {of}")
    found.time("host.eager.launch", host.launch(bench, parts.expert_eager), f"operators of an expert {of}")
    found.time("host.eager.launch_dense", host.launch(bench, parts.before_eager), f"operators of a dense part {of}")


def _parts(context: Context, shape: ModelShape) -> host.Parts:
    bench = context.bench
    expert = Experts(shape, shape.format, bench).runs(1)[0]
    stand = DenseParts(shape, "decode", compute_format(shape.format), bench).stands[0]
    before, chosen = stand.before(-1, 1, host.CONTEXT)
    return host.Parts(bench.captured(expert), expert, bench.captured(before), before, chosen)


def built_link(context: Context, facts: Mapping[str, Fact]) -> None:
    """What the link is built as; else the least generation that carries what was measured."""
    found, lanes, generation = context.found, link_fact(facts, "width"), link_fact(facts, "generation")
    if lanes is None:
        found.guessed("link.lanes", LANES, f"{UNTOLD}; the usual number")
    else:
        found.given("link.lanes", lanes, TOLD)
    if generation is None:
        found.guessed("link.generation", _carrying(context), f"{UNTOLD}; the least that carries what was measured")
    else:
        found.given("link.generation", generation, TOLD)


def _carrying(context: Context) -> int:
    points, lanes = context.found.points["host_to_device.pinned.points"], context.found.quantities["link.lanes"].value
    rate = points.amounts[-1] / points.times_ns[-1] * 1e9
    return next(at for at in itertools.count(1) if lanes * PER_LANE * 2.0 ** (at - 3) > rate)
