"""One budget of VRAM: weights that stay, the key-value cache of the context, a reserve, and slots for experts."""

from bisect import bisect_right
from dataclasses import asdict, dataclass
from typing import Any

from specmoe.errors import InputError
from specmoe.hwprofiles.kv_cache import KvFormat
from specmoe.sim.memory import GIB, Room

LONGEST = 10**8  # tokens of a context


@dataclass(frozen=True)
class Ask:
    """What VRAM is to hold: a context of `context` tokens for each of `batch` sequences; sizes in bytes.

    `assumed_reserve` is left to the runtime: its own memory, and activations.
    """

    vram: int
    context: int
    batch: int = 1
    kv_format: KvFormat = "f16"
    assumed_reserve: int = GIB


@dataclass(frozen=True)
class Budget:
    """The lines of a budget, in bytes, and the slots that are left, at most one for each routed expert."""

    vram_bytes: int
    dense_bytes: int
    kv_bytes: int
    assumed_reserve_bytes: int
    expert_bytes: int
    slots: int
    experts: int
    longest_context: int

    @property
    def fits(self) -> bool:
        """Whether every routed expert has a slot."""
        return self.slots == self.experts

    @property
    def slot_bytes(self) -> int:
        """Bytes of all slots."""
        return self.slots * self.expert_bytes

    @property
    def free_bytes(self) -> int:
        """Bytes that nothing uses."""
        return self.vram_bytes - self.dense_bytes - self.kv_bytes - self.assumed_reserve_bytes - self.slot_bytes

    def as_dict(self) -> dict[str, Any]:
        """All lines, by name."""
        return asdict(self) | {"slot_bytes": self.slot_bytes, "free_bytes": self.free_bytes, "fits": self.fits}


def budget(room: Room, ask: Ask) -> Budget:
    """The budget of a model in VRAM; raises InputError, which says how long a context fits, if no slot is left."""
    shape, dense = room.shape, room.with_slots(0)
    kv_bytes = ask.batch * shape.kv_bytes(ask.context, ask.kv_format)
    slots = (ask.vram - dense - ask.assumed_reserve - kv_bytes) // room.expert_bytes
    longest = _longest(room, ask)
    if slots < 1:
        most = f"at most --context {longest} fits" if longest else "no context fits: more --vram expected"
        raise InputError(f"--context {ask.context} leaves no expert slot in {ask.vram / GIB:.2f} GiB of VRAM: {most}")
    experts = shape.routed_experts
    return Budget(
        vram_bytes=ask.vram,
        dense_bytes=dense,
        kv_bytes=kv_bytes,
        assumed_reserve_bytes=ask.assumed_reserve,
        expert_bytes=room.expert_bytes,
        slots=min(slots, experts),
        experts=experts,
        longest_context=longest,
    )


def _longest(room: Room, ask: Ask) -> int:
    """Tokens of the longest context that leaves a slot; 0 if none does."""
    left = ask.vram - room.with_slots(1) - ask.assumed_reserve

    def kv_bytes(tokens: int) -> int:
        return ask.batch * room.shape.kv_bytes(tokens, ask.kv_format)

    return max(0, bisect_right(range(LONGEST + 1), left, key=kv_bytes) - 1)
