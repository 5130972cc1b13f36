"""Lookup of profiles, hosts and model shapes: bundled ones by name, others by the path of a TOML file.

A machine is named by its device, which stands in its usual host, or by both: `rtx3090+laptop-x8`. A machine that nobody
measured gets the numbers of its spec sheet, and those of a similar machine for all others.
"""

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.curves import Points
from specmoe.hwprofiles.machines import Host, paired
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.profile_file import missing_fields, read_host, read_profile
from specmoe.hwprofiles.quantity import POINTS, QUANTITIES, SHARES, Quantity
from specmoe.hwprofiles.shape import ModelShape
from specmoe.hwprofiles.shape_file import read_shape
from specmoe.units import WHOLE

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
    return read_shape(_find("shapes", "model shape", name))


def is_of_model(shape: str, model: str) -> bool:
    """Whether a model's id names a shape: `openai/gpt-oss-20b` and `gpt-oss-20b-bf16` name gpt-oss-20b."""
    own, name = model.rsplit("/", 1)[-1].lower(), shape.lower()
    return own == name or own.startswith(f"{name}-")


def shape_of_model(model: str) -> str | None:
    """The shipped shape that a model's id names, the longest name of several; None if it names none."""
    return max((name for name in shape_names() if is_of_model(name, model)), key=len, default=None)


def _directory(kind: str) -> Path:
    return Path(str(files("specmoe.hwprofiles") / kind))


def _names(kind: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _directory(kind).glob(f"*{SUFFIX}")))


def _find(kind: str, what: str, name: str) -> Path:
    if name in _names(kind):
        return _directory(kind) / f"{name}{SUFFIX}"
    if name.endswith(SUFFIX):
        return Path(name)
    raise InputError(f"{name}: no such {what}, nor a {SUFFIX} file: {hint(name, _names(kind))}")


Number = TypeVar("Number", Quantity, Points)
UNREFERENCED = "given without a reference"


def from_spec_sheet(
    name: str, title: str, values: Mapping[str, float], ref: str | None = None, base: HardwareProfile | None = None
) -> HardwareProfile:
    """Profile of values in base units, published as `ref` says, else assumed; all others are the base's, and assumed.

    Measured curves of whole experts and dense parts are not taken over. Raises InputError for an unknown name, and, in
    one line, for all names that are missing if there is no base.
    """
    for one in values:
        if one not in QUANTITIES:
            raise InputError(f"--set {one}: no such quantity: {hint(one, QUANTITIES)}")
    given = {one: _given(one, value, ref) for one, value in values.items()}
    taken = {} if base is None else {one: _taken(quantity, base) for one, quantity in base.quantities.items()}
    points = {} if base is None else {one: _taken(curve, base) for one, curve in base.points.items() if _acts(one)}
    replaced = {f"{one.rpartition('.')[0]}.points" for one in values if one.endswith((".bandwidth", ".rate"))}
    both = {**taken, **given}
    profile = HardwareProfile(
        name,
        title,
        {one: both[one] for one in QUANTITIES if one in both},
        {one: curve for one, curve in points.items() if one not in replaced},
    )
    missing = missing_fields(profile.quantities, profile.points)
    if missing:
        raise InputError(f"{len(missing)} fields missing: {', '.join(missing)}: --set each, or name a --base")
    return profile


def _given(name: str, value: float, ref: str | None) -> Quantity:
    unit = QUANTITIES[name]
    if name.endswith(SHARES) and value > 1:
        raise InputError(f"--set {name}={value}: a share, at most 1, expected")
    whole = round(value) if unit in WHOLE else value
    return Quantity(whole, unit, "assumed" if ref is None else "published", ref or UNREFERENCED)


def _taken(number: Number, base: HardwareProfile) -> Number:
    return replace(number, source="assumed", ref=f"not given: that of {base.name}: {number.ref}")


def _acts(name: str) -> bool:
    """Whether points replace a rate, instead of being there for comparison."""
    return name in POINTS and name.endswith((".points", ".by_threads"))
