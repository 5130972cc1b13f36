"""Which runs are replayed: cells, and the grids of them that come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from specmoe.hwprofiles.formats import Format
from specmoe.hwprofiles.shape import Phase

Role = Literal["fit", "held_out"]


@dataclass(frozen=True)
class Group:
    """What cells share that run on one arena: a model, its formats, a phase and a batch."""

    shape: str
    phase: Phase
    format: Format
    home_format: Format | None  # None: that of the slots
    batch: int
    steps: int

    @property
    def name(self) -> str:
        """`switch-base-128/decode/fp16/b1`; a format at home of its own comes before that of the slots: int8>fp16."""
        held = self.format if self.home_format is None else f"{self.home_format}>{self.format}"
        return f"{self.shape}/{self.phase}/{held}/b{self.batch}"


@dataclass(frozen=True)
class Cell:
    """One policy on one number of slots. Constants may be fitted on cells of role `fit`, and are judged on others."""

    group: Group
    policy: str
    slots: int
    role: Role

    @property
    def name(self) -> str:
        """`switch-base-128/decode/fp16/b1/lookahead/154`."""
        return f"{self.group.name}/{self.policy}/{self.slots}"
