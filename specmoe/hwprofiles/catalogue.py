"""Machines and model shapes by name, bundled or the path of a TOML file; a machine is made of a device and a host.

A machine is named by its device, which stands in its usual host, or by both: `rtx3090+laptop-x8`. `quantity.OWNERS`
says whose each quantity is. Both limit the link: a machine has the lower generation and the smaller number of lanes,
and of each kind of pinned copy all numbers of the slower of the two, by the bandwidth of large copies; those of the
device if it is as fast. Pageable copies are the host's, and no faster than pinned ones.

Numbers that were measured together with another device are derived in a new machine, and those that were fitted on
whole runs of another machine are assumed; its calibration is gone.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.profile import HardwareProfile, Host, plateau_of
from specmoe.hwprofiles.profile_file import read_host, read_profile
from specmoe.hwprofiles.quantity import CONTENTION, INTERFERENCE, LINKS, POINTS, QUANTITIES, Quantity, Source, owner_of
from specmoe.hwprofiles.shape import ModelShape
from specmoe.hwprofiles.shape_file import read_shape

Number = TypeVar("Number", Quantity, Points)
PAGEABLE, PINNED = "host_to_device.pageable", "host_to_device.pinned"
BUILT = ("link.generation", "link.lanes")
MOVED_NOTE = "its fitted numbers are of another host, so the machine as a whole was not measured"
GUEST_NOTE = "its host was measured with another device"
ELSEWHERE: dict[Source, Source] = {"measured": "derived", "derived": "assumed"}  # of numbers of another machine
SUFFIX = ".toml"
BESIDE = "+"  # between a device and its host


def profile_names() -> tuple[str, ...]:
    """Sorted names of the bundled profiles."""
    return _names("profiles")


def shape_names() -> tuple[str, ...]:
    """Sorted names of the bundled model shapes."""
    return _names("shapes")


def host_names() -> tuple[str, ...]:
    """Sorted names of the bundled hosts."""
    return _names("hosts")


def load_host(name: str) -> Host:
    """Load a bundled host by name, or a .toml file by path; raises InputError if there is none or it is invalid."""
    return read_host(_find("hosts", "host", name))


def machine_name(device: str, host: str | None) -> str:
    """Name of a device in a host, or in its usual one if there is no other."""
    return device if host is None else f"{device}{BESIDE}{host}"


def load_profile(name: str) -> HardwareProfile:
    """Load a machine: a bundled profile by name or a .toml file by path, each with `+` and a host or without.

    Raises InputError if there is no such device or host, or if it is invalid.
    """
    device, host = _parts(name)
    profile = read_profile(_find("profiles", "profile", device))
    host = host or profile.usual_host
    return profile if host is None else paired(profile, load_host(host))


def _parts(name: str) -> tuple[str, str | None]:
    """Device and host of a machine's name; a file may have any name."""
    device, beside, host = name.rpartition(BESIDE)
    return (name, None) if not beside or Path(name).exists() else (device, host)


def load_shape(name: str) -> ModelShape:
    """Load a bundled shape by name, or a .toml file by path; raises InputError if there is none or it is invalid."""
    path = _find("shapes", "model shape", name)
    return _bundled_shape(path) if path.parent == _directory("shapes") else read_shape(path)


_bundled_shape = cache(read_shape)  # files of others may change


def is_of_model(shape: str, model: str) -> bool:
    """Whether a model's id names a shape: `openai/gpt-oss-20b` and `gpt-oss-20b-bf16` name gpt-oss-20b."""
    own, name = model.rsplit("/", 1)[-1].lower(), shape.lower()
    return own == name or own.startswith(f"{name}-")


def shape_of_model(model: str) -> str | None:
    """The shipped shape that a model's id names, the longest name of several; None if it names none."""
    return max((name for name in shape_names() if is_of_model(name, model)), key=len, default=None)


@cache
def _directory(kind: str) -> Path:
    return Path(str(files("specmoe.hwprofiles") / kind))


def _names(kind: str) -> tuple[str, ...]:
    return _names_in(_directory(kind))


@cache
def _names_in(directory: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in directory.glob(f"*{SUFFIX}")))


def _find(kind: str, what: str, name: str) -> Path:
    if name in _names(kind):
        return _directory(kind) / f"{name}{SUFFIX}"
    if name.endswith(SUFFIX):
        return Path(name)
    raise InputError(f"{name}: no such {what}, nor a {SUFFIX} file: {hint(name, _names(kind))}")


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
