"""How predictable routing is: the accuracy that any predictor with a given context could reach, and chance.

Of the first-choice expert at a layer (1 to L - 1), given a context that is known one layer earlier:

- `entropy_bits`: plug-in conditional entropy on the train split, with Miller and Madow's correction. It is biased low,
  and the sparser the contexts the more so: a context seen once seems to determine what follows. The correction
  takes off the first-order part of the bias only, so with (token, expert) it stays far below the truth.
- `held_out_bits`: cross-entropy on the test split of a smoothed model fitted on the train split. In expectation it is
  at or above the true entropy, whatever the model: biased high, by what the model fails to learn from so little.
  The truth lies between the two.
- `fano_accuracy`: what Fano's inequality allows at `entropy_bits`: an optimistic ceiling, twice over, for the entropy
  is biased low and Fano's bound is reached only where all wrong experts are equally likely.
- `held_out_accuracy`: what the smoothed model reaches on the test split: a ceiling for nobody, a floor for whoever
  knows as much.

They are ceilings of the context, not of routing: who knows hidden states or longer histories may do better.
"""

from collections.abc import Iterator
from math import log2
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.scoring.accuracy import TOPS

STEPS = 60  # of the bisection: beyond a double's precision
Probabilities = NDArray[np.float64]  # [n, E], of each expert for each held-out row
CONTEXTS = {  # what is known, and what of that its model backs off to
    "nothing": (),
    "expert": ("nothing",),
    "two experts": ("expert",),
    "token": ("nothing",),
    "token + expert": ("token", "expert"),
}
FIGURES = ("entropy_bits", "held_out_bits", "fano_accuracy", "held_out_accuracy")


def ceilings(test: Routed, train: Routed) -> dict[str, dict[str, Any]]:
    """For every context the `FIGURES`, each a mean over target layers 1 to L - 1 and, in `per_layer`, one a layer.

    Contexts are `nothing` (its accuracy is that of the layer's favourite), the expert one layer earlier, those of two
    layers (one, where there is only one), the token id, and both. Without token ids those are left out.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for layer in range(1, test.workload.meta.num_layers):
        for name, figures in _of_layer(codes(train, layer), codes(test, layer), test.workload.meta.num_experts):
            found.setdefault(name, []).append(figures)
    return {name: _mean(layers) | {"per_layer": layers} for name, layers in found.items()}


class Codes(NamedTuple):
    """One target layer's first-choice experts, and each context's code, [m]."""

    value: NDArray[np.int64]
    contexts: dict[str, NDArray[np.int64]]


def chance(experts: int) -> dict[str, float]:
    """The accuracy of drawing N of E experts blindly."""
    return {f"top{best}": min(best, experts) / experts for best in TOPS}


def _mean(layers: list[dict[str, float]]) -> dict[str, Any]:
    return {figure: sum(layer[figure] for layer in layers) / len(layers) for figure in FIGURES}


def codes(routed: Routed, layer: int) -> Codes:
    """Target and contexts of all tokens that a layer routes; an earlier layer's dropped token is an expert more."""
    block, count = routed.block, routed.workload.meta.num_experts + 1
    there = block.experts[:, layer, 0] >= 0
    first = block.experts[there, :, 0].astype(np.int64) + 1
    token = block.token[there].astype(np.int64)
    expert = first[:, layer - 1]
    contexts = {
        "nothing": np.zeros_like(token),
        "expert": expert,
        "two experts": expert + count * first[:, layer - 2] if layer > 1 else expert,
    }
    if np.ptp(block.token):
        contexts |= {"token": token, "token + expert": token * count + expert}
    return Codes(first[:, layer] - 1, contexts)


def _of_layer(train: Codes, test: Codes, experts: int) -> Iterator[tuple[str, dict[str, float]]]:
    if not (len(train.value) and len(test.value)):
        return
    made: dict[str, NDArray[np.float64]] = {}
    for name in (name for name in CONTEXTS if name in train.contexts and name in test.contexts):
        simpler = [made[one] for one in CONTEXTS[name]] or [uniform(len(test.value), experts)]
        lower = sum(simpler[1:], simpler[0]) / len(simpler)
        made[name] = refine(lower, train.contexts[name], train.value, test.contexts[name])
        bits = conditional_entropy(train.value, train.contexts[name])
        yield (
            name,
            {
                "entropy_bits": bits,
                "held_out_bits": cross_entropy(made[name], test.value),
                "fano_accuracy": fano_accuracy(bits, experts),
                "held_out_accuracy": share_right(made[name], test.value),
            },
        )


def refine(lower: Probabilities, context: NDArray[Any], value: NDArray[Any], asked: NDArray[Any]) -> Probabilities:
    """P(value | context), from `lower` where a context is rare: (n(c, x) + T(c) lower(x)) / (n(c) + T(c)).

    `context` and `value` [m] are codes of the train split, `asked` [n] are the held-out rows' contexts; T(c) is the
    number of distinct values that followed c. In a context never seen, `lower` is all there is.
    """
    distinct, row = np.unique(asked, return_inverse=True)
    place = np.minimum(np.searchsorted(distinct, context), len(distinct) - 1)
    seen = distinct[place] == context
    flat = np.bincount(place[seen] * lower.shape[1] + value[seen], minlength=len(distinct) * lower.shape[1])
    counts = flat.reshape(len(distinct), -1)
    total, kinds = counts.sum(axis=1), (counts > 0).sum(axis=1)
    known = np.maximum(total + kinds, 1)
    refined: Probabilities = (counts / known[:, None])[row] + (kinds / known)[row, None] * lower
    refined[(total == 0)[row]] = lower[(total == 0)[row]]
    return refined


def entropy(values: NDArray[Any], corrected: bool = True) -> float:
    """Plug-in entropy of the distinct values [n], in bits; `corrected` adds (m - 1) / 2n nats (Miller 1955)."""
    counts = np.unique(values, return_counts=True)[1]
    share = counts / counts.sum()
    extra = (len(counts) - 1) / (2 * len(values)) if corrected else 0.0
    return float(-(share * np.log2(share)).sum() + extra / np.log(2))


def conditional_entropy(values: NDArray[Any], context: NDArray[Any], corrected: bool = True) -> float:
    """H(value | context) = H(value, context) - H(context) of codes [n], in bits."""
    both = np.unique(np.stack([context, values]), axis=1, return_inverse=True)[1]
    return entropy(both, corrected) - entropy(context, corrected)


def fano_error(bits: float, experts: int) -> float:
    """The least share of errors with which the next of E experts can be guessed, at `bits` of entropy (Fano 1961).

    It solves h(p) + p log2(E - 1) = bits, whose left side rises from 0 at p = 0 to log2(E) at p = 1 - 1/E.
    """
    low, high = 0.0, 1 - 1 / experts
    for _ in range(STEPS):
        middle = (low + high) / 2
        enough = _binary_entropy(middle) + middle * log2(max(experts - 1, 1)) >= bits
        low, high = (low, middle) if enough else (middle, high)
    return high


def fano_accuracy(bits: float, experts: int) -> float:
    """The accuracy that no predictor can exceed: 1 at 0 bits, 1/E at log2(E) bits and beyond."""
    return 1.0 if bits <= 0 else 1 - fano_error(bits, experts)


def _binary_entropy(p: float) -> float:
    return 0.0 if p in (0, 1) else -p * log2(p) - (1 - p) * log2(1 - p)


def uniform(rows: int, experts: int) -> Probabilities:
    """The end of every back-off."""
    return np.full((rows, experts), 1 / experts)


def cross_entropy(probabilities: Probabilities, value: NDArray[Any]) -> float:
    """Mean surprise at the held-out values [n], in bits."""
    return float(-np.log2(probabilities[np.arange(len(value)), value]).mean())


def share_right(probabilities: Probabilities, value: NDArray[Any]) -> float:
    """How often the most probable expert, of equals the lowest, is the one."""
    return float((probabilities.argmax(axis=1) == value).mean())
