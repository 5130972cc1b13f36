"""A `DecisionTable` in the order in which the host runs it.

An event is one or more rounds (one for each wave of its demand). In a round the host first issues loads: the wave's
demand loads and, in the last round, the prefetches. Then it launches the wave's experts, resident ones first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.table import DecisionTable


class Program(NamedTuple):
    """Rounds of event e: `rounds[e]:rounds[e + 1]`. Of round r: `loads[load_offsets[r]:load_offsets[r + 1]]`, rows of
    `DecisionTable.loads`, and `uses` likewise.
    """

    rounds: list[int]
    loads: list[int]
    load_offsets: list[int]
    uses: list[int]
    use_offsets: list[int]


def program_of(table: DecisionTable) -> Program:
    """Order the rows of a table."""
    events = table.num_steps * table.num_layers
    waves = np.ones(events, np.int64)
    np.maximum.at(waves, table.uses.event, table.uses.wave + 1)
    rounds = np.concatenate([[0], np.cumsum(waves)])
    loads = table.loads
    load_round = rounds[loads.event] + np.where(loads.demand, loads.wave, waves[loads.event] - 1)
    load_order = np.lexsort((np.arange(len(load_round)), ~loads.demand, load_round))
    use_round = rounds[table.uses.event] + table.uses.wave
    use_order = np.lexsort((np.arange(len(use_round)), ~table.uses.hit, use_round))
    return Program(
        rounds.tolist(),
        load_order.tolist(),
        _offsets(load_round, int(rounds[-1])),
        use_order.tolist(),
        _offsets(use_round, int(rounds[-1])),
    )


def _offsets(group: NDArray[np.signedinteger[Any]], groups: int) -> list[int]:
    counts = np.bincount(group, minlength=groups)
    offsets: list[int] = np.concatenate([[0], np.cumsum(counts)]).tolist()
    return offsets
