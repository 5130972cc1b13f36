"""What the routers themselves tell: how sure they are, and what the next layer's router says of this layer's input."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from specmoe.analysis.trace.routing import Floats, Ints
from specmoe.traces.schema import Block
from specmoe.traces.store import Trace

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
