"""What fits into VRAM: weights that stay, experts kept compressed, and slots for experts."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.formats import bytes_of, compute_format
from specmoe.hwprofiles.shape import ModelShape
from specmoe.sim.config import Home

GIB = 1 << 30
RESERVED_BYTES = GIB  # of VRAM, for activations, caches and the runtime, unless told otherwise


class Room(NamedTuple):
    """What a model takes, with its experts in a format and at a home; all in bytes."""

    shape: ModelShape
    format: Any
    home: Home

    @property
    def expert_bytes(self) -> int:
        """One expert in its format: a slot."""
        return self.shape.expert_bytes(self.format)

    @property
    def dense_bytes(self) -> int:
        """All weights that stay in VRAM under every policy."""
        return bytes_of(self.shape.resident_parameters, compute_format(self.format))

    @property
    def compressed_bytes(self) -> int:
        """Experts that are kept in VRAM in the home's format."""
        home = self.home
        return 0 if home.format is None else home.compressed_slots * self.shape.expert_bytes(home.format)

    def with_slots(self, slots: int) -> int:
        """VRAM taken with so many slots."""
        return self.dense_bytes + self.compressed_bytes + slots * self.expert_bytes


def slots_for(room: Room, slots: int | None, vram: int | None, device: int, most: int) -> int:
    """The slots told, those that fit into the VRAM told, or else into the device's; `most` at most.

    Raises InputError if both are told, and if not even one slot fits.
    """
    if slots is not None and vram is not None:
        raise InputError("either --slots or --vram expected, and not both")
    if slots is not None:
        return min(slots, most)
    budget = device - RESERVED_BYTES if vram is None else vram
    fitting = (budget - room.with_slots(0)) // room.expert_bytes
    if fitting < 1:
        raise InputError(
            f"{budget / GIB:.2f} GiB of VRAM hold no expert: with all that stays, one slot needs "
            f"{math.ceil(room.with_slots(1) / GIB * 100) / 100:.2f} GiB"
        )
    return min(int(fitting), most)
