"""One budget of VRAM: weights that stay, the key-value cache of the context, a reserve, and slots for experts."""

from bisect import bisect_right
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.shape import CacheFormat, Format, ModelShape, Phase, bytes_of, compute_format
from specmoe.sim.config import ASSUMED_RESERVE, Home
from specmoe.sim.decide.placement import Sizes
from specmoe.units import shown, whole

GIB = 1 << 30
LONGEST = 10**8  # tokens of a context
CROSS_CONTEXT = 256  # encoder positions that a decoder attends to, which a decode trace does not contain


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
        """Size of a slot: one expert in its format, the mean of all layers."""
        return self.shape.expert_bytes(self.format)

    @property
    def sizes(self) -> Sizes:
        """Size of an expert of each MoE layer of all stacks, in its format."""
        layers = range(self.shape.moe_layers)
        of_layers = tuple(self.shape.expert_bytes(self.format, layer) for layer in layers)
        return Sizes(of_layers, self.shape.experts.number)

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
        return self.dense_bytes + self.compressed_bytes + self.sizes.bytes_of(slots)


@dataclass(frozen=True)
class Ask:
    """What VRAM is to hold: a context of `context` tokens for each of `batch` sequences; sizes in bytes.

    `assumed_reserve` is left to the runtime: its own memory, and activations.
    """

    vram: int
    context: int
    batch: int = 1
    kv_format: CacheFormat = "f16"
    assumed_reserve: int = ASSUMED_RESERVE


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
    slot_bytes: int

    @property
    def fits(self) -> bool:
        """Whether every routed expert has a slot."""
        return self.slots == self.experts

    @property
    def free_bytes(self) -> int:
        """Bytes that nothing uses."""
        return self.vram_bytes - self.dense_bytes - self.kv_bytes - self.assumed_reserve_bytes - self.slot_bytes

    def as_dict(self) -> dict[str, Any]:
        """All lines, by name."""
        return asdict(self) | {"free_bytes": self.free_bytes, "fits": self.fits}


def budget(room: Room, ask: Ask) -> Budget:
    """The budget of a model in VRAM; raises InputError, which says how long a context fits, if no slot is left."""
    slots = fitting(room, ask)
    if slots < 1:
        longest, least = longest_fitting(room, ask), -(-least_vram(room, ask) * 100 // GIB) / 100
        most = f"at most --context {longest} fits" if longest else f"at least {least:.2f} GiB expected"
        raise InputError(f"--context {ask.context} leaves no expert slot in {ask.vram / GIB:.2f} GiB of VRAM: {most}")
    return lines(room, ask, min(slots, room.shape.routed_experts))


def lines(room: Room, ask: Ask, slots: int) -> Budget:
    """The lines of a budget with a number of slots, even if VRAM cannot hold them: `free_bytes` is then negative."""
    return Budget(
        vram_bytes=ask.vram,
        dense_bytes=room.with_slots(0),
        kv_bytes=kv_bytes(room, ask),
        assumed_reserve_bytes=ask.assumed_reserve,
        expert_bytes=room.expert_bytes,
        slots=slots,
        experts=room.shape.routed_experts,
        longest_context=longest_fitting(room, ask),
        slot_bytes=room.sizes.bytes_of(slots),
    )


def kv_bytes(room: Room, ask: Ask) -> int:
    """Bytes of the key-value caches of all sequences."""
    return ask.batch * room.shape.kv_bytes(ask.context, ask.kv_format)


def fitting(room: Room, ask: Ask) -> int:
    """Number of slots that VRAM has room for, for experts of all stacks; 0 if there is none for one."""
    return room.sizes.most(ask.vram - room.with_slots(0) - ask.assumed_reserve - kv_bytes(room, ask))


def least_vram(room: Room, ask: Ask) -> int:
    """Bytes of VRAM that leave one slot."""
    return room.with_slots(1) + ask.assumed_reserve + kv_bytes(room, ask)


def tokens_of(name: str, text: str | int) -> int:
    """Tokens of a context: 4096, or 32k for 32 x 1024; raises InputError that begins with the name."""
    digits = str(text).lower()
    number = digits.removesuffix("k")
    if not number.isdecimal():
        raise InputError(f"{name}: a number of tokens such as 4096 or 32k expected")
    return whole(name, int(number) * (1024 if number != digits else 1), 1, LONGEST)


def longest_context(shape: ModelShape, phase: Phase, longest: int) -> int:
    """Tokens of the longest context of a trace whose longest sequence has `longest`."""
    return max(longest, CROSS_CONTEXT) if shape.encoder and phase == "decode" else longest


def words(found: Budget, ask: Ask) -> str:
    """The lines of a budget in words."""
    each = f"{ask.batch} x " if ask.batch > 1 else ""
    parts = {
        "weights that stay": found.dense_bytes,
        f"KV cache of {each}{ask.context:,} tokens in {ask.kv_format}": found.kv_bytes,
        "reserve (assumed)": found.assumed_reserve_bytes,
        f"in {found.slots:,} slots": found.slot_bytes,
        "unused": found.free_bytes,
    }
    each_line = ", ".join(f"{' '.join(shown(size, 'B'))} {what}" for what, size in parts.items())
    return f"VRAM {' '.join(shown(found.vram_bytes, 'B'))}: {each_line}"


def slots_of_layers(shape: ModelShape, slots: int, layers: int) -> int:
    """The slots of `layers` MoE layers out of those of the whole model, at least one: every layer has as many."""
    return max(1, slots * layers // shape.moe_layers) if slots > 0 else 0


def longest_fitting(room: Room, ask: Ask) -> int:
    """Tokens of the longest context that leaves a slot; 0 if none does."""
    left = ask.vram - room.with_slots(1) - ask.assumed_reserve

    def kv_bytes(tokens: int) -> int:
        return ask.batch * room.shape.kv_bytes(tokens, ask.kv_format)

    return max(0, bisect_right(range(LONGEST + 1), left, key=kv_bytes) - 1)
