"""What the figures of a validation show: cells, measured and simulated, in the order in which they are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol, TypeVar

from specmoe.errors import InputError

HELD_OUT = "held_out"


class GroupLike(Protocol):
    """Cells that differ in policy and slots only."""

    @property
    def name(self) -> str:
        """Model, phase, format and batch."""


class CellLike(Protocol):
    """What was run."""

    @property
    def group(self) -> GroupLike:
        """With what."""

    @property
    def policy(self) -> str:
        """By its name."""

    @property
    def slots(self) -> int:
        """In VRAM."""

    @property
    def role(self) -> str:
        """`fit`, or `held_out`: nothing was fitted on it."""


class SideLike(Protocol):
    """Mean of a step and its parts, ns."""

    @property
    def mean_ns(self) -> float:
        """The sum of the parts."""

    @property
    def compute_ns(self) -> float:
        """The compute stream works."""

    @property
    def stall_ns(self) -> float:
        """It waits for loads."""

    @property
    def host_ns(self) -> float:
        """It waits for the host thread."""


class Judged(Protocol):
    """One cell and how it came out."""

    @property
    def cell(self) -> CellLike:
        """What was run."""

    @property
    def repeats(self) -> int:
        """How often it was measured."""

    @property
    def measured(self) -> SideLike:
        """On the device."""

    @property
    def simulated(self) -> SideLike:
        """By the simulator."""

    @property
    def error(self) -> float:
        """Of the mean step: simulated / measured - 1."""

    @property
    def spread(self) -> float:
        """Largest minus smallest mean of the repeats, as a share of the median."""


AnyCell = TypeVar("AnyCell", bound=Judged)


class About(NamedTuple):
    """What the captions say of a validation."""

    device: str
    profile: str
    evidence: str
    semantics: str


def caption(cells: Sequence[Judged], about: About) -> str:
    """On what, with what and how often; raises InputError if there is no cell."""
    if not cells:
        raise InputError("no cells: there is nothing to draw")
    held_out = sum(held(cell) for cell in cells)
    repeats = " to ".join(str(count) for count in sorted({cell.repeats for cell in cells}))
    return (
        f"Device: {about.device}. Profile: {about.profile} (evidence: {about.evidence}); replay {about.semantics}.\n"
        f"{held_out} cells held out, {len(cells) - held_out} fitted on; each measured {repeats} times."
    )


def held(cell: Judged) -> bool:
    """Whether nothing was fitted on it."""
    return cell.cell.role == HELD_OUT


def label(cell: Judged) -> str:
    """Of a row among those of its group."""
    return f"{cell.cell.policy}, {cell.cell.slots}"


def grouped(cells: Sequence[AnyCell]) -> dict[str, list[AnyCell]]:
    """Cells by the name of their group, groups by name, in each the largest error first; ties by label."""
    order = sorted(cells, key=lambda cell: (cell.cell.group.name, -cell.error, label(cell)))
    return {name: list(found) for name, found in groupby(order, key=lambda cell: cell.cell.group.name)}


def laid_out(cells: Sequence[AnyCell]) -> Iterator[tuple[int, str, AnyCell | None]]:
    """Rows of a figure from its top: a heading for each group, which has no cell, and below it its cells."""
    row = 0
    for name, found in grouped(cells).items():
        for text, cell in [(name, None), *((label(each), each) for each in found)]:
            yield row, text, cell
            row += 1
