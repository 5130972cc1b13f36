"""What a prediction costs: time here, time on a GPU where that was measured, and bytes."""

from __future__ import annotations

from statistics import median

from specmoe.sim.speculate.predictor import Predictor, Routed
from specmoe.sim.speculate.running_time import is_extrapolated, running_time
from specmoe.sim.speculate.scoring.asked import Asked
from specmoe.traces.schema import Block, TraceMeta
from specmoe.traces.workload import build

TIMED_ROWS = {"decode": 600, "encode": 2000}
TIMINGS = 3
MATRICES = 2  # of an expert: in and out
WIDTH = 2  # bytes of a weight in fp16


def sample(routed: Routed) -> Routed:
    """The first few hundred rows, one sequence at a time, as a trace of their own."""
    meta = routed.workload.meta
    block = Block._make(column[: TIMED_ROWS[meta.phase]] for column in routed.block)
    return Routed(build(block, meta), block)


def milliseconds_cpu(predictor: Predictor, timed: Routed) -> float:
    """Of one (step, layer), the median of `TIMINGS` passes over a sample; learning from the train split not counted."""
    return 1e3 * median(predictor.event_seconds(timed) for _ in range(TIMINGS))


def milliseconds_gpu(asked: Asked, routed: Routed) -> float | None:
    """Of one (step, layer) on a GPU, as its checkpoint or `running_time.toml` has it; None: not measured, for one
    because more tokens run at once than when it was."""
    found = running_time(asked.name, {**asked.parameters, "device": "cuda"})
    tokens = round(float(routed.workload.step_tokens.mean()))
    return None if found is None or is_extrapolated(asked.parameters, tokens) else found.ns(tokens) / 1e6


def expert_bytes(meta: TraceMeta) -> int | None:
    """One expert in fp16; None where the trace does not tell the model's dimensions."""
    if meta.d_model is None or meta.d_ff is None:
        return None
    return MATRICES * meta.d_model * meta.d_ff * WIDTH
