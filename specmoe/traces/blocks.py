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


def round_probs(block: Block, bits: int) -> Block:
    """Probabilities to `bits` significant binary digits (float16 has 11): smaller files, order kept, error <= 2**-bits.

    Rounds to nearest, ties to even, in the integers whose order is that of the float16s.
    """
    if bits >= 11:
        return block
    spare = 11 - bits
    raw = block.probs.view(np.uint16).astype(np.uint32)
    rounded = (raw + ((1 << (spare - 1)) - 1 + (raw >> spare & 1)) >> spare << spare).astype(np.uint16)
    probs = np.where(np.isnan(block.probs), block.probs, rounded.view(np.float16))
    return block._replace(probs=probs)


def limit_lookahead(block: Block, depth: int) -> Block:
    """Only depths 1 to `depth` of the look-ahead."""
    return block._replace(lookahead=block.lookahead[:, :, :depth])


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
