"""What every predictor must keep to, as checks of anything that makes one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from random_traces import random_block

from specmoe.sim.speculate.predictor import Guess, PredictionTable, Predictor, Routed
from specmoe.traces.schema import Block
from specmoe.traces.workload import build

Make = Callable[[], Predictor]


def check_no_peeking(make: Make, routed: Routed, train: Routed | None, step: int, layer: int, seed: int) -> None:
    """What is said up to event (step, layer) stays the same when all that is known later is changed."""
    one, two = (_said(make, this, train) for this in (routed, changed_after(routed, step, layer, seed)))
    layers = routed.workload.meta.num_layers
    known_events = step * layers + layer + 1
    at = routed.workload.step_of_row[:, None] * layers + np.arange(layers)
    for first, second in zip(one[0], two[0], strict=True):
        np.testing.assert_array_equal(first[at < known_events], second[at < known_events])
    assert one[1].peeks == two[1].peeks == make().peeks
    np.testing.assert_array_equal(one[1].experts[:known_events, :, :1], two[1].experts[:known_events, :, :1])
    for event in range(known_events):
        assert _candidates(one[1], event) == _candidates(two[1], event)


def check_well_formed(make: Make, routed: Routed, train: Routed | None = None) -> None:
    """Shapes, types, ranges, order; the predictor asked twice says the same and changes nothing it is given."""
    before = Block._make(column.copy() for column in routed.block)
    guess, table = _said(make, routed, train)
    again, _ = _said(make, routed, train)
    workload = routed.workload
    depth = guess.experts.shape[2]
    assert 1 <= depth <= make().depth
    assert guess.experts.shape[:3] == (len(workload.rows), workload.meta.num_layers, depth)
    assert table.experts.shape[:2] == (workload.num_events, depth)
    for said in (guess, table):
        check_candidates(said, workload.meta.num_experts)
    for first, second in zip((*guess, *before), (*again, *routed.block), strict=True):
        np.testing.assert_array_equal(first, second)
    assert make().event_seconds(routed) > 0


def check_fitted_once(make: Make, routed: Routed, train: Routed) -> None:
    """A guess leaves what was learnt as it was: the same predictor says the same again."""
    predictor = make()
    predictor.fit(train)
    one, size = predictor.guess(routed), predictor.state_bytes
    for first, second in zip(one, predictor.guess(routed), strict=True):
        np.testing.assert_array_equal(first, second)
    assert predictor.state_bytes == size >= 0


def check_candidates(said: Guess | PredictionTable, experts: int) -> None:
    """Distinct experts with a probability each, best first, none behind the last."""
    assert said.experts.shape == said.confidence.shape
    assert (said.experts.dtype, said.confidence.dtype) == (np.int16, np.float32)
    assert ((said.experts >= -1) & (said.experts < experts)).all()
    assert ((said.confidence >= 0) & (said.confidence <= 1)).all()
    there = said.experts >= 0
    assert (said.confidence[~there] == 0).all()
    assert (there[..., 1:] <= there[..., :-1]).all()
    assert (np.diff(np.where(there, said.confidence, 0), axis=-1) <= 1e-6).all()
    unlike = np.where(there, said.experts, -1 - np.arange(said.experts.shape[-1]))
    assert (np.diff(np.sort(unlike, axis=-1), axis=-1) > 0).all()


def changed_after(routed: Routed, step: int, layer: int, seed: int) -> Routed:
    """The same sequences, but everything routed after event (step, layer) and all ids of later steps are different."""
    meta, workload, old = routed.workload.meta, routed.workload, routed.block
    other = random_block(len(old.sequence), meta, seed)
    step_of_row = np.full(len(old.sequence), workload.num_steps)
    step_of_row[workload.rows] = workload.step_of_row
    later = (step_of_row[:, None] > step) | ((step_of_row[:, None] == step) & (np.arange(meta.num_layers) > layer))
    mixed = {
        name: np.where(later.reshape(*later.shape, *[1] * (getattr(old, name).ndim - 2)), new, getattr(old, name))
        for name, new in zip(
            ("experts", "probs", "lookahead"), (other.experts, other.probs, other.lookahead), strict=True
        )
    }
    token = np.where(step_of_row > step, other.token, old.token)
    block = old._replace(token=token, **mixed)
    prefill = None if workload.prefills is None else workload.prefills[np.minimum(step_of_row, workload.num_steps - 1)]
    return Routed(build(block, meta, workload.batch, window=workload.window, prefill=prefill), block)


def _said(make: Make, routed: Routed, train: Routed | None) -> tuple[Guess, PredictionTable]:
    predictor = make()
    if train is not None:
        predictor.fit(train)
    return predictor.guess(routed), predictor.predict(routed)


def _candidates(table: PredictionTable, event: int) -> list[dict[int, float]]:
    pairs = (
        zip(*both, strict=True)
        for both in zip(table.experts[event].tolist(), table.confidence[event].tolist(), strict=True)
    )
    return [{expert: sure for expert, sure in depth if expert >= 0} for depth in pairs]
