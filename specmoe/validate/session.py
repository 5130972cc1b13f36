"""Replaying cells that share an arena: every cell once to warm up, then all of them in turn, then once more traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from specmoe.hwprofiles.measure.quiet import quiet
from specmoe.validate.device import Device, Work
from specmoe.validate.replayer import Recording, replay

REPEATS = 3


class Replays(NamedTuple):
    """Runs of one work."""

    repeats: list[Recording]
    traced: Recording


def replays_of(
    works: Sequence[Work], device: Device, repeats: int = REPEATS, on_run: Callable[[], object] = lambda: None
) -> list[Replays]:
    """Replay each work `repeats` times, interleaved, so that a slow change of the machine is no cell's own."""

    def once(work: Work, traced: bool = False) -> Recording:
        device.prepare(work)
        with quiet():
            recording = replay(work, device, traced)
        on_run()
        return recording

    for work in works:
        once(work)
    rounds = [[once(work) for work in works] for _ in range(repeats)]
    traced = [once(work, traced=True) for work in works]
    return [Replays(list(runs), last) for *runs, last in zip(*rounds, traced, strict=True)]


def runs_of(works: int, repeats: int = REPEATS) -> int:
    """How many runs `replays_of` makes of so many works."""
    return works * (repeats + 2)
