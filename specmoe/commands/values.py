"""What options mean: sizes, choices, name=value pairs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.errors import InputError

if TYPE_CHECKING:
    from specmoe.sim.timing.durations import Home

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def home_of(tier: str, held: str | None, compressed_slots: int) -> Home:
    """Where experts live; raises InputError for an unknown tier and for compressed slots without a format of theirs."""
    from specmoe.sim.timing.durations import Home

    if compressed_slots < 0 or (compressed_slots and held is None):
        raise InputError(f"--compressed-slots {compressed_slots}: 0, or more together with --home-format, expected")
    return Home(choice("tier", tier, ("host-pinned", "host-pageable", "nvme")), _format(held), compressed_slots)


def _format(name: str | None) -> Any:
    from specmoe.hwprofiles.formats import FORMATS

    return None if name is None else choice("home-format", name, FORMATS)


def parse_bytes(text: str) -> int:
    """8GiB, 500 MB, 1000000; raises InputError."""
    found = re.fullmatch(r"\s*([0-9.]+)\s*(|[kmg]i?)b?\s*", text.lower())
    try:
        assert found is not None
        return int(float(found[1]) * UNITS[found[2]])
    except (AssertionError, ValueError):
        raise InputError(f"{text}: a number of bytes such as 8GiB or 500MB expected") from None


def parse_override(pair: str) -> tuple[str, Any]:
    """name=value; a number where it is one, true, false, or text; raises InputError."""
    name, equals, text = pair.partition("=")
    if not equals or not name:
        raise InputError(f"--set {pair}: name=value expected")
    if text in ("true", "false"):
        return name, text == "true"
    for number in (int, float):
        try:
            return name, number(text)
        except ValueError:
            continue
    return name, text


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
        raise InputError(f"--{name} {value}: one of {', '.join(known)} expected")
    return value
