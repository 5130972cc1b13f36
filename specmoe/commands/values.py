"""What options mean: sizes, choices, name=value pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.errors import InputError, hint

if TYPE_CHECKING:
    from specmoe.sim.config import Home

LINKS, TIERS, HOSTS = ("fifo", "priority", "chunked"), ("host-pinned", "host-pageable", "nvme"), ("graph", "eager")


def home_of(tier: str, held: str | None, compressed_slots: int) -> Home:
    """Where experts live; raises InputError for an unknown tier and for compressed slots without a format of theirs."""
    from specmoe.sim.config import Home

    if compressed_slots < 0 or (compressed_slots and held is None):
        raise InputError(f"--compressed-slots {compressed_slots}: 0, or more together with --home-format, expected")
    return Home(choice("tier", tier, TIERS), _format(held), compressed_slots)


def _format(name: str | None) -> Any:
    from specmoe.hwprofiles.shape import FORMATS

    return None if name is None else choice("home-format", name, FORMATS)


def parse_bytes(option: str, text: str) -> int:
    """8GiB, 500 MB; raises InputError."""
    from specmoe.units import quantity

    return int(quantity(f"--{option} {text}", option.upper(), text, "B"))


def parse_override(pair: str) -> tuple[str, Any]:
    """name=value: text for a profile's number, which has a unit; else a number, true, false, or text.

    Raises InputError.
    """
    from specmoe.hwprofiles.quantity import QUANTITIES
    from specmoe.units import scalar

    name, equals, text = pair.partition("=")
    if not equals or not name:
        raise InputError(f"--set {pair}: name=value expected")
    return name, text if name in QUANTITIES else scalar(text)


def several(texts: list[str] | None) -> list[str]:
    """The values of an option that may be repeated, and may name several with commas; a file's name may have commas."""
    return [part for text in texts or () for part in ([text] if _is_there(text) else text.split(","))]


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # longer than any path
        return False


def choice(name: str, value: str, known: tuple[str, ...]) -> Any:
    """One of the known values; raises InputError."""
    if value not in known:
        raise InputError(f"--{name} {value}: {hint(value, known)}")
    return value
