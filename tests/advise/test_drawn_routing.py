"""Routing for models of which there is no trace: which one is taken, what is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import specmoe.traces
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_shape, shape_names
from specmoe.hwprofiles.shape import ModelShape
from specmoe.sim.advise.setting import RANGE, draw, fits, routed, routings_of
from specmoe.sim.claims import stands_in
from specmoe.traces.summary import count_sequences
from specmoe.traces.validation import validate

DECODER = "decoder-mini-64/decode/test"
SWITCH, MIXTRAL = load_shape("switch-base-128"), load_shape("mixtral-8x7b")


def drawn(stickiness: float, tokens: int = 400) -> np.ndarray:
    """[sequences, tokens, layers, top_k] of 16 experts, 4 used."""
    return routed((tokens, 3, 5, 16), 4, stickiness, np.random.PCG64(1))


def repeated(used: np.ndarray) -> float:
    """Share of a token's experts that the token before used too."""
    return float((used[:, 1:, :, :, None] == used[:, :-1, :, None, :]).any(-1).mean())


def test_the_experts_of_a_token_are_distinct() -> None:
    ordered = np.sort(drawn(0.5), axis=-1)
    assert (np.diff(ordered, axis=-1) > 0).all()
    assert (ordered.min(), ordered.max()) == (0, 15)


@pytest.mark.parametrize("stickiness", [0.0, 0.2, 0.4, 1.0])
def test_stickiness_is_what_is_kept_beyond_chance(stickiness: float) -> None:
    """Of those not kept, some are drawn again by chance: fewer than 4 of 16, as kept ones take places."""
    found = repeated(drawn(stickiness))
    assert stickiness <= found <= stickiness + (1 - stickiness) * 4 / 16 + 0.02
    if stickiness == 0:
        assert found == pytest.approx(4 / 16, abs=0.02)


def test_experts_are_drawn_alike() -> None:
    counts = np.bincount(drawn(0.2).reshape(-1), minlength=16)
    assert counts.std() / counts.mean() < 0.05


def test_sequences_and_layers_know_nothing_of_each_other() -> None:
    used = drawn(0.0)
    for one, other in ((used[0], used[1]), (used[:, :, 0], used[:, :, 1])):
        assert float((one[..., :, None] == other[..., None, :]).any(-1).mean()) == pytest.approx(4 / 16, abs=0.03)


@pytest.mark.parametrize("shape", [MIXTRAL, load_shape("switch-base-8")])
def test_a_drawn_trace_is_valid_and_says_what_it_is(shape: ModelShape, tmp_path: Path) -> None:
    trace = specmoe.traces.open(draw(shape, 0.2, 1, tmp_path))
    assert validate(trace) == len(trace) == 32 * 128
    assert fits(trace.meta, shape)
    assert (trace.meta.kind, trace.meta.phase) == ("synthetic", "decode")
    assert trace.meta.warnings == ("routing is synthetic: no model produced it",)
    assert "assumed_stickiness = 0.2" in trace.meta.notes


def test_the_same_is_drawn_again(tmp_path: Path) -> None:
    first = draw(MIXTRAL, 0.2, 1, tmp_path).read_bytes()
    assert draw(MIXTRAL, 0.2, 1, tmp_path).read_bytes() == first


@pytest.mark.parametrize("size", [(7, 4, 8, 12), (6, 6, 3, 5), (5, 5, 3, 5)])
def test_sequences_that_are_drawn_alone_are_those_that_begin_the_whole(size: tuple[int, int, int, int]) -> None:
    whole = routed(size, 3, 0.3, np.random.PCG64(0))
    for first in (1, 2, 3):
        assert np.array_equal(routed(size, 3, 0.3, np.random.PCG64(0), first), whole[:first])


def test_a_trace_that_is_drawn_for_a_number_of_steps_has_the_sequences_that_they_reach(tmp_path: Path) -> None:
    shape = load_shape("switch-base-8")
    whole, few = (specmoe.traces.open(draw(shape, 0.2, 2, tmp_path, steps)).read() for steps in (None, 130))
    assert few.sequence[-1] + 1 == 6 < whole.sequence[-1] + 1 == 32
    assert np.array_equal(few.experts, whole.experts[: len(few.experts)])


@pytest.mark.parametrize(("batch", "sequences"), [(1, 32), (3, 48), (16, 64), (100, 100)])
def test_there_are_sequences_for_larger_batches(batch: int, sequences: int, tmp_path: Path) -> None:
    trace = specmoe.traces.open(draw(load_shape("switch-base-8"), 0.2, batch, tmp_path))
    assert len(np.unique(trace.sequence)) == sequences


def test_a_bundled_trace_of_such_a_model_is_taken(tmp_path: Path) -> None:
    found = routings_of(SWITCH, None, 1, tmp_path)
    assert (found.trace, found.drawn) == ("switch-mini-128/decode/test", False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mixtral-8x7b", "switch-base-64", "switch-large-128", "deepseek-v2-lite"])
def test_every_other_model_gets_drawn_routing_of_its_own_shape(name: str, tmp_path: Path) -> None:
    found = routings_of(load_shape(name), None, 1, tmp_path)
    assert found.drawn
    assert fits(found.meta, load_shape(name))
    assert found.extremes == RANGE


@pytest.mark.parametrize("name", ["olmoe-1b-7b", "qwen2-57b-a14b"])
def test_a_decoder_of_as_many_experts_and_the_same_top_k_borrows_recorded_routing(name: str, tmp_path: Path) -> None:
    shape = load_shape(name)
    found = routings_of(shape, None, 1, tmp_path)
    assert (found.trace, found.drawn) == (DECODER, False)
    assert fits(found.meta, shape)
    layers = shape.decoder.moe_layers
    assert f"that of decoder-mini-64, its layers 12..{layers - 1} are layers 0..11 with experts" in found.borrowed
    assert not list(tmp_path.iterdir())


def test_only_shapes_alike_but_for_their_layers_borrow() -> None:
    meta = specmoe.traces.open(DECODER).meta
    olmoe = load_shape("olmoe-1b-7b")
    shallow = dataclasses.replace(meta, num_layers=17)
    assert stands_in(meta, olmoe)
    assert not stands_in(shallow, olmoe)
    lent = {name for name in shape_names() if stands_in(meta, load_shape(name))}
    assert lent == {"olmoe-1b-7b", "qwen2-57b-a14b"}


def test_a_batch_of_more_sequences_than_were_recorded_is_drawn(tmp_path: Path) -> None:
    olmoe = load_shape("olmoe-1b-7b")
    recorded = count_sequences(specmoe.traces.open(DECODER))
    assert not routings_of(olmoe, None, recorded, tmp_path).drawn
    assert routings_of(olmoe, None, recorded + 1, tmp_path).drawn


def test_a_trace_that_is_told_is_taken(make_trace: Callable[..., Path], tmp_path: Path) -> None:
    mine = make_trace(20, num_layers=32, num_experts=8, top_k=2, candidates=2)
    found = routings_of(MIXTRAL, str(mine), 1, tmp_path)
    assert (found.trace, found.drawn) == (str(mine), False)


@pytest.mark.parametrize("changes", [{"num_layers": 31}, {"num_experts": 9}, {"top_k": 1}])
def test_a_trace_of_another_model_is_refused(
    changes: dict[str, int], make_trace: Callable[..., Path], tmp_path: Path
) -> None:
    other = make_trace(20, **{"num_layers": 32, "num_experts": 8, "top_k": 2, "candidates": 2} | changes)
    with pytest.raises(InputError, match="mixtral-8x7b has 32 of 8, top 2; a trace of such a model expected"):
        routings_of(MIXTRAL, str(other), 1, tmp_path)
