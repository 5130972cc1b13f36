"""The whole measurement: all tasks in order, and the profile made of their results."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch

from specmoe.errors import InputError
from specmoe.hwprofiles.curves import Fact
from specmoe.hwprofiles.measure import cpu_tasks as cpu_work
from specmoe.hwprofiles.measure import tasks as work
from specmoe.hwprofiles.measure.bench import Bench, Beside, Records, computing, copying, in_turn, percent, rounded
from specmoe.hwprofiles.measure.copies import pairs
from specmoe.hwprofiles.measure.cpu import FORMATS as CPU_FORMATS
from specmoe.hwprofiles.measure.experts import DenseParts
from specmoe.hwprofiles.measure.findings import Context, Findings, Plan
from specmoe.hwprofiles.measure.host import CONTEXT
from specmoe.hwprofiles.measure.layers import WIDTH
from specmoe.hwprofiles.measure.machine import link, slug
from specmoe.hwprofiles.measure.packing import KINDS
from specmoe.hwprofiles.measure.tasks import full_precision
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import CONTENTION, INTERFERENCE
from specmoe.hwprofiles.shape import (
    KERNEL_FORMATS,
    ComputeFormat,
    Format,
    ModelShape,
    Phase,
    compute_format,
    is_expandable,
    require_kernels,
)

FULL = Plan()
EXPANDABLE = tuple(held for held in KERNEL_FORMATS if is_expandable(held))
PHASES: tuple[Phase, ...] = ("decode", "encode")
COPIES_IN_TURN = 3  # of those that are timed beside kernels


class Progress(NamedTuple):
    """Progress of a measurement: tasks done, their total, and the next task, or a skipped part with the reason."""

    done: int
    total: int
    what: str
    skipped: bool = False


class Task(NamedTuple):
    """A named part of the measurement."""

    what: str
    run: Callable[[Context], object]


def measure(
    shapes: Sequence[ModelShape],
    formats: Sequence[Format],
    on_progress: Callable[[Progress], object],
    bench: Bench,
    name: str | None = None,
    plan: Plan = FULL,
) -> HardwareProfile:
    """Measure a profile; numbers that belong to no shape in particular are measured with the first one.

    `name` is the profile's name (default: that of the device). Raises InputError if there is no shape, if a shape
    cannot be measured, and if memory is too small for any measurement.
    """
    require_measurable(shapes)
    for held in formats:
        require_kernels(held, "measured")
    reads_slots = bench.device.type == "cuda" and find_spec("triton") is not None
    todo = tasks(shapes, formats, reads_slots)
    facts = bench.facts()
    device = str(facts["device"])
    at = 0

    def skip(why: str) -> None:
        on_progress(Progress(at, len(todo), why, skipped=True))

    context = Context(bench, plan, Findings(Records(device, str(facts["date"]))), skip)
    with full_precision():
        for at, task in enumerate(todo):
            on_progress(Progress(at, len(todo), task.what))
            _run(task, context)
    facts = bench.facts()  # again, because clocks and the link are now under load
    work.built_link(context, facts)
    typical_slowdown(context)
    context.found.given("device.vram", bench.vram_bytes, "as the driver reports it")
    on_progress(Progress(len(todo), len(todo), "measured"))
    return context.found.profile(name or slug(device), title(device, facts), facts)


def _run(task: Task, context: Context) -> None:
    """Run one task and release its memory; raises InputError if an indispensable part does not fit into memory."""
    try:
        task.run(context)
    except torch.OutOfMemoryError as error:
        raise InputError(f"{task.what}: {work.first_line(error)}") from None
    context.bench.release()


def require_measurable(shapes: Sequence[ModelShape]) -> None:
    """Raise InputError if there is no shape, and for latent attention, which has no kernels here."""
    if not shapes:
        raise InputError("nothing to measure: at least one shape expected")
    for shape in shapes:
        if shape.attention.latent:
            raise InputError(f"{shape.name}: latent attention is not measured or replayed: another shape expected")


def tasks(shapes: Sequence[ModelShape], formats: Sequence[Format], reads_slots: bool = False) -> list[Task]:
    """All tasks, each number after those it depends on, and nothing measured twice.

    `reads_slots`: kernels that read packed weights from slots can run here, which needs CUDA and triton.
    """
    first = shapes[0]
    return [
        *_cpu_tasks(shapes),
        Task("disk", work.disk_reads),
        Task("links and host", partial(work.links_and_host, shape=first)),
        *(Task(f"expanding {held}", partial(work.expansion_curve, held=held)) for held in EXPANDABLE),
        *(Task(f"{held} products", partial(work.products, shape=first, computed=held)) for held in WIDTH),
        Task("floors", partial(work.floors, shape=first)),
        *_expert_tasks(shapes, formats),
        *(_slot_tasks(shapes, formats) if reads_slots else ()),
        *_dense_tasks(shapes, formats),
        *_slowdown_tasks(shapes, formats),
    ]


def _cpu_tasks(shapes: Sequence[ModelShape]) -> Iterator[Task]:
    """Tasks of the CPU, which come first: later ones pin the host thread, and new threads with it.

    Handing over and joining are measured with the experts for which a run waits longest: who slept longer wakes later.
    """
    longest = max(shapes, key=lambda shape: shape.experts.top_k * shape.expert_parameters)
    yield Task("memory of the CPU, hand-over", partial(cpu_work.memory_and_hand_over, shape=longest))
    for shape in _kinds(shapes):
        for held in CPU_FORMATS:
            run = partial(cpu_work.experts, shape=shape, held=held)
            yield Task(f"experts of {shape.name} in {held} on the CPU", run)
    yield Task("the CPU beside copies", partial(cpu_work.beside_copies, shape=longest))


def _expert_tasks(shapes: Sequence[ModelShape], formats: Sequence[Format]) -> Iterator[Task]:
    for shape in _kinds(shapes):
        for held in dict.fromkeys(formats):
            run = partial(work.expert_curve, shape=shape, held=held)
            yield Task(f"experts of {shape.name} in {held}", run)


def _kinds(shapes: Sequence[ModelShape]) -> Collection[ModelShape]:
    """The first shape of each size of experts."""
    kinds: dict[tuple[int, int, bool], ModelShape] = {}
    for shape in shapes:
        kinds.setdefault((shape.d_model, shape.experts.d_ff, shape.experts.gated), shape)
    return kinds.values()


def _slot_tasks(shapes: Sequence[ModelShape], formats: Sequence[Format]) -> Iterator[Task]:
    for shape in _kinds(shapes):
        for held in dict.fromkeys(formats):
            if held in KINDS:
                run = partial(work.group_curves, shape=shape, held=held)
                yield Task(f"groups of {shape.name} in {held}", run)
        if "int4" in formats:
            yield Task(f"experts of {shape.name} in q4_0", partial(work.packed_curve, shape=shape))


def _dense_tasks(shapes: Sequence[ModelShape], formats: Sequence[Format]) -> Iterator[Task]:
    for shape in shapes:
        for phase in PHASES:
            for computed in dict.fromkeys(map(compute_format, formats)):
                run = partial(work.dense_curves, shape=shape, phase=phase, computed=computed)
                yield Task(f"{phase} of {shape.name} in {computed}", run)


def _slowdown_tasks(shapes: Sequence[ModelShape], formats: Sequence[Format]) -> Iterator[Task]:
    for shape in _kinds(shapes):
        for computed in dict.fromkeys(map(compute_format, formats)):
            run = partial(slowdown, shape=shape, computed=computed)
            yield Task(f"kernels of {shape.name} in {computed} beside copies", run)


def title(device: str, facts: Mapping[str, Fact]) -> str:
    """Title of a profile: the device, and its link if the driver reports it."""
    generation, width = link(facts, "generation"), link(facts, "width")
    return f"{device}, PCIe {generation} x{width}" if generation and width else device


def slowdown(context: Context, shape: ModelShape, computed: ComputeFormat) -> None:
    """Measure a decoder's kernels beside copies of its experts, and those beside its kernels."""
    what = f"{shape.name} {computed}"
    try:
        context.found.slower[what] = slower_together(context, shape, computed)
    except RuntimeError as error:  # torch raises it if host or device memory runs out
        context.skip(f"copies beside kernels of {what}: {str(error).splitlines()[0]}")


def typical_slowdown(context: Context) -> None:
    """Store the medians of all that `slowdown` measured, unless they are 0."""
    found = context.found
    names = (INTERFERENCE, "kernels beside copies", 0.0), (CONTENTION, "copies beside kernels", 1.0)
    for (name, how, least), shares in zip(names, zip(*found.slower.values(), strict=True), strict=False):
        typical = float(np.median(np.maximum(shares, 0.0)))
        each = ", ".join(f"{what} {percent(share)}" for what, share in zip(found.slower, shares, strict=True))
        if typical:
            found.given(name, rounded(least + typical), f"{how}, median of {each}")


def slower_together(context: Context, shape: ModelShape, computed: ComputeFormat) -> tuple[float, float]:
    """Shares by which a decoder's kernels and copies of its experts take longer beside each other."""
    bench, effort = context.bench, context.plan.effort
    parts = DenseParts(shape, "decode", computed, bench)
    launches = parts.behind(parts.token, shape.stack("decode").moe_layers - 1, 1, CONTEXT)
    size = shape.expert_bytes(computed)
    source = bench.pinned(COPIES_IN_TURN * size)
    turn = pairs(torch.empty_like(source, device=bench.device), source, size)
    alone, copied = computing(bench, launches, effort).median, copying(bench, turn, effort).median
    slowed = computing(bench, launches, effort, Beside(in_turn(turn), max(copied, 1.0))).median
    longer = copying(bench, turn, effort, beside=Beside(in_turn(launches), max(alone, 1.0))).median
    return slowed / max(alone, 1.0) - 1, longer / max(copied, 1.0) - 1
