"""Tasks of a measurement: the CPU's memory, its experts by format, threads and tokens, hand-over, and copies beside."""

from specmoe.errors import InputError
from specmoe.hwprofiles.cpu import PER_THREADS
from specmoe.hwprofiles.curves import CpuCurve
from specmoe.hwprofiles.kernels import Size
from specmoe.hwprofiles.launches import size_of
from specmoe.hwprofiles.measure import cpu
from specmoe.hwprofiles.measure.bench import Sample
from specmoe.hwprofiles.measure.copies import Link
from specmoe.hwprofiles.measure.experts import DenseParts
from specmoe.hwprofiles.measure.findings import Context
from specmoe.hwprofiles.measure.host import quiet
from specmoe.hwprofiles.measure.layers import Run
from specmoe.hwprofiles.quantity import CPU_TIMES
from specmoe.hwprofiles.shape import Format, ModelShape, bytes_of, compute_format

CONTEXT = 256
SMALL = Size(64, 64, False)  # an expert whose time is that of its calls
AROUND = CPU_TIMES[1:]  # start and join
HOW_EXPERT = "an expert of as many as a token uses, out of memory, behind a wait for the device, without start and join"


def memory_and_hand_over(context: Context, shape: ModelShape) -> None:
    """Measure reads of memory by threads, the call of an expert, and handing experts over and joining their result.

    Without room for that nothing of the CPU is measured.
    """
    found, counts = context.found, cpu.counts()
    cpu.compute_alone()
    try:
        timed, calls = _reads(context), _calls(context, shape)
    except RuntimeError as error:  # torch raises it if host or device memory runs out
        context.skip(f"the CPU: {str(error).splitlines()[0]}")
        return
    how = "a sum of whole numbers that no cache holds, for 10^9 bytes"
    found.points["cpu.read.by_threads"] = found.records.points(timed, "1", how)
    found.given("cpu.threads", counts[-1], "all cores but one")
    hows = (
        "experts of 64 by 64, behind a wait for the device",
        f"from a wait's end until a sleeping thread has begun with experts of {shape.name}",
        "from their end until their result's copy and addition are issued",
    )
    for name, sample, said in zip(CPU_TIMES, calls, hows, strict=True):
        found.time(name, sample, said)


def _reads(context: Context) -> list[tuple[int, Sample]]:
    timed = []
    for number in cpu.counts():
        with cpu.Worker(number) as worker:
            timed.append((number, cpu.reading(context.plan.cpu_bytes, worker, context.bench, context.plan.effort)))
    return timed


def _calls(context: Context, shape: ModelShape) -> tuple[Sample, Sample, Sample]:
    """Times of `CPU_TIMES`, with all threads; experts of the shape are between start and join."""
    calls, kernels = cpu.CpuKernels(SMALL, "bf16", 0), cpu.CpuKernels(size_of(shape), "bf16", context.plan.cpu_bytes)
    dense, few, bench, effort = _dense(context, shape), shape.experts.top_k, context.bench, context.plan.effort
    with cpu.Worker(cpu.counts()[-1]) as worker, quiet():
        call, around = (cpu.in_a_run(some.run(1), few, dense, worker, bench, effort) for some in (calls, kernels))
    return call.expert, around.start, around.join


def experts(context: Context, shape: ModelShape, held: Format) -> None:
    """Measure an expert by threads and tokens, and the rates of its format's kernel."""
    size, plan, found = size_of(shape), context.plan, context.found
    if "cpu.threads" not in found.quantities:
        return
    what, dense, most = f"experts of {shape.name} in {held} on the CPU", _dense(context, shape), shape.experts.top_k
    try:
        kernels = cpu.CpuKernels(size, held, plan.cpu_bytes)
    except InputError as error:
        context.skip(f"{what}: {error}")
        return
    few, bench = list[tuple[int, Sample]](), context.bench
    around = sum(found.quantities[name].value for name in AROUND)
    for number in cpu.counts():
        with cpu.Worker(number) as worker, quiet():
            timed = [
                (tokens, cpu.in_a_run(kernels.run(tokens), most, dense, worker, bench, plan.effort).rest(around, most))
                for tokens in plan.cpu_tokens
            ]
        points = found.records.points(timed, "token", HOW_EXPERT)
        found.cpu.append(CpuCurve(size.d_model, size.d_ff, size.gated, held, number, points))
        scale = PER_THREADS / bytes_of(size.weights, held)
        few.append((number, Sample(tuple(time * scale for time in timed[0][1].raw))))
    name, of = f"cpu.{held}", f"an expert of {shape.name}"
    if f"{name}.by_threads" not in found.points:
        found.points[f"{name}.by_threads"] = found.records.points(few, "1", f"{of}, for 10^9 bytes of weights")
        tokens, longest = timed[-1]
        found.rate(f"{name}.arithmetic", 2 * size.weights * tokens, longest, f"{of} on {tokens} tokens")


def beside_copies(context: Context, shape: ModelShape) -> None:
    """Measure by how much an expert on the CPU and a copy from host memory slow each other."""
    bench, plan, found = context.bench, context.plan, context.found
    if "cpu.threads" not in found.quantities:
        return
    link = Link(bench, plan.cpu_copy, plan.effort)
    copy: Run = link.one(plan.cpu_copy)
    run, dense = cpu.CpuKernels(size_of(shape), "bf16", plan.cpu_bytes).run(1), _dense(context, shape)
    with cpu.Worker(cpu.counts()[-1]) as worker, quiet():
        alone = cpu.in_a_run(run, cpu.BESIDE, dense, worker, bench, plan.effort).expert
        copied = cpu.copies(copy, bench, plan.effort)
        beside = cpu.beside_copies(run, copy, alone.median, copied.median, worker, bench, plan.effort)
        slower = cpu.copies_beside(run, copy, worker, bench, plan.effort)
    of = f"an expert of {shape.name} in bf16 and copies of {plan.cpu_copy} bytes"
    found.longer("cpu.slowed_by_copy", cpu.more(beside, alone), f"{of}: the expert, copies under way throughout")
    found.longer("cpu.slows_copy", cpu.more(slower, copied), f"{of}: the copies, the CPU computing throughout")


def _dense(context: Context, shape: ModelShape) -> Run:
    """Launch of the last dense part of a shape, for which the host waits before the CPU computes."""
    stand = DenseParts(shape, "decode", compute_format(shape.format), context.bench).stands[0]
    return context.bench.captured(stand.before(-1, 1, CONTEXT)[0])
