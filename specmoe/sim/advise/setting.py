"""A question with everything looked up: the model, the machine, the routing, and how many experts fit."""

from __future__ import annotations

from typing import NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles.formats import Format
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import ModelShape
from specmoe.sim.advise.question import Question
from specmoe.sim.advise.routings import Routings
from specmoe.sim.demo import DECODER_SHARE
from specmoe.sim.memory import Room
from specmoe.sim.timing.durations import Home
from specmoe.traces.schema import Phase

FILLED = 12  # demands for each slot, so that what it takes to fill them hardly counts
FEWEST_DEMANDS, FEWEST_STEPS = 6_000, 60  # that a mean rests on


class Setting(NamedTuple):
    """`routings` are of the trace's phase, and of as many layers and experts as the shape has in it."""

    question: Question
    shape: ModelShape
    profile: HardwareProfile
    routings: Routings

    @property
    def phase(self) -> Phase:
        """What the trace is of."""
        return self.routings.meta.phase

    @property
    def formats(self) -> tuple[Format, ...]:
        """That experts may be held in."""
        return self.question.formats or (self.shape.format,)

    @property
    def keys(self) -> int:
        """Experts of the stack that runs."""
        return self.shape.stack(self.phase).moe_layers * self.shape.experts.number

    @property
    def share(self) -> float:
        """Of the VRAM that is left for experts, what the stack that runs may take."""
        return 1.0 if self.shape.encoder is None else DECODER_SHARE

    def room(self, held: Format, home: Format | None = None) -> Room:
        """What the model takes with its experts in a format."""
        return Room(self.shape, held, Home(format=home))

    def slots(self, held: Format, vram: int) -> int:
        """Experts that fit beside what stays, at most all; 0 if none does."""
        room = self.room(held)
        left = max(0, vram - room.dense_bytes)
        return min(self.keys, int(left * self.share) // room.expert_bytes)

    def holds_all(self, held: Format, vram: int) -> bool:
        """Whether the whole model fits."""
        return self.whole_bytes(held) <= vram

    def whole_bytes(self, held: Format) -> int:
        """The whole model."""
        return self.room(held).with_slots(self.shape.routed_experts)

    def least_bytes(self, held: Format) -> int:
        """VRAM in which one expert fits."""
        room = self.room(held)
        return room.dense_bytes + int(room.expert_bytes / self.share)

    @property
    def steps(self) -> int:
        """How many to simulate with the batch of the question."""
        if self.question.steps is not None:
            return self.question.steps
        slots = max(self.slots(held, self.question.vram) for held in self.formats)
        demands = max(FEWEST_DEMANDS, FILLED * slots)
        meta = self.routings.meta
        of_a_layer = meta.num_experts if meta.phase == "encode" else meta.top_k * self.question.batch
        of_a_step = meta.num_layers * of_a_layer  # at most: encoding, tokens may want every expert
        return max(FEWEST_STEPS, -(-demands // of_a_step))

    def steps_of(self, batch: int) -> int:
        """Those with about as many tokens in another batch."""
        return max(1, self.steps * self.question.batch // batch)

    def require_room(self) -> None:
        """Raises InputError, naming what would do, unless some expert fits in some format that is allowed."""
        if not any(self.slots(held, self.question.vram) for held in self.formats):
            needed = ", ".join(f"{gib(self.least_bytes(held))} in {held}" for held in self.formats)
            raise InputError(
                f"--vram {gib(self.question.vram)}: no expert of {self.shape.name} fits beside its other weights: at "
                f"least {needed} expected (--format allows others)"
            )


def gib(size: float) -> str:
    """Bytes for people, rounded up to a tenth of a GiB so that what is said to be enough is enough."""
    tenths = -int(-size * 10 // (1 << 30))
    return f"{tenths / 10:.0f} GiB" if tenths % 10 == 0 else f"{tenths / 10:.1f} GiB"
