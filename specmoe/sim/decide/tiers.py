"""A second tier in VRAM: slots that hold experts compressed, behind the slots that compute.

Every load that comes from the host leaves a compressed copy in VRAM, least recently loaded out first; a load that finds
its expert there only has to expand it (specMoE's GPU, compressed, host hierarchy). What the first tier decides does not
depend on the second, so the second is a pure function of the first's loads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.table import DecisionTable


def found_compressed(table: DecisionTable, slots: int) -> NDArray[np.bool_]:
    """Which loads find their expert among `slots` compressed ones in VRAM, [loads]."""
    found = np.zeros(len(table.loads.key), np.bool_)
    held: dict[int, None] = {}  # least recently loaded first
    if not slots:
        return found
    for row, key in enumerate(table.loads.key.tolist()):
        if key in held:
            found[row] = True
            del held[key]
        elif len(held) == slots:
            del held[next(iter(held))]
        held[key] = None
    return found
