"""Lookup of profiles, hosts and model shapes: bundled ones by name, others by the path of a TOML file.

A machine is named by its device, which stands in its usual host, or by both: `rtx3090+laptop-x8`.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.machines import Host, paired
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.profile_file import read_host, read_profile
from specmoe.hwprofiles.shape import ModelShape
from specmoe.hwprofiles.shape_file import read_shape

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
    return tuple(sorted(path.stem for path in _directory(kind).glob(f"*{SUFFIX}")))


def _find(kind: str, what: str, name: str) -> Path:
    if name in _names(kind):
        return _directory(kind) / f"{name}{SUFFIX}"
    if name.endswith(SUFFIX):
        return Path(name)
    raise InputError(f"{name}: no such {what}, nor a {SUFFIX} file: {hint(name, _names(kind))}")
