"""Routing that no model produced, as experiments on unloaded or forced models have it; top-1, held in memory."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from specmoe.hwprofiles import ModelShape, Phase
from specmoe.sim.speculate.predictor import Routed
from specmoe.traces.schema import Block, TraceMeta, no_lookahead
from specmoe.traces.workload import Workload, build


def uniform(shape: ModelShape, phase: Phase, tokens: int, rng: np.random.Generator) -> Routed:
    """One sequence; each token takes any expert of each layer with the same probability."""
    layers, experts = shape.stack(phase).moe_layers, shape.experts.number
    chosen = rng.integers(experts, size=(1, tokens, layers))
    return _routed(shape, phase, chosen)


def forced(shape: ModelShape, active: int, sequences: int, steps: int) -> Routed:
    """Sequences that decode together and share `active` experts of each layer as evenly as they can."""
    of_sequence = np.arange(sequences) % active
    layers = shape.stack("decode").moe_layers
    return _routed(shape, "decode", np.broadcast_to(of_sequence[:, None, None], (sequences, steps, layers)))


def every_expert(workload: Workload) -> Workload:
    """The same tokens where each layer asks for all its experts: those that no token chose run for none."""
    events, count = workload.num_events, workload.meta.num_experts
    tokens = np.zeros(events * count, np.int32)
    tokens[workload.events * count + workload.experts] = workload.tokens
    experts = np.tile(np.arange(count, dtype=np.int32), events)
    return dataclasses.replace(workload, offsets=np.arange(events + 1) * count, experts=experts, tokens=tokens)


def _routed(shape: ModelShape, phase: Phase, chosen: NDArray[np.int64]) -> Routed:
    """All sequences at once, from the expert of each [sequence, position, layer]."""
    sequences, steps, layers = chosen.shape
    meta = TraceMeta(
        phase=phase,
        kind="synthetic",
        origin="synthetic",
        model="none",
        num_experts=shape.experts.number,
        num_layers=layers,
        top_k=1,
        candidates=1,
        sources=("synthetic",),
        corpus="none",
        has_probs=False,
        has_lookahead=False,
    )
    sequence, position = np.divmod(np.arange(sequences * steps, dtype=np.int32), np.int32(steps))
    block = _block(sequence, position, chosen.reshape(-1, layers, 1).astype(np.int16))
    return Routed(build(block, meta, batch=sequences), block)


def _block(sequence: NDArray[np.int32], position: NDArray[np.int32], experts: NDArray[np.int16]) -> Block:
    rows = len(sequence)
    return Block(
        sequence=sequence,
        position=position,
        source=np.zeros(rows, np.int16),
        token=np.full(rows, -1, np.int32),
        experts=experts,
        probs=np.full(experts.shape, np.nan, np.float16),
        lookahead=no_lookahead(experts),
    )
