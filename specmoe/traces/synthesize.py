"""Synthetic traces: experts drawn from per-layer counts, with an assumed stickiness.

In each layer a token repeats the previous token's expert with probability `assumed_stickiness`, and otherwise draws
one in proportion to the counts, so the counts remain the stationary distribution. The first token of a sequence always
draws. Layers are independent of each other, unlike in real models. The other candidates are distinct experts drawn by
the counts without replacement (Gumbel top-k, Kool et al., 2019). There are no probabilities, look-ahead or tokens.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import library_versions, parsing, read_json, today
from specmoe.traces.schema import Block, Phase, TraceMeta, no_lookahead, regroup
from specmoe.traces.store import write_trace

DRAWS_PER_BLOCK = 4_000_000  # random numbers in memory at once: 32 MB


class Counts(NamedTuple):
    """Uses of each expert in each MoE layer, and the source of the counts."""

    values: NDArray[np.float64]  # [L, num_experts]
    origin: str


def load_counts(path: Path) -> Counts:
    """Read {"expert_counts": {layer: {expert: count}}, "origin": text}; layers and experts are sorted by number.

    Raises InputError that names the wrong field.
    """
    raw = read_json(path)
    with parsing(path, 'JSON of the form {"expert_counts": {layer: {expert: count}}}'):
        layers = {int(layer): _by_expert(counts) for layer, counts in raw["expert_counts"].items()}
    if not any(layers.values()) or len({len(counts) for counts in layers.values()}) != 1:
        raise InputError(f"{path}: expert_counts: layers with equal numbers of experts expected")
    values = np.array([layers[layer] for layer in sorted(layers)])
    for layer, counts in zip(sorted(layers), values, strict=True):
        if not (np.isfinite(counts).all() and counts.min() >= 0 and counts.sum() > 0):
            raise InputError(f"{path}: expert_counts of layer {layer}: numbers of 0 or more, not all 0, expected")
    return Counts(values, str(raw.get("origin", path.name)))


def _by_expert(counts: dict[str, float]) -> list[float]:
    numbered = {int(expert): float(count) for expert, count in counts.items()}
    if sorted(numbered) != list(range(len(numbered))):
        raise ValueError("experts 0, 1, 2, ... expected")
    return [numbered[expert] for expert in range(len(numbered))]


def gumbel_scores(counts: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scores, [n, L, num_experts]; the best one is a draw by the counts, the best M are draws without replacement."""
    with np.errstate(divide="ignore"):
        return np.log(counts) + rng.gumbel(size=(n, *counts.shape))


def stick(
    fresh: NDArray[np.int16], repeats: NDArray[np.bool_], previous: NDArray[np.int16] | None
) -> NDArray[np.int16]:
    """Experts [n, L]: where `repeats` is true, those of the previous token (`previous` [L] at first), else `fresh`."""
    head = np.zeros_like(fresh[:1]) if previous is None else previous[None]
    drawn = np.concatenate([head, fresh])
    rows = np.arange(1, len(drawn))[:, None]
    latest = np.maximum.accumulate(np.where(repeats, 0, rows), axis=0)
    return np.take_along_axis(drawn, latest, axis=0)


def best_candidates(scores: NDArray[np.float64], used: NDArray[np.int16], candidates: int) -> NDArray[np.int16]:
    """The M best experts by score, [n, L, M], the used one first; `scores` [n, L, num_experts], `used` [n, L]."""
    np.put_along_axis(scores, used[..., None].astype(np.intp), np.inf, axis=-1)
    best = best_of(scores, candidates)
    order = np.argsort(-np.take_along_axis(scores, best, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(best, order, axis=-1).astype(np.int16)


def best_of(scores: NDArray[np.floating], most: int) -> NDArray[np.intp]:
    """The numbers of the best scores, [..., most], rising; of equal ones the first.

    np.argpartition would order them as the processor's instructions do, so that drawn routing differed by machine.
    """
    least = np.partition(scores, -most, -1)[..., -most, None]
    above, equal = scores > least, scores == least
    if np.count_nonzero(equal) > least.size:
        equal &= equal.cumsum(-1) <= most - above.sum(-1, keepdims=True)
    return np.nonzero(above | equal)[-1].reshape(*scores.shape[:-1], most)


def generate(
    counts: NDArray[np.float64],
    lengths: NDArray[np.int64],
    candidates: int,
    stickiness: float,
    rng: np.random.Generator,
) -> Iterator[Block]:
    """Generate blocks of sequences with the given lengths [S]."""
    ends, chunk = np.cumsum(lengths), max(1, DRAWS_PER_BLOCK // counts.size)
    previous = None
    for start in range(0, int(ends[-1]), chunk):
        rows = np.arange(start, min(start + chunk, int(ends[-1])))
        sequence = np.searchsorted(ends, rows, side="right")
        position = rows - (ends - lengths)[sequence]
        scores = gumbel_scores(counts, len(rows), rng)
        repeats = (rng.random((len(rows), len(counts))) < stickiness) & (position > 0)[:, None]
        used = stick(scores.argmax(-1).astype(np.int16), repeats, previous)
        previous = used[-1]
        yield _block(sequence, position, best_candidates(scores, used, candidates))


def synthesize(
    counts: Counts,
    out: Path,
    *,
    tokens: int,
    sequences: int,
    assumed_stickiness: float,
    seed: int,
    candidates: int = 8,
    phase: Phase = "encode",
    advance: Callable[[int], object] = lambda rows: None,
) -> TraceMeta:
    """Write a synthetic trace of top-1 routing with `tokens` tokens in sequences of (almost) equal length.

    Raises InputError for numbers out of range, and if a layer has fewer experts with counts than `candidates`.
    """
    _check(counts, tokens, sequences, assumed_stickiness, candidates)
    layers, experts = counts.values.shape
    meta = TraceMeta(
        phase=phase,
        kind="synthetic",
        origin="synthetic",
        model="none",
        num_experts=experts,
        num_layers=layers,
        top_k=1,
        candidates=candidates,
        sources=("synthetic",),
        corpus="none",
        seed=seed,
        has_probs=False,
        has_lookahead=False,
        date=today(),
        versions=library_versions("numpy", "pyarrow"),
        notes=(f"assumed_stickiness = {assumed_stickiness}", f"expert counts: {counts.origin}"),
    )
    lengths = np.diff(np.arange(sequences + 1) * tokens // sequences)
    blocks = generate(counts.values, lengths, candidates, assumed_stickiness, np.random.default_rng(seed))
    write_trace(out, meta, regroup(_counted(blocks, advance)))
    return meta


def _check(counts: Counts, tokens: int, sequences: int, stickiness: float, candidates: int) -> None:
    fewest = int((counts.values > 0).sum(axis=1).min())
    for right, message in (
        (1 <= sequences <= tokens, f"{sequences} sequences of {tokens} tokens: 1 <= sequences <= tokens expected"),
        (0 <= stickiness <= 1, f"assumed stickiness {stickiness}: a probability expected"),
        (
            1 <= candidates <= fewest,
            f"{candidates} candidates: 1..{fewest} expected, the fewest experts with counts in a layer",
        ),
    ):
        if not right:
            raise InputError(message)


def _block(sequence: NDArray[np.int64], position: NDArray[np.int64], experts: NDArray[np.int16]) -> Block:
    n = len(sequence)
    return Block(
        sequence=sequence.astype(np.int32),
        position=position.astype(np.int32),
        source=np.zeros(n, np.int16),
        token=np.full(n, -1, np.int32),
        experts=experts,
        probs=np.full(experts.shape, np.nan, np.float16),
        lookahead=no_lookahead(experts),
    )


def _counted(blocks: Iterator[Block], advance: Callable[[int], object]) -> Iterator[Block]:
    for block in blocks:
        yield block
        advance(len(block.sequence))
