"""Lookup of profiles and model shapes: bundled ones by name, others by the path of a TOML file."""

from importlib.resources import files
from pathlib import Path

from specmoe.errors import InputError, hint
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.profile_file import read_profile
from specmoe.hwprofiles.shape import ModelShape, read_shape

SUFFIX = ".toml"


def profile_names() -> tuple[str, ...]:
    """Sorted names of the bundled profiles."""
    return _names("profiles")


def shape_names() -> tuple[str, ...]:
    """Sorted names of the bundled model shapes."""
    return _names("shapes")


def load_profile(name: str) -> HardwareProfile:
    """Load a bundled profile by name, or a .toml file by path; raises InputError if there is none or it is invalid."""
    return read_profile(_find("profiles", "profile", name))


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
