"""What lay in every slot while an expert ran from it: the check that no slot is overwritten while it is read."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.table import DecisionTable
from specmoe.validate.device import Times

Ints = NDArray[np.int64]
NOBODY = -1  # what a slot holds before its first load


class Contents:
    """The slots of a run whose loads started and landed at these times, [loads]; copies are never two at a time."""

    def __init__(self, table: DecisionTable, started: Times, landed: Times) -> None:
        self._table = table
        self._first = _resident(table)
        self._copies: dict[int, list[tuple[int, int, int]]] = {}  # of each slot: start, end, key
        for load in np.argsort(started, kind="stable").tolist():
            copy = (int(started[load]), int(landed[load]), int(table.loads.key[load]))
            self._copies.setdefault(int(table.loads.slot[load]), []).append(copy)

    def during(self, slot: int, start: int, end: int) -> tuple[int, ...]:
        """The keys of which a slot held bytes from `start` to `end`, in their order: one, if all is well."""
        whole = self._first.get(slot, NOBODY)
        torn = []
        for began, landed, key in self._copies.get(slot, ()):
            if landed <= start:
                whole = key
            elif began < end:
                torn.append(key)
        return (whole, *torn)

    def outputs(self, start: Times, end: Times) -> Ints:
        """What experts compute that run at these times, [uses]."""
        uses = self._table.uses
        rows = zip(uses.slot.tolist(), uses.tokens.tolist(), start.tolist(), end.tolist(), strict=True)
        return np.array([checksum(tokens, *self.during(slot, *span)) for slot, tokens, *span in rows], np.int64)


def checksum(tokens: int, *keys: int) -> int:
    """Stands for the output of an expert on so many tokens, out of a slot that held bytes of these keys."""
    return crc32(np.array([tokens, *keys], np.int64).tobytes())


def truth(table: DecisionTable) -> Ints:
    """What every use must compute wherever its expert is, [uses]."""
    rows: Any = zip(table.uses.tokens.tolist(), table.uses.key.tolist(), strict=True)
    return np.array([checksum(*row) for row in rows], np.int64)


def _resident(table: DecisionTable) -> dict[int, int]:
    """The key in each slot from the start, as far as uses tell."""
    rows = np.flatnonzero(table.uses.load < 0).tolist()
    return {int(table.uses.slot[row]): int(table.uses.key[row]) for row in rows}
