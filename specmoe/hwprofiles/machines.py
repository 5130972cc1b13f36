"""Machines made of a device and a host: what each brings, and what becomes of fits when a fitted device moves.

    profile = paired(read_profile(path), read_host(other))

`quantity.OWNERS` says whose each quantity is. Both limit the link: a machine has the lower generation and the smaller
number of lanes, and of each kind of pinned copy all numbers of the slower of the two, by the bandwidth of large copies;
those of the device if it is as fast. Pageable copies are the host's, and no faster than pinned ones.

Numbers that were measured together with another device are derived in a new machine, and those that were fitted on
whole runs of another machine are assumed; its calibration is gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.profile import CpuCurve, Fact, HardwareProfile, plateau_of
from specmoe.hwprofiles.quantity import (
    CONTENTION,
    INTERFERENCE,
    LINKS,
    POINTS,
    QUANTITIES,
    Quantity,
    Source,
    owner_of,
)

Number = TypeVar("Number", Quantity, Points)
PAGEABLE, PINNED = "host_to_device.pageable", "host_to_device.pinned"
BUILT = ("link.generation", "link.lanes")
MOVED_NOTE = "its fitted numbers are of another host, so the machine as a whole was not measured"
GUEST_NOTE = "its host was measured with another device"
ELSEWHERE: dict[Source, Source] = {"measured": "derived", "derived": "assumed"}  # of numbers of another machine


@dataclass(frozen=True)
class Host:
    """Everything of a machine except its device: link, memory, CPU, launches and waits, disk."""

    name: str
    title: str
    quantities: Mapping[str, Quantity]
    points: Mapping[str, Points]
    cpu_curves: tuple[CpuCurve, ...] = ()
    machine: Mapping[str, Fact] = field(default_factory=dict)
    measured_with: str | None = None  # the device that its numbers were measured or fitted with


def paired(device: HardwareProfile, host: Host) -> HardwareProfile:
    """The machine of a device and a host; a device with a host of its own gives up that host's numbers."""
    usual = host.name == device.usual_host
    device = device if usual else _moved(device)
    guest = host.measured_with not in (None, device.name)
    host = _measured_elsewhere(host) if guest else host
    links = [_slower(copy, device, host) for copy in LINKS]
    quantities = {
        **_own(device.quantities, "device"),
        **_own(host.quantities, "host"),
        **{name: _lower(device.quantities[name], host.quantities[name]) for name in BUILT},
        **{name: quantity for part in (host, device) for name, quantity in _under(CONTENTION, part.quantities).items()},
        **{name: quantity for quantities, _ in links for name, quantity in quantities.items()},
    }
    points = {
        **_own(device.points, "device"),
        **_own(host.points, "host"),
        **{name: curve for _, curves in links for name, curve in curves.items()},
    }
    machine = replace(
        device,
        name=device.name if usual else f"{device.name}+{host.name}",
        title=device.title if usual else f"{device.title}; {host.title}",
        quantities={name: quantities[name] for name in QUANTITIES if name in quantities},
        points={name: points[name] for name in POINTS if name in points},
        cpu_curves=host.cpu_curves,
        machine={**device.machine, **host.machine},
        usual_host=None,
        host=host.name,
        note=device.note or (GUEST_NOTE if guest else None),
    )
    return _with_pageable_at_most_pinned(machine)


def _moved(device: HardwareProfile) -> HardwareProfile:
    """A device away from the host it was fitted with: such numbers are assumed, and nothing is calibrated."""
    if device.calibration is None and device.fitted_by is None:
        return device
    fitted = [name for name, quantity in device.quantities.items() if quantity.source == "derived"]
    kept = fitted if device.fitted_by else [name for name in fitted if name in (CONTENTION, INTERFERENCE)]
    weaker = {name: _weaker(device.quantities[name], "host") for name in kept}
    return replace(
        device, quantities={**device.quantities, **weaker}, calibration=None, fitted_by=None, note=MOVED_NOTE
    )


def _measured_elsewhere(host: Host) -> Host:
    return replace(
        host,
        quantities={name: _weaker(quantity, "device") for name, quantity in host.quantities.items()},
        points={name: _weaker(points, "device") for name, points in host.points.items()},
    )


def _weaker(number: Number, other: str) -> Number:
    source = ELSEWHERE.get(number.source)
    return number if source is None else replace(number, source=source, ref=f"{number.ref}; with another {other}")


def _lower(one: Quantity, other: Quantity) -> Quantity:
    return one if one.value <= other.value else other


def _own(numbers: Mapping[str, Number], part: str) -> dict[str, Number]:
    return {name: number for name, number in numbers.items() if owner_of(name) == part}


def _under(copy: str, numbers: Mapping[str, Number]) -> dict[str, Number]:
    return {name: number for name, number in numbers.items() if f"{name}.".startswith(f"{copy}.")}


def _slower(copy: str, device: HardwareProfile, host: Host) -> tuple[dict[str, Quantity], dict[str, Points]]:
    """Numbers of a kind of copy, of the part whose large copies are slower; the device's if it has none faster."""
    able = [
        (plateau_of(copy, part.quantities, part.points), _under(copy, part.quantities), _under(copy, part.points))
        for part in (device, host)
        if f"{copy}.latency" in part.quantities
    ]
    _, quantities, points = min(able, key=lambda one: one[0])
    return quantities, points


def _with_pageable_at_most_pinned(machine: HardwareProfile) -> HardwareProfile:
    """A machine whose pageable copies, of a faster host, are no faster than its link."""
    most = machine.plateau(PINNED)
    if machine.plateau(PAGEABLE) <= most:
        return machine
    name = f"{PAGEABLE}.bandwidth"
    limited = Quantity(most, "B/s", "derived", f"as fast as {PINNED}: the host's memory would be faster")
    kept = {known: points for known, points in machine.points.items() if known != f"{PAGEABLE}.points"}
    return replace(machine, quantities={**machine.quantities, name: limited}, points=kept)
