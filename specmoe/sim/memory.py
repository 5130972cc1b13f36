"""What fits into VRAM: dense weights that always stay, experts kept compressed, and slots for experts."""

import math
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.shape import Format, ModelShape, bytes_of, compute_format
from specmoe.sim.config import Home

GIB = 1 << 30
RESERVED_BYTES = GIB  # of VRAM, for activations, the KV cache and the runtime, where no budget is given


class Room(NamedTuple):
    """VRAM that a model needs with its experts in a format and at a home; all sizes in bytes.

    Dense weights are in `dense_format`. Default: the format in which experts are computed.
    """

    shape: ModelShape
    format: Any
    home: Home
    dense_format: Format | None = None

    @property
    def expert_bytes(self) -> int:
        """Size of a slot: one expert in its format."""
        return self.shape.expert_bytes(self.format)

    @property
    def dense_bytes(self) -> int:
        """Size of the weights that stay in VRAM under every policy."""
        return bytes_of(self.shape.resident_parameters, self.dense_format or compute_format(self.format))

    @property
    def compressed_bytes(self) -> int:
        """Size of the experts that VRAM keeps compressed, in the format of their home."""
        home = self.home
        return 0 if home.format is None else home.compressed_slots * self.shape.expert_bytes(home.format)

    def with_slots(self, slots: int) -> int:
        """VRAM needed with `slots` slots."""
        return self.dense_bytes + self.compressed_bytes + slots * self.expert_bytes


def slots_for(room: Room, slots: int | None, vram: int | None, device: int, most: int) -> int:
    """Number of slots: `slots`, or those that fit into `vram` bytes, or else into `device` bytes; at most `most`.

    Raises InputError if both `slots` and `vram` are given, and if not even one slot fits.
    """
    if slots is not None and vram is not None:
        raise InputError("either --slots or --vram expected, and not both")
    if slots is not None:
        return min(slots, most)
    budget = device - RESERVED_BYTES if vram is None else vram
    fitting = (budget - room.with_slots(0)) // room.expert_bytes
    if fitting < 1:
        raise InputError(
            f"{budget / GIB:.2f} GiB of VRAM is too little: all that stays in VRAM and one expert slot need "
            f"{math.ceil(room.with_slots(1) / GIB * 100) / 100:.2f} GiB"
        )
    return min(int(fitting), most)


DECODER_SHARE = 0.5
