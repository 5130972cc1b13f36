"""What is asked."""

from __future__ import annotations

from dataclasses import dataclass

from specmoe.hwprofiles.formats import Format


@dataclass(frozen=True)
class Question:
    """Names are those of `RunSpec`; `vram` is bytes for all weights.

    `formats` are those that experts may be held in, the shape's own unless told; `home_formats` those that they may be
    kept in at home besides. `steps` is how many are simulated, enough to fill the slots many times unless told.
    `target` is in tokens a second.
    """

    shape: str
    profile: str
    vram: int
    trace: str | None = None
    train: str | None = None
    batch: int = 1
    target: float | None = None
    formats: tuple[Format, ...] = ()
    home_formats: tuple[Format, ...] = ()
    steps: int | None = None
