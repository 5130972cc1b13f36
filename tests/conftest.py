"""What the tests share: random but valid traces."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specmoe.traces import Block, TraceMeta, write_trace

META = TraceMeta(
    phase="decode",
    kind="random",
    origin="teacher-forced",
    model="tiny",
    num_experts=16,
    num_layers=3,
    top_k=2,
    candidates=4,
    sources=("code", "prose"),
    corpus="made up",
    date="2025-01-01",
)


def random_block(n: int, meta: TraceMeta, seed: int = 0, start: int = 0, mean_length: int = 10) -> Block:
    """A valid block of n tokens in sequences of random length, the first of them numbered `start`."""
    rng = np.random.default_rng(seed)
    position = _positions(n, mean_length, rng)
    sequence = (np.cumsum(position == 0) - 1 + start).astype(np.int32)
    shape = (n, meta.num_layers, meta.num_experts)
    probs = np.sort(rng.random(shape), axis=-1)[..., : -meta.candidates - 1 : -1].astype(np.float16)
    lookahead = rng.random(shape).argsort(axis=-1)[..., : meta.candidates].astype(np.int16)
    lookahead[:, -1] = -1
    return Block(
        sequence=sequence,
        position=position,
        source=rng.integers(len(meta.sources), size=sequence.max(initial=0) + 1, dtype=np.int16)[sequence],
        token=rng.integers(8192, size=n, dtype=np.int32),
        experts=rng.random(shape).argsort(axis=-1)[..., : meta.candidates].astype(np.int16),
        probs=probs if meta.has_probs else np.full_like(probs, np.nan),
        lookahead=lookahead if meta.has_lookahead else np.full_like(lookahead, -1),
    )


def _positions(n: int, mean_length: int, rng: np.random.Generator) -> Any:
    starts = rng.random(n) < 1 / mean_length
    starts[:1] = True
    rows = np.arange(n, dtype=np.int32)
    return rows - np.maximum.accumulate(np.where(starts, rows, 0), dtype=np.int32)


@pytest.fixture(scope="session")
def make_block() -> Callable[..., Block]:
    """`make_block(n, meta, seed)`: see `random_block`."""
    return random_block


@pytest.fixture
def meta() -> TraceMeta:
    return META


@pytest.fixture
def make_trace(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """`make_trace(n, seed=0, name="t.parquet", **fields of the metadata)` writes a random trace and gives its path."""

    def make(n: int = 50, seed: int = 0, name: str = "t.parquet", **changes: Any) -> Path:
        changed = dataclasses.replace(META, **changes)
        write_trace(tmp_path / name, changed, [random_block(n, changed, seed)])
        return tmp_path / name

    yield make
