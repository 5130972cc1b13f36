"""Batching: which rows of a trace run in which step, and what they ask for."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from random_traces import META, random_block

from specmoe.errors import InputError
from specmoe.traces import Block, TraceMeta
from specmoe.traces.schema import Phase
from specmoe.traces.workload import Workload, build


def block_of(lengths: Sequence[int], experts: Sequence[Sequence[Sequence[int]]] | None = None) -> Block:
    """Sequences of these lengths; what rows route to by row, layer and place, else experts 0 and 1."""
    n = sum(lengths)
    block = random_block(n, META)
    routed = np.broadcast_to(np.arange(4), (n, META.num_layers, 4)) if experts is None else np.array(experts)
    return block._replace(
        sequence=np.repeat(np.arange(len(lengths)) * 3 + 5, lengths).astype(np.int32),
        position=np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
        experts=routed.astype(np.int16),
    )


def rows_of(workload: Workload) -> list[list[int]]:
    """Rows by step."""
    return [rows.tolist() for rows in np.split(workload.rows, workload.row_offsets[1:-1])]


def demand_of(workload: Workload) -> list[dict[int, int]]:
    """Tokens by expert, of each event."""
    spans = zip(workload.offsets[:-1].tolist(), workload.offsets[1:].tolist(), strict=True)
    return [
        dict(zip(workload.experts[start:end].tolist(), workload.tokens[start:end].tolist(), strict=True))
        for start, end in spans
    ]


# By hand


def test_one_place_runs_one_sequence_after_the_other() -> None:
    assert rows_of(build(block_of([2, 1, 3]), META)) == [[0], [1], [2], [3], [4], [5]]


def test_the_place_that_is_free_first_takes_the_next_sequence() -> None:
    """Rows 0-2, 3, 4-5, 6: the second place runs 3, then 4 and 5; the first is free as soon, and takes 6."""
    workload = build(block_of([3, 1, 2, 1]), META, batch=2)
    assert rows_of(workload) == [[0, 3], [1, 4], [2, 5], [6]]
    assert workload.step_tokens.tolist() == [2, 2, 2, 1]
    assert workload.step_of_row.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert (workload.num_steps, workload.num_events, workload.batch) == (4, 12, 2)


def test_more_places_than_sequences() -> None:
    assert rows_of(build(block_of([2, 1]), META, batch=8)) == [[0, 2], [1]]


def test_encoding_runs_whole_sequences() -> None:
    meta = dataclasses.replace(META, phase="encode")
    assert rows_of(build(block_of([2, 1, 3]), meta)) == [[0, 1], [2], [3, 4, 5]]
    assert rows_of(build(block_of([2, 1, 3]), meta, batch=2)) == [[0, 1, 2], [3, 4, 5]]


def test_a_batch_asks_for_each_expert_once() -> None:
    layers = [[[9, 2, 0, 1], [0, 1, 2, 3], [4, 5, 6, 7]], [[2, 9, 5, 6], [0, 2, 1, 3], [15, 0, 1, 2]]]
    workload = build(block_of([1, 1], layers), META, batch=2)
    assert demand_of(workload) == [{2: 2, 9: 2}, {0: 2, 1: 1, 2: 1}, {0: 1, 4: 1, 5: 1, 15: 1}]
    assert workload.events.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert workload.keys.tolist() == [2, 9, 16, 17, 18, 32, 36, 37, 47]


def test_dropped_tokens_ask_for_nothing() -> None:
    meta = dataclasses.replace(META, dropless=False)
    dropped, kept = [-1, -1, 3, 4], [3, 4, 1, 2]
    workload = build(block_of([3], [[dropped, kept, dropped], [dropped] * 3, [kept] * 3]), meta)
    one = {3: 1, 4: 1}
    assert demand_of(workload) == [{}, one, {}, {}, {}, {}, one, one, one]
    assert workload.num_steps == 3


def test_steps_can_be_limited() -> None:
    workload = build(block_of([3, 1, 2, 1]), META, batch=2, steps=2)
    assert rows_of(workload) == [[0, 3], [1, 4]]
    assert len(demand_of(workload)) == 2 * META.num_layers
    assert rows_of(build(block_of([2]), META, steps=99)) == [[0], [1]]


@pytest.mark.parametrize(("batch", "steps"), [(0, None), (-1, None), (1, 0)])
def test_numbers_that_are_too_small(batch: int, steps: int | None) -> None:
    with pytest.raises(InputError, match=f"batch {batch}, steps {steps}: at least 1"):
        build(block_of([2]), META, batch, steps)


def test_an_empty_trace() -> None:
    with pytest.raises(InputError, match="no tokens"):
        build(random_block(0, META), META)


# Properties


def drop_some(block: Block, seed: int) -> Block:
    rng = np.random.default_rng(seed)
    experts = block.experts.copy()
    experts[rng.random(experts.shape[:2]) < 0.3, : META.top_k] = -1
    return block._replace(experts=experts)


def built(phase: Phase, n: int, batch: int, seed: int) -> tuple[Block, TraceMeta, Workload]:
    meta = dataclasses.replace(META, phase=phase, dropless=False)
    block = drop_some(random_block(n, meta, seed, mean_length=4), seed)
    return block, meta, build(block, meta, batch)


any_workload = given(
    phase=st.sampled_from(["decode", "encode"]), n=st.integers(1, 60), batch=st.integers(1, 9), seed=st.integers(0, 99)
)


@examples(60)
@any_workload
def test_every_row_runs_once_and_in_order(phase: Phase, n: int, batch: int, seed: int) -> None:
    block, _, workload = built(phase, n, batch, seed)
    assert sorted(workload.rows.tolist()) == list(range(n))
    steps = rows_of(workload)
    assert all(rows for rows in steps)
    for rows in steps:
        sequences = block.sequence[rows]
        assert len(set(sequences.tolist())) <= batch
        assert phase == "encode" or len(set(sequences.tolist())) == len(rows)
    step = np.empty(n, np.int64)
    step[workload.rows] = workload.step_of_row
    same = block.sequence[1:] == block.sequence[:-1]
    assert np.all(np.diff(step)[same] == (1 if phase == "decode" else 0))


@examples(60)
@any_workload
def test_demand_is_what_the_rows_ask_for(phase: Phase, n: int, batch: int, seed: int) -> None:
    block, meta, workload = built(phase, n, batch, seed)
    demand = demand_of(workload)
    for step, rows in enumerate(rows_of(workload)):
        for layer in range(meta.num_layers):
            used = block.experts[rows, layer, : meta.top_k]
            got = demand[step * meta.num_layers + layer]
            assert got == Counter(used[used >= 0].tolist())
            assert list(got) == sorted(got)
            dropped = (used[:, 0] < 0).sum()
            assert sum(got.values()) == (len(rows) - dropped) * meta.top_k


@examples(60)
@given(n=st.integers(1, 60), batch=st.integers(1, 9), seed=st.integers(0, 99))
def test_places_are_never_idle_while_a_sequence_waits(n: int, batch: int, seed: int) -> None:
    block, _, workload = built("decode", n, batch, seed)
    _, first = np.unique(block.sequence[workload.rows], return_index=True)
    starts = workload.step_of_row[first].tolist()
    assert starts == sorted(starts)
    assert np.all(workload.step_tokens[: starts[-1]] == min(batch, len(starts)))


@examples(30)
@given(n=st.integers(1, 60), batch=st.integers(1, 9), seed=st.integers(0, 99), steps=st.integers(1, 20))
def test_limited_steps_are_the_first_steps(n: int, batch: int, seed: int, steps: int) -> None:
    block, meta, whole = built("decode", n, batch, seed)
    part = build(block, meta, batch, steps)
    assert rows_of(part) == rows_of(whole)[:steps]
    assert demand_of(part) == demand_of(whole)[: steps * meta.num_layers]
