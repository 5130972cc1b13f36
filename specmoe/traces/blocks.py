"""Picking and joining rows of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.traces.schema import Block

ROW_GROUP = 65_536  # tokens a row group: 20 MB in memory for 6 layers of 8 candidates


def select(block: Block, rows: slice | NDArray[Any]) -> Block:
    """The rows of a block that a slice, mask or index array picks."""
    return Block._make(column[rows] for column in block)


def join(blocks: Sequence[Block]) -> Block:
    """One block of the rows of at least one."""
    return Block._make(map(np.concatenate, zip(*blocks, strict=True)))


def regroup(blocks: Iterable[Block], rows: int = ROW_GROUP) -> Iterator[Block]:
    """The same rows in blocks of `rows` tokens; the last may be shorter."""
    held: list[Block] = []
    for block in blocks:
        held.append(block)
        if sum(len(part.sequence) for part in held) >= rows:
            whole = join(held)
            full = len(whole.sequence) // rows * rows
            yield from (select(whole, slice(start, start + rows)) for start in range(0, full, rows))
            held = [select(whole, slice(full, None))]
    if any(len(part.sequence) for part in held):
        yield join(held)
