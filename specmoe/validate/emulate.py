"""Emulation of another machine's slower link on this one: copies are lengthened until they take as long as there.

The time to copy one expert from pinned host memory and the VRAM for slots are emulated. Everything else is that of this
machine: kernels, memory bandwidth, host thread, and delays of the copy engine.
"""

import dataclasses
from collections.abc import Sequence

from specmoe.errors import InputError
from specmoe.hwprofiles.curves import Curve
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.budget import Room
from specmoe.sim.config import ASSUMED_RESERVE
from specmoe.sim.run import Scenario
from specmoe.validate.fit import Resimulation
from specmoe.validate.grid import Cell

LINK = "host_to_device.pinned"
MAX_COPY_BYTES = 1 << 40
NOT_EMULATED = "kernels, memory bandwidth and host costs are this machine's"


def emulated(profile: HardwareProfile, other: HardwareProfile) -> HardwareProfile:
    """Profile of this machine with the pinned link and VRAM of another."""
    mine = {name: value for name, value in profile.quantities.items() if not name.startswith(f"{LINK}.")}
    theirs = {name: value for name, value in other.quantities.items() if name.startswith(f"{LINK}.")}
    points = {name: value for name, value in profile.points.items() if not name.startswith(f"{LINK}.")}
    points |= {name: value for name, value in other.points.items() if name.startswith(f"{LINK}.")}
    quantities = {**mine, **theirs, "device.vram": other.quantities["device.vram"]}
    name = f"{other.name}-on-{profile.name}"
    title = f"{profile.title}, with the link and VRAM of {other.title}"
    return dataclasses.replace(profile, name=name, title=title, quantities=quantities, points=points)


def stretch(profile: HardwareProfile, other: HardwareProfile, expert_bytes: int) -> float:
    """Factor by which an expert's copy must be larger here to take as long as on the other machine.

    Raises InputError if the other link is the faster one, or so slow that a copy of `MAX_COPY_BYTES` here is faster.
    """
    mine, wanted = profile.curve(LINK), other.curve(LINK)(expert_bytes)
    if mine(expert_bytes) > wanted:
        raise InputError(f"{other.name}'s link is faster than {profile.name}'s: it cannot be emulated here")
    if mine(MAX_COPY_BYTES) < wanted:
        raise InputError(
            f"{other.name}'s link cannot be emulated here: an expert's copy takes {wanted / 1e9:.3g} s there"
        )
    return _amount(mine, wanted, expert_bytes) / expert_bytes


def fitting(cells: Sequence[Cell], simulation: Resimulation, other: HardwareProfile) -> list[Cell]:
    """Cells whose slots and dense weights fit into the other machine's VRAM."""
    return [cell for cell in cells if _fits(cell, simulation.scenario(cell.group), int(other["device.vram"]))]


def _fits(cell: Cell, scenario: Scenario, vram: int) -> bool:
    return Room(scenario.shape, scenario.format, scenario.config.home).with_slots(cell.slots) <= vram - ASSUMED_RESERVE


def _amount(curve: Curve, wanted_ns: int, least: int) -> int:
    """Smallest amount from `least` to `MAX_COPY_BYTES` whose copy takes at least `wanted_ns`."""
    most = MAX_COPY_BYTES
    while least < most:
        middle = (least + most) // 2
        least, most = (middle + 1, most) if curve(middle) < wanted_ns else (least, middle)
    return least
