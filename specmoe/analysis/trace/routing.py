"""The part of a trace that studies read: experts used, demand streams of any batch, how sure routers are."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.traces.schema import Block, TraceMeta, no_lookahead
from specmoe.traces.store import Trace
from specmoe.traces.workload import Workload, build

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Routing(NamedTuple):
    """n tokens in the trace's order, L layers, k = `meta.top_k` experts a token and layer."""

    meta: TraceMeta
    sequence: NDArray[np.int32]  # [n]
    source: NDArray[np.int16]  # [n], codes into `meta.sources`
    token: NDArray[np.int32]  # [n]
    used: NDArray[np.int16]  # [n, L, k]; -1 where a full expert dropped the token

    @property
    def first(self) -> NDArray[np.int16]:
        """The first-choice experts, [n, L]."""
        return self.used[:, :, 0]


def read_routing(trace: Trace) -> Routing:
    """Stream a trace and keep `10 + 2 * L * k` bytes a token. Raises TraceError if the file is damaged."""
    meta = trace.meta
    used = np.empty((len(trace), meta.num_layers, meta.top_k), np.int16)
    sequence, token = np.empty((2, len(trace)), np.int32)
    source = np.empty(len(trace), np.int16)
    start = 0
    for block in trace.blocks(["sequence", "source", "token", "experts"]):
        rows = slice(start, start + len(block.sequence))
        used[rows] = block.experts[:, :, : meta.top_k]
        sequence[rows], source[rows], token[rows] = block.sequence, block.source, block.token
        start = rows.stop
    return Routing(meta, sequence, source, token, used)


def as_block(routing: Routing) -> Block:
    """The same as rows of a trace with top_k candidates; positions count from 0, nothing else is known."""
    within = places(routing.sequence)[1]
    unknown = np.full(routing.used.shape, np.nan, np.float16)
    columns = (routing.sequence, within.astype(np.int32), routing.source, routing.token)
    return Block(*columns, routing.used, unknown, no_lookahead(routing.used))


def places(sequence: NDArray[np.int32]) -> tuple[Ints, Ints]:
    """Of each token the sequence's number, 0, 1, 2, ... in the order of the rows, and its place in it, [n] each."""
    rows = np.arange(len(sequence))
    begins = np.ones(len(sequence), np.bool_)
    begins[1:] = sequence[1:] != sequence[:-1]
    return np.cumsum(begins) - 1, rows - np.maximum.accumulate(np.where(begins, rows, 0))


def source_of_sequence(routing: Routing) -> tuple[NDArray[np.int32], NDArray[np.int16], Ints]:
    """Name, source and number of tokens of each sequence, [S] each."""
    within = places(routing.sequence)[1]
    begins = np.flatnonzero(within == 0)
    return routing.sequence[begins], routing.source[begins], np.diff(begins, append=len(within))


MOST_USES = (
    2_500_000  # of experts by tokens, that a stream looks at: 400 MB for its intervals, 150 MB for its reuse distances
)


def stream(routing: Routing, batch: int, most: int = MOST_USES) -> Workload:
    """The demand of at least one token, in steps of `batch` sequences; of a long trace, its first steps only.

    A stream has all steps if the trace has at most `most` uses (tokens * layers * top_k), else about that many steps.
    """
    return build(as_block(routing), routing.meta, batch, _steps(routing, batch, most))


def _steps(routing: Routing, batch: int, most: int) -> int | None:
    if routing.used.size <= most:
        return None
    number, _ = places(routing.sequence)
    per_step = batch if routing.meta.phase == "decode" else batch * len(number) / (int(number[-1]) + 1)
    return max(1, int(most / (per_step * np.prod(routing.used.shape[1:]))))


BEST = 8  # candidates of the look-ahead that count as found, at most


class RouterStudy(NamedTuple):
    """By layer, [L]; nan where the trace does not tell."""

    confidence: Floats  # median router probability of the first-choice expert
    lookahead_top1: Floats  # share of tokens whose first-choice expert the look-ahead of the layer before puts first
    lookahead_top8: Floats  # ... or among its eight best


def study_router(trace: Trace) -> RouterStudy:
    """Stream a trace once, keeping 2 bytes a token and layer."""
    meta = trace.meta
    probs, hits = [np.empty((0, meta.num_layers), np.float16)], np.zeros((2, max(0, meta.num_layers - 1)), np.int64)
    asked = np.zeros_like(hits[0])
    for block in trace.blocks(["experts", "probs", "lookahead"]) if meta.has_probs or meta.has_lookahead else ():
        probs.append(block.probs[:, :, 0].copy())
        for best, total in zip((1, BEST), hits, strict=True):
            total += lookahead_hits(block, 1, best)
        asked += (block.experts[:, 1:, 0] >= 0).sum(axis=0)
    unknown = np.full(meta.num_layers, np.nan)
    sure = confidence(np.concatenate(probs)) if meta.has_probs and len(trace) else unknown
    shares = (np.where(asked > 0, hits / np.maximum(asked, 1), np.nan)) if meta.has_lookahead else hits * np.nan
    top1, top8 = (np.concatenate([[np.nan], share]) for share in shares)
    return RouterStudy(sure, top1, top8)


def confidence(probs: np.ndarray[tuple[int, ...], np.dtype[np.float16]]) -> Floats:
    """Median of the probabilities [n, L] of the experts that ran, those nobody recorded aside, [L]."""
    return np.array([np.median(layer[~np.isnan(layer)] if np.isnan(layer).any() else layer) for layer in probs.T])


def lookahead_hits(block: Block, depth: int, best: int) -> Ints:
    """Tokens whose expert `depth` layers on is among the look-ahead's `best` candidates, [L - depth]."""
    layers = block.experts.shape[1] - depth
    wanted = block.experts[:, depth:, :1]
    found = (block.lookahead[:, :layers, depth - 1, :best] == wanted) & (wanted >= 0)
    hits: Ints = found.any(axis=-1).sum(axis=0)
    return hits


def lookahead_accuracy(block: Block, depth: int, best: int) -> Floats:
    """`lookahead_hits` as a share of the tokens that were served, [L - depth]."""
    served = (block.experts[:, depth:, 0] >= 0).sum(axis=0)
    accuracy: Floats = lookahead_hits(block, depth, best) / served
    return accuracy


def entropy(counts: NDArray[Any], corrected: bool = True) -> float:
    """Of counts of any shape, those of 0 aside; 0 bits of nothing."""
    counts = counts[counts > 0]
    total = counts.sum()
    if not total:
        return 0.0
    shares = counts / total
    extra = (len(counts) - 1) / (2 * total * np.log(2)) if corrected else 0.0
    return float(-(shares * np.log2(shares)).sum() + extra) + 0.0


def mutual_information(joint: NDArray[Any]) -> float:
    """Of two variables counted together, [A, B]; independent ones give 0 on average, so a little below it at times."""
    return entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1)) - entropy(joint)


def conditional_entropy(value: NDArray[Any], context: NDArray[Any]) -> float:
    """H(value | context) = H(value, context) - H(context) of codes [n], 0 or more.

    Where most contexts are seen once or twice it is far too low in spite of the correction.
    """
    if not len(value):
        return 0.0
    both = context.astype(np.int64) * (int(value.max()) + 1) + value
    return entropy(_counts(both)) - entropy(_counts(context))


def _counts(codes: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(codes, return_counts=True)[1]
